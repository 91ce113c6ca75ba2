"""What user code may change beside what it is given: class attributes, global variables, random generators."""

import functools
import random
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ProxyTypes

import numpy as np
import torch
from torch import Tensor, nn

from lightning_stiffness.gram.state import kept_state

_LIBRARIES = frozenset(
    {"torch", "torchvision", "torchmetrics", "lightning", "pytorch_lightning", "numpy", "builtins", "abc", "typing"}
)
_CONTAINERS = (list, dict, set, deque)
_VALUES = (int, float, str, bool, type(None))
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
_PLAIN = (*_VALUES, bytes, Tensor, np.ndarray, type, ModuleType, *ProxyTypes)
_NAMESPACES = (type, ModuleType)
_MANY = 1000
"""Longer containers hold data, not generators."""


@contextmanager
def kept_surroundings(*things: Any) -> Iterator[None]:
    """Keep what code of some objects may reach: afterwards it is what it was.

    Kept are the attributes of their classes and the global variables of the files that these come from (plain
    values, tensors, the contents of containers, the buffers of networks), the state of every random generator
    among those and among what the objects hold, and the objects' own plain values and containers. The attributes
    of networks are :func:`~lightning_stiffness.gram.state.kept_state`'s.

    Args:
        things: modules, data sets, functions.

    Example:
        >>> class Data:
        ...     asked = 0
        ...     rng = random.Random(0)
        >>> with kept_surroundings(Data()):
        ...     Data.asked, _ = 5, Data.rng.random()
        >>> Data.asked, Data.rng.random() == random.Random(0).random()
        (0, True)
    """
    spaces = _spaces(things)
    kept = [(space, name, value, _snapshot(value)) for space in spaces for name, value in _state(space)]
    held = [entry for space in spaces for entry in vars(space).values()]
    generators = [(g, _state_of(g)) for g in _generators([*things, *held])]
    with ExitStack() as stack:
        for network in {id(entry): entry for entry in held if isinstance(entry, nn.Module)}.values():
            stack.enter_context(kept_state(network))
        try:
            yield
        finally:
            for generator, state in generators:
                _set_state(generator, state)
            for space, name, value, before in kept:
                if vars(space).get(name) is not value:
                    _set(space, name, value)
                _put_back(value, before)


def _spaces(things: tuple[Any, ...]) -> list[Any]:
    """The objects, and the classes and modules of Python that their code is written in."""
    found: dict[int, Any] = {}
    for thing in things:
        function = isinstance(thing, FunctionType | MethodType)
        if hasattr(thing, "__dict__") and not function and not isinstance(thing, nn.Module):
            found[id(thing)] = thing
        for owner in (thing,) if function else type(thing).__mro__:
            home = getattr(owner, "__module__", None) or ""
            if home.split(".")[0] in _LIBRARIES:
                continue
            for space in (owner, sys.modules.get(home)):
                if isinstance(space, _NAMESPACES):
                    found[id(space)] = space
    return list(found.values())


def _state(space: Any) -> list[tuple[str, Any]]:
    # The tensors of a data set are its data: too much to copy, and nobody writes into them.
    plain = (*_CONTAINERS, *_VALUES, *((Tensor,) if isinstance(space, _NAMESPACES) else ()))
    return [
        (name, value)
        for name, value in vars(space).items()
        if type(value) in plain
        and not (isinstance(value, Tensor) and value.is_inference())
        and not name.startswith("__")
    ]


def _set(space: Any, name: str, value: Any) -> None:
    if isinstance(space, _NAMESPACES):
        setattr(space, name, value)
    else:  # past whatever the class does when an attribute is set
        vars(space)[name] = value


def _snapshot(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, _CONTAINERS) else value


def _put_back(value: Any, before: Any) -> None:
    if isinstance(value, Tensor):
        if not torch.equal(value, before):
            with torch.no_grad():
                value.detach().copy_(before)
    elif isinstance(value, _CONTAINERS) and not _same(value, before):
        value.clear()
        value.update(before) if isinstance(value, dict | set) else value.extend(before)


def _same(value: Any, before: Any) -> bool:
    if len(value) != len(before):
        return False
    if isinstance(value, dict):
        return all(k in before and before[k] is v for k, v in value.items())
    return value == before if isinstance(value, set) else all(a is b for a, b in zip(value, before, strict=True))


def _generators(things: list[Any]) -> Iterator[Any]:
    """Random generators among some objects, their attributes, and what those hold."""
    waiting, seen = deque(things), set()
    while waiting:
        thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, _PLAIN):
            continue
        seen.add(id(thing))
        if isinstance(thing, _GENERATORS):
            yield thing
        elif isinstance(thing, list | tuple | set | deque):
            waiting.extend(thing if len(thing) <= _MANY else ())
        elif isinstance(thing, dict):
            waiting.extend(thing.values() if len(thing) <= _MANY else ())
        elif isinstance(thing, functools.partial):
            waiting.extend([thing.func, *thing.args, *thing.keywords.values()])
        elif isinstance(thing, MethodType):
            waiting.append(thing.__self__)
        elif isinstance(thing, FunctionType):
            waiting.extend(cell.cell_contents for cell in thing.__closure__ or () if _filled(cell))
            waiting.extend(thing.__defaults__ or ())
        elif type(thing).__module__.split(".")[0] not in ("logging", "threading", "lightning", "pytorch_lightning"):
            waiting.extend(getattr(thing, "__dict__", {}).values())


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # empty
        return False


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
