"""Functions and tensors that a module holds, made to work on the module's copy.

``copy.deepcopy`` leaves functions as they are. A closure, a hook or a compiled function in the copy would so
read, differentiate and change the module that it was made for. And it refuses tensors that have a graph.
"""

import copy
import functools
import io
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from lightning_stiffness.contents import entries_of
from lightning_stiffness.trainer_view import Silent

_LRU = type(functools.lru_cache(lambda: None))
_LOCKS = {type(make()): make for make in (threading.Lock, threading.RLock)}
_ATOMIC = (str, bytes, int, float, complex, type(None), type, types.ModuleType, torch.dtype)


class Rebinding:
    """Stand-ins for the functions within a module, and for tensors that have a graph.

    They are entered in the memo of a deep copy. The tensors arrive in the copy detached.

    Args:
        module: what is to be copied.
        memo: the memo that ``copy.deepcopy`` will be given; stand-ins are entered.
        leave: classes whose instances are shared with the copy, not looked into.

    Attributes:
        met: the modules and tensors that a deep copy would meet.

    Example:
        >>> def penalised():
        ...     net = nn.Linear(2, 1)
        ...     net.penalty = lambda: net.weight.norm()
        ...     return net
        >>> net, memo = penalised(), {}
        >>> rebinding = Rebinding(net, memo)
        >>> twin = copy.deepcopy(net, memo)
        >>> rebinding.finish()
        >>> _ = nn.init.zeros_(twin.weight)
        >>> float(twin.penalty()), float(net.penalty()) > 0
        (0.0, True)
    """

    def __init__(self, module: nn.Module, memo: dict[int, Any], leave: tuple[type, ...] = ()) -> None:
        self._memo, self._leave = memo, leave
        self._cells: dict[int, tuple[Any, Any]] = {}
        self._later: list[Callable[[], None]] = []
        self._keep: list[Any] = []  # an id in the memo must not be given to something new
        self.met: list[Any] = []
        for value in _reachable(module, (*_ATOMIC, *leave), memo):
            if isinstance(value, nn.Module | Tensor):
                self.met.append(value)
            self._enter(value)

    def finish(self) -> None:
        """Fill the stand-ins, after the copy: what functions hold is now to be had from the memo."""
        for fill in self._later:
            fill()
        for old, new in self._cells.values():
            with suppress(ValueError):  # a cell that is empty stays so
                new.cell_contents = self._copied(old.cell_contents)

    def _enter(self, value: Any) -> None:
        if id(value) in self._memo:
            return
        original = None
        stand_in: Any
        if isinstance(value, Tensor):
            stand_in = _own(value)
            if stand_in is not None:
                self._memo[id(value)] = stand_in
            return
        if isinstance(value, types.FunctionType):
            original = getattr(value, "_torchdynamo_orig_callable", None)
        elif isinstance(value, _LRU):
            original = value.__wrapped__  # without the cache: its keys and values belong to the module
        if original is not None:
            stand_in = self._forwarder(value, lambda: self._copied(original))
        elif isinstance(value, types.MethodType) and _holds(value.__func__):
            method = value
            stand_in = self._forwarder(
                value, lambda: types.MethodType(self._copied(method.__func__), self._copied(method.__self__))
            )
        elif isinstance(value, types.FunctionType) and _holds(value):
            stand_in = self._function(value)
        elif isinstance(value, weakref.ref):
            referent = value()
            stand_in = self._forwarder(value, lambda: lambda: self._memo.get(id(referent), referent))
        elif type(value) in _LOCKS:
            stand_in = _LOCKS[type(value)]()
        elif (isinstance(value, io.IOBase) and not value.closed and value.writable()) or hasattr(
            value, "add_scalar"
        ):
            stand_in = Silent(value)  # a file or a summary writer: nothing of a measurement belongs there
        else:
            return
        self._memo[id(value)] = stand_in
        self._keep.append(value)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """The same function with cells of its own, shared with those functions that it shared them with."""
        cells = []
        for cell in function.__closure__ or ():
            if id(cell) not in self._cells:
                self._cells[id(cell)] = (cell, types.CellType())
            cells.append(self._cells[id(cell)][1])
        new = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, tuple(cells)
        )
        new.__qualname__, new.__module__ = function.__qualname__, function.__module__

        def fill() -> None:
            new.__defaults__ = self._copied(function.__defaults__)
            new.__kwdefaults__ = self._copied(function.__kwdefaults__)
            new.__dict__.update({name: self._copied(value) for name, value in function.__dict__.items()})

        self._later.append(fill)
        return new

    def _forwarder(self, value: Any, target: Callable[[], Any]) -> Callable[..., Any]:
        made: list[Any] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            return made[0](*args, **kwargs)

        with suppress(AttributeError, TypeError):
            forward.__name__ = value.__name__
        self._later.append(lambda: made.append(target()))
        return forward

    def _copied(self, value: Any) -> Any:
        if isinstance(value, self._leave):
            return value
        try:
            return copy.deepcopy(value, self._memo)
        except Exception:
            # Such as a lock or a file that a function holds: read by the copy, as an attribute of the like is
            # refused by name. Should it lead to the module's parameters, the loss is refused for it.
            return value


