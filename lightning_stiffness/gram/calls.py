"""The torch calls of a forward pass over one example, seen by a ``TorchFunctionMode``."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.edges import Edge, edge_of
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.placing import by_place
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.uses import NESTED, Function, apart, flat, tensors_in

COMPOSITE: frozenset[Any] = frozenset({nn.functional.multi_head_attention_forward, Tensor.__iter__})
"""Functions written in Python whose inner calls are the uses."""

VIEWS: frozenset[Any] = frozenset({Tensor.view, Tensor.reshape, torch.reshape})
"""Functions that are told the lengths of what they give."""

NODE: Any = Tensor.grad_fn.__get__  # type: ignore[union-attr]
"""The call that gives a tensor's node, to which functions may be hooked that no call shows."""

HOOKING: frozenset[Any] = frozenset({Tensor.register_hook, NODE})
"""Calls by which functions are hooked to gradients."""


def unhooked(function: Any, caller: FrameType) -> bool:
    """Whether torch asks for a node of its own, to hook nothing to it, as checkpoints did up to torch 2.11."""
    return function == NODE and caller.f_globals.get("__name__") == "torch.utils.checkpoint"


SIZED: frozenset[Any] = frozenset(
    {
        *(*VIEWS, Tensor.expand, Tensor.repeat, Tensor.tile, torch.tile, Tensor.unflatten, torch.broadcast_to),
        *(torch.zeros, torch.ones, torch.full, torch.empty, torch.arange, torch.rand, torch.randn, torch.eye),
        *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_empty, Tensor.narrow, torch.narrow),
        *(Tensor.__getitem__, Tensor.split, torch.split, Tensor.chunk, torch.chunk, torch.repeat_interleave),
    }
)
"""These, and others that may be told the number of examples."""

_FURTHER: dict[Any, tuple[int, str]] = {
    **{torch.full: (1, "fill_value"), Tensor.new_full: (2, "fill_value"), Tensor.__getitem__: (1, "")},
    **{Tensor.narrow: (2, "start"), torch.narrow: (2, "start"), torch.arange: (0, "start")},
}
"""What such a function is told beside lengths → where, and by which name."""


def _further(function: Any, args: Any, kwargs: Any) -> Any:
    """A number that says no length: what is filled in, or which row is picked. None if there is none."""
    place, name = _FURTHER[function]
    if function is torch.arange and len(args) < 2:
        return kwargs.get(name)
    told = args[place] if len(args) > place else kwargs.get(name)
    if isinstance(told, tuple):
        return [one for one in told if type(one) is int]
    return told if isinstance(told, int | float) else None


_TYPING: frozenset[Any] = frozenset({Tensor.to, Tensor.type_as})
"""Functions that may take a type and a device from another tensor."""


def is_typing(function: Any, args: tuple[Any, ...]) -> bool:
    """Whether a call may take its type, and where it is, from a tensor whose values do not count.

    Example:
        >>> x, like = torch.ones(2), torch.zeros(3, 2)
        >>> is_typing(Tensor.type_as, (x, like)), is_typing(Tensor.new_tensor, (like, [1.0]))
        (True, True)
    """
    return function in _TYPING or (function is Tensor.new_tensor and not tensors_in(args[1:]))


_without_test: dict[Any, Function] = {}


def opened(function: Any) -> Function:
    """The same function without its own test for overrides, so that the mode sees its inner calls."""
    if function not in _without_test:
        scope = dict(function.__globals__)
        for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
            scope[name] = lambda *_: False
        copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
        copy.__kwdefaults__ = function.__kwdefaults__
        _without_test[function] = copy
    return _without_test[function]


