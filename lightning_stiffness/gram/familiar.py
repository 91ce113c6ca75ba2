"""Calls whose gradients have been held against those of examples alone: after that, their values are compared.

What a rule makes of a call depends on the function and on the shapes and settings that it is called with. Once
that has been proven for all calls of a module, gradient by gradient, another measurement with the same calls
compares what can be otherwise then: of two examples alone, the inputs and output gradients of every use. The
gradients follow from these. They are as large as the parameters, and the values only as the activations.
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

Pairs = list[tuple[Tensor, Tensor]]
"""Values of an example in a batch, and alone."""

_proven: OrderedDict[Hashable, None] = OrderedDict()
_lock = threading.Lock()


class Unnameable(Exception):
    """An argument that has no name to tell it from others by, as a function."""


def proven(key: Hashable) -> bool:
    """Whether these calls were proven before."""
    with _lock:
        if key not in _proven:
            return False
        _proven.move_to_end(key)
        return True


def prove(key: Hashable) -> None:
    """Remember that these calls gave the gradients that examples alone have."""
    with _lock:
        _proven[key] = None
        _proven.move_to_end(key)
        while len(_proven) > MOST:
            _proven.popitem(last=False)


def forget() -> None:
    """Take nothing for proven any more."""
    with _lock:
        _proven.clear()


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


def agree(companions: Sequence[tuple[Reference, int]], functions: list[Any], uses: list[Use]) -> bool:
    """Whether the values of some examples in a batch are those that they have alone.

    Compared are the inputs of every use and the gradient of its output, each to a quarter of what an inner product
    of gradients may be off by: gradients are linear in both, or nearly so where an input is normalised.

    Args:
        companions: examples by themselves, with the gradients of their calls; and their places in the batch.
        functions: what was called for the batch, in order.
        uses: those of the batch, with gradients.
    """
    pairs: Pairs = []
    with torch.no_grad():
        for alone, place in companions:
            if not _complete(alone, functions):
                return False
            for use in uses:
                found = _pairs(use, place, alone.calls[use.place])
                if found is None:
                    return False
                pairs += found
        return _alike(pairs)


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
        pairs.append((layout.of(many, use.n, place), one))
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
                pairs.append((row, given))
    return pairs


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def _alike(pairs: Pairs) -> bool:
    many, one, bounds = [], [], []
    for of_batch, alone in pairs:
        if of_batch.shape != alone.shape or of_batch.dtype != alone.dtype:
            return False
        if of_batch.dtype in _BOUNDS:
            many.append(of_batch)
            one.append(alone)
            bounds.append(_BOUNDS[of_batch.dtype])
        elif of_batch.is_floating_point() or not torch.equal(of_batch, alone):
            return False
    norms = torch._foreach_norm((*torch._foreach_sub(many, one), *one))
    mixed = len({norm.dtype for norm in norms}) > 1
    numbers = torch.stack([norm.double() for norm in norms] if mixed else list(norms)).tolist()
    count = len(bounds)
    for k, (difference, size, (limit, least, most)) in enumerate(
        zip(numbers[:count], numbers[count:], bounds, strict=True)
    ):
        if not (difference <= limit * size if least < size < most else torch.equal(many[k], one[k])):
            return False
    return True


_BOUNDS = {
    **dict.fromkeys((torch.float32, torch.complex64), (TOLERANCE / 4, 1e-15, 1e15)),
    **dict.fromkeys((torch.float64, torch.complex128), (TOLERANCE_DOUBLE / 4, 1e-150, 1e150)),
}
"""Allowed relative error, and the norms between which it holds: beyond them squares are rounded to
zero or infinite, and values have to be equal."""