def _holds(function: Any) -> bool:
    """Whether a function keeps anything beside its code."""
    return isinstance(function, types.FunctionType) and bool(
        function.__closure__ or function.__defaults__ or function.__kwdefaults__ or function.__dict__
    )


def _own(tensor: Tensor) -> Tensor | None:
    """A copy of a tensor that ``copy.deepcopy`` would refuse; None if it would not."""
    if is_lazy(tensor):
        return (
            UninitializedBuffer(False, tensor.device, tensor.dtype) if type(tensor) is UninitializedBuffer else None
        )
    if tensor.grad_fn is not None:  # a loss kept for the end of the epoch, features kept by a hook
        return tensor.detach().clone()
    grad = tensor.grad
    graph = grad is not None and grad.grad_fn is not None
    dense = tensor.layout == torch.strided and not tensor.is_nested
    if type(tensor) not in (Tensor, nn.Parameter) or (dense and not graph):
        return None  # views of one another stay so
    values = tensor.detach().clone()
    twin = nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
    twin.requires_grad_(tensor.requires_grad)
    if grad is not None:
        twin.grad = grad.detach().clone()
    return twin


def _reachable(root: Any, stop: tuple[type, ...], known: dict[int, Any]) -> Iterator[Any]:
    """Everything that a deep copy of an object would meet, and what functions among it hold."""
    waiting, seen = deque([root]), set(known)
    while waiting:
        value = waiting.popleft()
        if id(value) in seen or isinstance(value, stop) or type(value) in weakref.ProxyTypes:
            continue
        seen.add(id(value))
        if not isinstance(value, dict | list | tuple | set):
            yield value
        waiting.extend(_inside(value))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values(), *_attributes(value)]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [*entries_of(value), *_attributes(value)]
    if isinstance(value, np.ndarray):
        return list(value.flat) if value.dtype == object else []
    if isinstance(value, types.FunctionType):
        original = getattr(value, "_torchdynamo_orig_callable", None)
        if original is not None:
            return [original]  # not what the compiler holds
        found = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values()]
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # empty
                found.append(cell.cell_contents)
        return found
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, _LRU):
        return [value.__wrapped__]
    if isinstance(value, nn.Module) and "_orig_mod" in value._modules:
        return [value._modules["_orig_mod"]]
    return _attributes(value)


def _attributes(value: Any) -> list[Any]:
    entries = getattr(value, "__dict__", None)
    found = [v for k, v in entries.items() if k != "_compiled_call_impl"] if isinstance(entries, dict) else []
    for owner in type(value).__mro__:
        if owner.__dict__.get("__slots__"):
            for slot in owner.__dict__.values():
                if isinstance(slot, types.MemberDescriptorType):
                    with suppress(AttributeError):  # not set
                        found.append(slot.__get__(value))
    return found
