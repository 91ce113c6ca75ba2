"""What tells calls from others, by which what was found out about them is remembered."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import NODE
from lightning_stiffness.gram.digest import digest
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Reference


class Unnameable(Exception):
    """An argument that has no name to tell it from others by, as a function."""


class Name:
    """What tells calls from others, hashed once: it is looked up many times, and a tuple is gone through each time.

    Args:
        parts: of which it consists.
    """

    __slots__ = ("_hash", "parts")

    def __init__(self, parts: Hashable):
        self.parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Name):
            return NotImplemented
        return self is other or (self._hash == other._hash and self.parts == other.parts)


class Naming:
    """Names the calls of the examples of one measurement.

    Args:
        problem: module and loss.
        every: all examples.
        setting: whatever else a measurement's way to its result depends on.
    """

    def __init__(self, problem: Problem, every: Examples, setting: Hashable):
        share = problem.share
        among = None if share is None else (share.rank, share.count)
        self.problem, self.every = problem, every
        self._setting = setting, every.sizes, problem.scale is None, among, tuple(problem.parameters)
        self._names = {id(parameter): name for name, parameter in problem.parameters.items()}
        self._digest: Hashable = None

    def data(self) -> Hashable:
        """What tells the examples' values from others, and those of tables; None where something has no name."""
        if self._digest is None:
            tables = [one for one in self.problem.module.buffers() if one.ndim and not one.is_floating_point()]
            self._digest = digest((*self.every.batches, tables))
        return self._digest

    def of(self, reference: Reference, *, sure: bool, shapes: bool = True) -> Name | None:
        """The name of an example's calls; None where something has none, as a function that changes gradients.

        Args:
            reference: the example alone.
            sure: whether the loss of a batch is known whatever the values are; if not, and it is one number, the
                values are a part of the name, as a mean may weigh the examples of other data otherwise.
            shapes: whether shapes count.
        """
        setting: Hashable = self._setting
        if reference.is_number and not sure:
            data = self.data()
            if data is None:
                return None
            setting = setting, data
        try:
            return Name((setting, signature(reference, self._names, shapes=shapes)))
        except Unnameable:
            return None


def signature(reference: Reference, names: Mapping[int, str], *, shapes: bool = True) -> Hashable:
    """What tells an example's calls from others: functions, the graph's nodes, shapes, types, settings, parameters.

    Args:
        reference: the example alone.
        names: identity → name, of the measured parameters.
        shapes: whether those count, and the nodes, which follow from them too.

    Raises:
        Unnameable: if an argument is of a kind that has no name of its own.
    """
    if not reference.saved_as_usual or any(call.function == NODE for call in reference.calls):
        raise Unnameable
    calls = [
        (call.function, _form(call.args, names, shapes), _form(call.kwargs, names, shapes))
        for call in reference.calls
    ]
    return reference.nodes if shapes else (), tuple(calls)  # by its shape a call may take one way or another


def _form(node: Any, names: Mapping[int, str], shapes: bool) -> Hashable:
    if isinstance(node, Tensor):
        if node._backward_hooks:  # a function of the user's own: what it makes of a gradient is not known
            raise Unnameable
        shape = node.shape if shapes else node.ndim
        return type(node), shape, node.dtype, node.device, node.requires_grad, names.get(id(node))
    if isinstance(node, tuple | list):
        return type(node), *[_form(item, names, shapes) for item in node]
    if isinstance(node, dict):
        return dict, *((key, _form(item, names, shapes)) for key, item in node.items())
    if isinstance(node, slice):
        return slice, *(_form(item, names, shapes) for item in (node.start, node.stop, node.step))
    if not shapes and type(node) is int:  # a length
        return int
    if isinstance(node, float | complex) and node != node:  # a NaN, of which none is equal to another
        return type(node), "nan"
    if node is None or node is Ellipsis or isinstance(node, _NAMED):
        return type(node), node
    raise Unnameable


_NAMED = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type)
