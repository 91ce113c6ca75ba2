"""The values of examples in a batch, held against those that they have alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.check import TOLERANCE, TOLERANCE_DOUBLE
from lightning_stiffness.gram.problem import ENDING
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.uses import Operand, Use, flat

TIE = 0.05
"""Largest difference of an output's gradient, relative to its norm, that choices between equals may make where
all that goes into the uses is the same."""

Pairs = list[tuple[Tensor, Tensor, Use | None]]
"""Values of an example in a batch, and alone; and for a gradient its use."""


def agree(
    companions: Sequence[tuple[Reference, int]],
    functions: list[Any],
    uses: list[Use],
    losses: Tensor | None,
    ties: bool,
    factors: Sequence[float],
    *,
    each_tells: bool = False,
) -> set[str] | None:
    """Whether the values of some examples in a batch are those that they have alone.

    Compared are the loss, the inputs of every use and the gradient of its output, each to a quarter of what an
    inner product of gradients may be off by: they are linear in both, or nearly so where an input is normalised.

    Args:
        companions: examples by themselves, with the gradients of their calls; and their places in the batch.
        functions: what was called for the batch, in order.
        uses: those of the batch, with gradients.
        losses: of the batch, one for each example; None where it has one number.
        ties: whether gradients in float32 may differ by :data:`TIE`.
        factors: gradient of that number by each companion's loss.
        each_tells: whether no use is to have a gradient of zero, which says nothing of it.

    Returns:
        None where they are others, or one has no gradient other than zero; else the parameters
        whose gradients differ by no more than ties make.
    """
    tied: set[str] = set()
    each = None if losses is None else losses.flatten()
    with torch.no_grad():
        for (alone, place), factor in zip(companions, factors, strict=True):
            if alone.loss is None or not _complete(alone, functions):
                return None
            own: Pairs = []
            for use in uses:
                found = _pairs(use, place, alone.calls[use.place])
                if found is None:
                    return None
                own += found
            if factor != 1:
                own = _scaled(own, factor)
            if each is not None:
                own.append((each[place], alone.loss, None))
            differing = _unlike(own, ties, each_tells)
            if differing is None:
                return None
            tied |= differing
    return tied


def _complete(alone: Reference, functions: list[Any]) -> bool:
    """Whether an example alone makes these calls and no more, but for those that check its loss at the end."""
    more = [call.function for call in alone.calls[len(functions) :]]
    return alone.explains(functions) and more == ENDING


def _scaled(pairs: Pairs, factor: float) -> Pairs:
    """The same with the gradients alone times a factor."""
    own = [alone for _, alone, use in pairs if use is not None]
    gradients = iter(torch._foreach_mul(own, factor) if own else ())  # which takes no empty list
    return [(many, alone if use is None else next(gradients), use) for many, alone, use in pairs]


def _pairs(use: Use, place: int, call: Call) -> Pairs | None:
    """Gradients and inputs of one use in the batch and alone; None where they cannot be held against each other."""
    pairs: Pairs = []
    for layout, many, output in zip(use.output_layouts, use.gradients, use.output_places, strict=True):
        one = None if call.gradients is None else call.gradients.get(output)
        if one is None and many is None:  # an output that nothing came of
            continue
        if one is None or many is None or layout is None:
            return None
        pairs.append((layout.of(many, use.n, place), one, use))
    operands, inputs = flat((use.args, use.kwargs)), flat((call.args, call.kwargs))
    if len(operands) != len(inputs) or [*use.kwargs] != [*call.kwargs]:
        return None
    for operand, given in zip(operands, inputs, strict=True):
        if isinstance(operand, Operand) != isinstance(given, Tensor):
            return None
        if isinstance(operand, Operand) and operand.value is not None and operand.pure is None:
            value, layout = operand.value, operand.layout
            row = value if layout is None else layout.of(value, use.n, place)
            if not _same_memory(row, given):  # as what the batch itself holds is
                pairs.append((row, given, None))
    return pairs


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def _unlike(pairs: Pairs, ties: bool, each_tells: bool) -> set[str] | None:
    """The parameters whose pairs differ by no more than ties make; None where some differ by more, or gradients are
    zero: all of them, or one if each is to tell."""
    many, one, bounds, uses = [], [], [], []
    for of_batch, alone, use in pairs:
        if of_batch.shape != alone.shape or of_batch.dtype != alone.dtype:
            return None
        if of_batch.dtype in _BOUNDS:
            many.append(of_batch)
            one.append(alone)
            bounds.append(_BOUNDS[of_batch.dtype])
            uses.append(use)
        elif of_batch.is_floating_point() or not torch.equal(of_batch, alone):
            return None
    if not any(use is not None for use in uses):
        return None
    norms = torch._foreach_norm((*torch._foreach_sub(many, one), *one))
    mixed = len({norm.dtype for norm in norms}) > 1
    numbers = torch.stack([norm.double() for norm in norms] if mixed else list(norms)).tolist()
    count = len(bounds)
    telling = [size != 0 for size, use in zip(numbers[count:], uses, strict=True) if use is not None]
    if not (all(telling) if each_tells else any(telling)):
        return None
    found: set[str] = set()
    for k, (difference, size, (limit, least, most)) in enumerate(
        zip(numbers[:count], numbers[count:], bounds, strict=True)
    ):
        if difference <= limit * size if least < size < most else torch.equal(many[k], one[k]):
            continue
        use = uses[k]
        if use is None or not ties or one[k].dtype != torch.float32 or not difference <= TIE * size < most:
            return None
        found |= use.roots
    return found


_BOUNDS = {
    **dict.fromkeys((torch.float32, torch.complex64), (TOLERANCE / 4, 1e-15, 1e15)),
    **dict.fromkeys((torch.float64, torch.complex128), (TOLERANCE_DOUBLE / 4, 1e-150, 1e150)),
}
"""Allowed relative error, and the norms between which it holds: beyond them squares are rounded to
zero or infinite, and values have to be equal."""
