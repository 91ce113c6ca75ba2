"""What modules hold beside their parameters, and what the objects hold that they hold: put back after a loss."""

import collections
from collections.abc import Iterable
from types import MemberDescriptorType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram.snapshot import Snapshot
from lightning_stiffness.reach import is_container, is_object

MANY = 1000
"""Longer containers within others hold data: they are not looked into."""
SMALL = 1 << 20
"""Bytes up to which a tensor or an array within another object is kept by value."""

_REGISTRIES = frozenset(vars(nn.Module())) - {"_non_persistent_buffers_set"}
_PLAIN = frozenset({bool, int, float, str, type(None)})  # most of them, seen first for speed


class Held:
    """What modules hold beside their parameters, as it is when this is made.

    Held are buffers (the same tensors, with the same values) and the attributes of every submodule: tensors,
    arrays, containers, objects of the user's own classes and modules that are none of the submodules, with what
    these hold in turn. Running means, metric states and caches live in them.

    Args:
        parts: a module and its submodules.

    Attributes:
        owners: these, and the modules that they hold otherwise, as in a list.
        large: tensors within other objects that are too large to be copied each time.

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

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        self.owners: list[nn.Module] = []
        self.large: list[Tensor] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._slots: list[tuple[Any, dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._arrays: list[tuple[Any, Any]] = []
        self._tensors: list[Tensor] = []
        self._seen: set[int] = set()
        self._add_modules(parts)
        self._snapshot = Snapshot(self._tensors)
        self._tensors = []

    def put_back(self) -> None:
        """All of it is what it was; nothing is written to that is so already."""
        for present, before in self._attributes:
            present.update(before)
            if len(present) != len(before):
                for name in present.keys() - before.keys():
                    del present[name]
        for thing, slots in self._slots:
            for name, value in slots.items():
                if getattr(thing, name, None) is not value:
                    object.__setattr__(thing, name, value)
        for container, earlier in self._contents:
            if container or earlier:  # most are empty
                _refill(container, earlier)
        for array, copy in self._arrays:
            if array.flags.writeable and array.tobytes() != copy.tobytes():
                array[...] = copy
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
                self._contents.append((buffers, buffers.copy()))
                values = [buffer for buffer in buffers.values() if buffer is not None]
                for name, value in attributes.items():
                    if type(value) not in _PLAIN and name not in _REGISTRIES:
                        if isinstance(value, Tensor):
                            values.append(value)
                        elif type(value) is set and not value:  # as every module has one
                            self._contents.append((value, set()))
                        else:
                            self._add(value)
            self._tensors += [tensor for tensor in values if not is_lazy(tensor)]  # which have no value yet

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
                if thing.nbytes <= SMALL and thing.dtype != object:
                    self._arrays.append((thing, thing.copy()))
            elif isinstance(thing, nn.Module):
                self._add_modules(thing.modules())
            elif isinstance(thing, tuple | frozenset):
                waiting += _entries(thing)
            elif is_container(thing):
                if thing is value or len(thing) <= MANY:
                    self._seen.add(id(thing))
                    self._contents.append((thing, thing.copy()))
                    waiting += _entries(thing)
            elif is_object(thing):
                self._seen.add(id(thing))
                entries = getattr(thing, "__dict__", {})
                slots = {name: getattr(thing, name) for name in _slots_of(type(thing)) if hasattr(thing, name)}
                self._attributes.append((entries, entries.copy()))
                if slots:
                    self._slots.append((thing, slots))
                waiting += [*entries.values(), *slots.values()]

    def _add_tensor(self, tensor: Tensor) -> None:
        self._seen.add(id(tensor))
        if is_lazy(tensor) or isinstance(tensor, nn.Parameter) or not tensor.is_leaf:
            return  # what has a graph is a result, not a state
        small = tensor.is_meta or tensor.numel() * tensor.element_size() <= SMALL
        (self._tensors if small else self.large).append(tensor)


def _slots_of(kind: type) -> list[str]:
    found = [owner.__dict__ for owner in kind.__mro__ if owner.__dict__.get("__slots__")]
    return [name for space in found for name, slot in space.items() if isinstance(slot, MemberDescriptorType)]


def _entries(thing: Any) -> list[Any]:
    """What a container holds, where that is not long."""
    if len(thing) > MANY:
        return []
    return list(thing.values() if isinstance(thing, dict) else thing)


def _refill(container: Any, before: Any) -> None:
    """The container with its earlier contents, in place; untouched where nothing changed."""
    if len(container) == len(before) and (
        not before or all(a is b for a, b in zip(_pairs(container), _pairs(before), strict=True))
    ):
        return
    container.clear()
    if isinstance(container, dict):  # one by one: a Counter's update adds
        for key, value in before.items():
            container[key] = value
    elif isinstance(container, list | collections.deque):
        container.extend(before)
    else:
        container.update(before)


def _pairs(container: Any) -> Iterable[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)