@dataclass
class Call:
    """One torch call of the pass over one example."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """Those that are not by place, or could be."""
    out: Any
    tracked: tuple[bool, ...] = ()
    """Which of its tensors had a gradient as it returned them."""
    edges: tuple[Edge | None, ...] = ()
    """Of its tensors as it returned them: what changes one in place gives it another."""
    gradients: dict[int, Tensor] | None = None
    """Of the example's loss by those of them that it depends on, where they were asked for."""
    _given: list[Tensor] | None = None
    _made: list[Tensor] | None = None

    # Python 3.11 takes a lock for each cached_property, which costs as much as to look for the tensors
    @property
    def given(self) -> list[Tensor]:
        """The tensors that it took."""
        if self._given is None:
            self._given = tensors_in((self.args, self.kwargs) if self.kwargs else self.args)
        return self._given

    @property
    def made(self) -> list[Tensor]:
        """The tensors that it gave."""
        if self._made is None:
            self._made = tensors_in(self.out)
        return self._made

    def is_like(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Whether a call for several examples is the same, but for the tensors, and their number."""
        if func != self.function:
            return False
        if func in SIZED:
            return func not in _FURTHER or _further(func, self.args, self.kwargs) == _further(func, args, kwargs)
        return _settings_are_like(self.args, args) and (not kwargs or _settings_are_like(self.kwargs, kwargs))


class Recorder(TorchFunctionMode):
    """Logs every torch call of a forward pass over one example.

    Args:
        kept: to be told of calls that may write to parameters.
    """

    def __init__(self, kept: KeptModule | None = None) -> None:
        super().__init__()
        self.kept = kept
        self.calls: list[Call] = []
        self.saved_as_usual = True
        """Whether what was saved for the backward pass went through no function of the user's own, for sure, nor
        what is changed in place has one for its gradient."""
        self.changed_unseen = False
        """Whether something that a call takes was changed since the last call that is known to have changed it."""
        self._versions: dict[int, int] = {}

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Remember in which version tensors are."""
        for tensor in tensors:
            version = self._version(tensor)
            if version is not None:
                self._versions[version[0]] = version[1]

    def _version(self, tensor: Tensor) -> tuple[int, int] | None:
        """Where its values lie, and how often they were changed; None where that is not counted, as for tensors of
        the inference mode, which nothing changes outside of it."""
        if tensor.is_inference() or tensor.layout != torch.strided:
            return None
        try:
            return tensor.untyped_storage().data_ptr(), tensor._version
        except (NotImplementedError, RuntimeError):  # as within vmap: there is no telling
            self.changed_unseen = True
            return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a call and log it."""
        if func in HOOKING and unhooked(func, sys._getframe(1)):
            return func(*args)
        called, named = args, kwargs or {}  # as it is called; the rest looks for inputs in their places
        args, kwargs = by_place(func, args, named) if named else (args, named)
        if self.saved_as_usual and (_top_hooks is None or _top_hooks(True) is not None):
            self.saved_as_usual = False
        call = Call(func, args, kwargs, None)
        self.calls.append(call)
        for one in () if self.changed_unseen else call.given:
            version = self._version(one)
            if version is not None and self._versions.setdefault(version[0], version[1]) != version[1]:
                self.changed_unseen = True
        if func in COMPOSITE:
            with self:
                return opened(func)(*args, **kwargs)
        if self.kept is not None:
            self.kept.about_to_call(func, args, kwargs)
        writes = inplace(func)
        if writes and args and isinstance(args[0], Tensor):
            if args[0]._backward_hooks:  # which the copy has not
                self.saved_as_usual = False
            call.args = (args[0].detach().clone(), *args[1:])
            call.given[:1] = call.args[:1]
        call.out = out = apart(func(*called, **named), call.given)
        made = call.made
        call.tracked = tuple([one.requires_grad for one in made])
        self.note(made)
        if writes:
            self.note(tensors_in(args[:1]))
        if isinstance(out, Tensor):
            call.edges = (edge_of(out, call.given, changed=writes),)
        elif isinstance(out, NESTED):
            leaves = flat(out)
            call.edges = tuple([edge_of(one, call.given) if isinstance(one, Tensor) else None for one in leaves])
        return out


def _settings_are_like(one: Any, many: Any) -> bool:
    kind = type(many)
    if kind is Tensor or kind is nn.Parameter:
        return type(one) is kind
    if isinstance(many, _IN_ORDER):
        return isinstance(one, _IN_ORDER) and len(one) == len(many) and all(map(_settings_are_like, one, many))
    if isinstance(many, dict):
        return isinstance(one, dict) and all(key in one and _settings_are_like(one[key], many[key]) for key in many)
    if type(one) is not kind:
        return False
    return not isinstance(many, _SETTINGS) or one == many or (one != one and many != many)  # a NaN is like another


_IN_ORDER, _SETTINGS = (tuple, list), (int, float, complex, str, slice, type(None))


_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
"""Gives the functions that what is saved for the backward pass goes through; torch 2.4 does not tell."""


def refuse_operators(functions: list[Any]) -> None:
    """Refuse ``torch.cond`` and its like, which take functions.

    They are differentiated by ``torch.compile`` alone. Run as they were written, as where calls are watched, they
    give a result without a gradient.

    Raises:
        EngineRefusal: if one of them was called.
    """
    for function in functions:
        if isinstance(function, HigherOrderOperator):
            raise EngineRefusal(f"it calls torch's operator {function}, which only torch.compile differentiates")
