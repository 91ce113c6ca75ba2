"""What modules hold beside their parameters, and what the objects hold that they hold: put back after a loss."""

import functools
from collections.abc import Iterable
from types import BuiltinMethodType, CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from lightning_stiffness.contents import Contents, entries_of, kind_of, size_of
from lightning_stiffness.generators import Generators
from lightning_stiffness.gram.snapshot import Snapshot
from lightning_stiffness.reach import GENERATORS, ITERATORS, forked, is_object

MANY = 10_000
"""Longer containers within others hold data: they are not looked into."""
SMALL = 1 << 20
"""Bytes up to which a tensor within another object is kept by value each time."""
SMALL_ARRAY = 1 << 24
"""The same for arrays of NumPy, whose changes can't be seen but by comparing them."""

_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("hooks"))
_REGISTRIES = frozenset({*_HOOKS, *vars(nn.Module())}) - {"_non_persistent_buffers_set"}
_PLAIN = frozenset({bool, int, float, str, type(None)})  # most of them, seen first for speed
_UNSET = object()


class Held:
    """What modules hold beside their parameters, as it is when this is made.

    Held are buffers (the same tensors, with the same values), hooks, and the attributes of every submodule:
    tensors, arrays, random generators, containers, objects, functions with what they are closed over, and modules
    that are none of the submodules, with what these hold in turn. Running means, metric states and caches live in
    them. Global generators are left to those who measure; objects of Python's own library, of torch and of
    Lightning are not looked into, nor what holds a thread.

    Args:
        parts: a module and its submodules.
        further: objects that count as well, such as the loss function.

    Attributes:
        owners: these, and the modules that they hold otherwise, as in a list.
        parameters: those that are in no module, as in a list.
        large: tensors within other objects that are too large to be copied each time, and those with gradients.

    Example:
        >>> from types import SimpleNamespace
        >>> net = nn.Linear(2, 1)
        >>> net.seen = SimpleNamespace(mean=torch.zeros(2))
        >>> held = Held(net.modules())
        >>> _ = net.seen.mean.add_(1)
        >>> net.seen.count = 5
        >>> held.put_back()
        >>> net.seen
        namespace(mean=tensor([0., 0.]))
    """

    def __init__(self, parts: Iterable[nn.Module], further: Iterable[Any] = ()) -> None:
        self.owners: list[nn.Module] = []
        self.parameters: list[nn.Parameter] = []
        self.large: list[Tensor] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._iterators: list[tuple[dict[str, Any], str, Any]] = []
        self._slots: list[tuple[Any, str, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._contents: list[Contents] = []
        self._empty: list[Any] = []
        self._arrays: list[tuple[Any, Any]] = []
        self._random: list[Any] = []
        self._tensors: list[Tensor] = []
        self._seen: set[int] = set()
        self._add_modules(parts)
        for thing in further:
            self._add(thing)
        self._generators = Generators(self._random)
        self._snapshot = Snapshot(self._tensors)
        self._tensors, self._random = [], []

    def put_back(self) -> None:
        """All of it is what it was; nothing is written to that is so already."""
        for present, before in self._attributes:
            present.update(before)
            if len(present) != len(before):
                for name in present.keys() - before.keys():
                    del present[name]
        for present, name, iterator in self._iterators:  # a copy stands where it stood
            present[name] = forked(iterator)
        for thing, name, value in self._slots:
            if getattr(thing, name, _UNSET) is not value:
                object.__delattr__(thing, name) if value is _UNSET else object.__setattr__(thing, name, value)
        for cell, value in self._cells:
            if cell.cell_contents is not value:
                cell.cell_contents = value
        for container in self._empty:
            if container:
                container.clear()
        for contents in self._contents:
            contents.put_back()
        for array, copy in self._arrays:
            if array.flags.writeable and array.tobytes() != copy.tobytes():
                array[...] = copy
        self._generators.put_back()
        self._snapshot.put_back()

    def _add_modules(self, parts: Iterable[nn.Module]) -> None:
        owners = [owner for owner in parts if id(owner) not in self._seen]
        self._seen.update(map(id, owners))  # before they are looked at: an attribute may be another one of them
        self.owners += owners
        for owner in owners:
            if isinstance(owner, torch.jit.ScriptModule):  # its attributes live in C++, out of reach
                values = [buffer for _, buffer in owner.named_buffers(recurse=False)]
            else:
                attributes = owner.__dict__
                buffers = attributes["_buffers"]
                self._attributes.append((attributes, attributes.copy()))
                self._hold(buffers)
                for parameter in owner._parameters.values():
                    if parameter is not None and parameter.__dict__:
                        self._hold_attributes(parameter.__dict__)
                        self._add([*parameter.__dict__.values()])
                values = [buffer for buffer in buffers.values() if buffer is not None]
                self._add_hooks(owner)
                for name, value in attributes.items():
                    if type(value) not in _PLAIN and name not in _REGISTRIES:
                        if isinstance(value, Tensor):
                            values.append(value)
                            if value.requires_grad and value.is_leaf:
                                self.large.append(value)
                        elif type(value) is set and not value:  # as every module has one
                            self._empty.append(value)
                        elif isinstance(value, ITERATORS):
                            self._iterators.append((attributes, name, forked(value)))
                        else:
                            self._add(value)
            self._tensors += [tensor for tensor in values if not is_lazy(tensor)]  # which have no value yet

    def _hold_attributes(self, attributes: dict[str, Any]) -> None:
        self._attributes.append((attributes, attributes.copy()))
        for name, value in attributes.items():
            if type(value) not in _PLAIN and isinstance(value, ITERATORS):
                self._iterators.append((attributes, name, forked(value)))

    def _add_hooks(self, owner: nn.Module) -> None:
        if isinstance(owner, LazyModuleMixin):  # whose hooks end with its laziness
            return
        for name in _HOOKS:
            hooks = owner.__dict__.get(name)
            if hooks:
                self._add(hooks)
            elif hooks is not None:
                self._empty.append(hooks)

    def _hold(self, container: Any) -> None:
        if size_of(container):
            self._contents.append(Contents(container))
        else:
            self._empty.append(container)

    def _add(self, value: Any) -> None:
        """What an attribute is, other than a tensor, and what it holds."""
        waiting = [value]
        while waiting:
            thing = waiting.pop()
            if type(thing) in _PLAIN or id(thing) in self._seen:
                continue
            if isinstance(thing, Tensor):
                self._add_tensor(thing)
            elif isinstance(thing, np.ndarray):
                self._seen.add(id(thing))
                if thing.nbytes <= SMALL_ARRAY:
                    self._arrays.append((thing, thing.copy()))
                if thing.dtype == object and thing.size <= MANY:
                    waiting += thing.flat
            elif isinstance(thing, nn.Module):
                self._add_modules(thing.modules())
            elif isinstance(thing, tuple | frozenset):
                waiting += entries_of(thing) if size_of(thing) <= MANY else ()
            elif isinstance(thing, FunctionType | MethodType | functools.partial):
                self._seen.add(id(thing))
                waiting += self._behind(thing)
            elif isinstance(thing, BuiltinMethodType):  # as the append of a list
                waiting += () if isinstance(thing.__self__, ModuleType) else (thing.__self__,)
            elif isinstance(thing, GENERATORS):
                self._random.append(thing)
            else:
                waiting += self._within(thing, whole=thing is value)

    def _within(self, thing: Any, *, whole: bool) -> list[Any]:
        """What a container, or an object, holds; ``whole`` for a container of any length."""
        found: list[Any] = []
        if kind_of(thing) is not None and (whole or size_of(thing) <= MANY):
            self._seen.add(id(thing))
            self._hold(thing)
            if size_of(thing) <= MANY:
                found += entries_of(thing)
        if is_object(thing):
            self._seen.add(id(thing))
            entries = getattr(thing, "__dict__", None)
            if entries is not None:
                self._hold_attributes(entries)
                found += entries.values()
            for name in _slots_of(type(thing)):
                self._slots.append((thing, name, getattr(thing, name, _UNSET)))
                found.append(self._slots[-1][2])
        return found

    def _behind(self, function: Any) -> list[Any]:
        """What a function of Python works with beside its arguments."""
        if isinstance(function, MethodType):
            return [function.__self__, function.__func__]
        if isinstance(function, functools.partial):
            return [function.func, *function.args, *function.keywords.values()]
        found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # empty
                continue
            self._cells.append((cell, value))
            found.append(value)
        return found

    def _add_tensor(self, tensor: Tensor) -> None:
        self._seen.add(id(tensor))
        if is_lazy(tensor) or not tensor.is_leaf:
            return  # what has a graph is a result, not a state
        if isinstance(tensor, nn.Parameter):
            self.parameters.append(tensor)
            return
        small = tensor.is_meta or tensor.numel() * tensor.element_size() <= SMALL
        small = small and not tensor.requires_grad  # or its gradient is kept as well
        (self._tensors if small else self.large).append(tensor)


def _slots_of(kind: type) -> list[str]:
    found = [owner.__dict__ for owner in kind.__mro__ if owner.__dict__.get("__slots__")]
    return [name for space in found for name, slot in space.items() if isinstance(slot, MemberDescriptorType)]
