"""Calls whose gradients have been held against those of examples alone: after that, their values are compared.

What a rule makes of a call depends on the function and on the shapes and settings that it is called with. Once
that has been proven for all calls of a module, gradient by gradient, another measurement with the same calls
compares what can be otherwise then: of an example alone, the loss and the inputs and output gradients of every use.
The gradients follow from these. They are as large as the parameters, and the values only as the activations. From
one measurement to the next it is another example, so that in time all have their turn; and two, where Python asked
for a value, as what it does with that may be otherwise for each.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.check import TOLERANCE, TOLERANCE_DOUBLE
from lightning_stiffness.gram.problem import ENDING
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.uses import Operand, Use, flat

MOST = 256
"""Sets of calls that are remembered."""

GOLDEN = (5**0.5 - 1) / 2
"""Steps of this part of a circle come near no earlier place for as long as can be."""

TIE = 0.05
"""Largest difference of an output's gradient, relative to its norm, that choices between equals may make where
all that goes into the uses is the same."""

Pairs = list[tuple[Tensor, Tensor, Use | None]]
"""Values of an example in a batch, and alone; and for a gradient its use."""

_proven: OrderedDict[Hashable, bool] = OrderedDict()
_lock = threading.Lock()
_turns = 0


class Unnameable(Exception):
    """An argument that has no name to tell it from others by, as a function."""


def proven(key: Hashable) -> bool:
    """Whether these calls were proven before; if so, it is the next example's turn afterwards."""
    global _turns
    with _lock:
        if key not in _proven:
            return False
        _proven.move_to_end(key)
        _turns += 1
        return True


def has_ties(key: Hashable) -> bool:
    """Whether these calls are known to decide between equals by rounding."""
    return _proven.get(key, False)


def turn(size: int) -> int:
    """Whose turn it is: one of ``size`` examples, far from those of the last measurements; at first, example 0.

    Example:
        >>> 0 <= turn(500) < 500
        True
    """
    return int(size * (_turns * GOLDEN % 1))


def prove(key: Hashable, *, ties: bool = False) -> None:
    """Remember that these calls gave the gradients that examples alone have.

    Args:
        key: what tells them from others.
        ties: whether they did so in float64 alone, as float32 rounds choices between equals.
    """
    with _lock:
        _proven[key] = ties
        _proven.move_to_end(key)
        while len(_proven) > MOST:
            _proven.popitem(last=False)


def forget() -> None:
    """Take nothing for proven any more."""
    global _turns
    with _lock:
        _proven.clear()
        _turns = 0


def asks_for_values(reference: Reference) -> bool:
    """Whether an example's calls gave values to Python, which may decide by them what to call."""
    return any(call.function in _ASKING for call in reference.calls)


_ASKING: frozenset[Any] = frozenset(
    {
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.__contains__, Tensor.item),
        *(Tensor.tolist, Tensor.numpy, Tensor.equal, Tensor.allclose, Tensor.nonzero, Tensor.unique),
        *(torch.equal, torch.allclose, torch.is_nonzero, torch.nonzero, torch.unique, torch.unique_consecutive),
    }
)


def any_proven() -> bool:
    """Whether there is something to look up."""
    return bool(_proven)


def signature(reference: Reference, names: Mapping[int, str]) -> Hashable:
    """What tells an example's calls from others: functions, the graph's nodes, shapes, types, settings, parameters.

    Args:
        reference: the example alone.
        names: identity → name, of the measured parameters.

    Raises:
        Unnameable: if an argument is of a kind that has no name of its own.
    """
    if not reference.saved_as_usual or any(call.function == _NODE for call in reference.calls):
        raise Unnameable
    calls = [(call.function, _form(call.args, names), _form(call.kwargs, names)) for call in reference.calls]
    return reference.nodes, tuple(calls)


_NODE: Any = Tensor.grad_fn.__get__  # type: ignore[union-attr]
"""The call that gives a tensor's node, to which functions may be hooked that no call shows."""


def _form(node: Any, names: Mapping[int, str]) -> Hashable:
    if isinstance(node, Tensor):
        if node._backward_hooks:  # a function of the user's own: what it makes of a gradient is not known
            raise Unnameable
        return type(node), node.shape, node.dtype, node.device, node.requires_grad, names.get(id(node))
    if isinstance(node, tuple | list):
        return type(node), *[_form(item, names) for item in node]
    if isinstance(node, dict):
        return dict, *((key, _form(item, names)) for key, item in node.items())
    if isinstance(node, slice):
        return slice, *(_form(item, names) for item in (node.start, node.stop, node.step))
    if node is None or node is Ellipsis or isinstance(node, _NAMED):
        return type(node), node
    raise Unnameable


_NAMED = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type)


def agree(
    companions: Sequence[tuple[Reference, int]], functions: list[Any], uses: list[Use], losses: Tensor, ties: bool
) -> set[str] | None:
    """Whether the values of some examples in a batch are those that they have alone.

    Compared are the loss, the inputs of every use and the gradient of its output, each to a quarter of what an
    inner product of gradients may be off by: they are linear in both, or nearly so where an input is normalised.

    Args:
        companions: examples by themselves, with the gradients of their calls; and their places in the batch.
        functions: what was called for the batch, in order.
        uses: those of the batch, with gradients.
        losses: of the batch, one for each example.
        ties: whether gradients in float32 may differ by :data:`TIE`.

    Returns:
        None where they are others; else the parameters whose gradients differ by no more than ties make.
    """
    pairs: Pairs = []
    with torch.no_grad():
        for alone, place in companions:
            if alone.loss is None or not _complete(alone, functions):
                return None
            pairs.append((losses[place].reshape(()), alone.loss, None))
            for use in uses:
                found = _pairs(use, place, alone.calls[use.place])
                if found is None:
                    return None
                pairs += found
        return _unlike(pairs, ties)


def _complete(alone: Reference, functions: list[Any]) -> bool:
    """Whether an example alone makes these calls and no more, but for those that check its loss at the end."""
    more = [call.function for call in alone.calls[len(functions) :]]
    return alone.explains(functions) and more == ENDING


def _pairs(use: Use, place: int, call: Call) -> Pairs | None:
    """Gradients and inputs of one use in the batch and alone; None where they cannot be held against each other."""
    pairs: Pairs = []
    for layout, many, output in zip(use.output_layouts, use.gradients, use.output_places, strict=True):
        one = None if call.gradients is None else call.gradients.get(output)
        if one is None or many is None or layout is None:
            return None
        pairs.append((layout.of(many, use.n, place), one, use))
    operands, inputs = [*flat((use.args, use.kwargs))], [*flat((call.args, call.kwargs))]
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


def _unlike(pairs: Pairs, ties: bool) -> set[str] | None:
    """The parameters whose pairs differ by no more than ties make; None where some differ by more."""
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
    norms = torch._foreach_norm((*torch._foreach_sub(many, one), *one))
    mixed = len({norm.dtype for norm in norms}) > 1
    numbers = torch.stack([norm.double() for norm in norms] if mixed else list(norms)).tolist()
    count = len(bounds)
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
