"""What user code may change beside what it is given: class attributes, global variables, random generators."""

import copy
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.reach import CONTAINERS, ITERATORS, NAMESPACES, Reached, is_state, spaces_of


@contextmanager
def kept_surroundings(*things: Any) -> Iterator[None]:
    """Keep what code of some objects may reach: afterwards it is what it was.

    Kept are the attributes of their classes and the global variables of the files that these come from (plain
    values, tensors, the contents of containers, the buffers of networks), the state of every random generator
    among those and among what the objects hold, and the plain values, small arrays, containers and iterators of
    the objects and of what they hold in turn, where their classes are the user's own. The attributes of networks
    are :func:`~lightning_stiffness.gram.state.kept_state`'s. What another thread works on is left alone.

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
    spaces = spaces_of(things)
    held = [entry for space in spaces for entry in vars(space).values()]
    found = Reached([*things, *held])
    known = {id(space) for space in spaces}
    spaces += [one for one in [*found.objects, *spaces_of(found.objects)] if id(one) not in known]
    kept = [(space, name, value, _snapshot(value)) for space in spaces for name, value in _state(space)]
    contents = [(entry, _snapshot(entry)) for entry in found.contents.values()]
    generators = [(g, _state_of(g)) for g in found.generators]
    with ExitStack() as stack:
        for network in {id(entry): entry for entry in held if isinstance(entry, nn.Module)}.values():
            stack.enter_context(kept_state(network))
        try:
            yield
        finally:
            for generator, state in generators:
                _set_state(generator, state)
            for space, name, value, before in kept:
                if isinstance(value, ITERATORS):  # the copy stands where the iterator stood
                    _set(space, name, before)
                    continue
                if vars(space).get(name) is not value:
                    _set(space, name, value)
                _put_back(value, before)
            for entry, before in contents:
                _put_back(entry, before)


def _state(space: Any) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in vars(space).items()
        if not name.startswith("__") and is_state(value, whole=isinstance(space, NAMESPACES))
    ]


def _set(space: Any, name: str, value: Any) -> None:
    if isinstance(space, NAMESPACES):
        setattr(space, name, value)
    else:  # past whatever the class does when an attribute is set
        vars(space)[name] = value


def _snapshot(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, ITERATORS):
        return _forked(value)
    return value.copy() if type(value) in CONTAINERS or isinstance(value, np.ndarray) else value


def _forked(iterator: Any) -> Any:
    """An iterator of its own at the same place; the iterator itself where there can be none (Python 3.14)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return copy.deepcopy(iterator)
        except TypeError:
            return iterator


def _put_back(value: Any, before: Any) -> None:
    if isinstance(value, Tensor):
        if not torch.equal(value, before):
            with torch.no_grad():
                value.detach().copy_(before)
    elif isinstance(value, np.ndarray):
        if value.flags.writeable and not np.array_equal(value, before):
            value[...] = before
    elif type(value) in CONTAINERS and not _same(value, before):
        value.clear()
        if isinstance(value, dict):  # one by one: a Counter's update adds
            for key, entry in before.items():
                value[key] = entry
        elif isinstance(value, set):
            value.update(before)
        else:
            value.extend(before)


def _same(value: Any, before: Any) -> bool:
    if len(value) != len(before):
        return False
    if isinstance(value, dict):
        return all(k in before and before[k] is v for k, v in value.items())
    return value == before if isinstance(value, set) else all(a is b for a, b in zip(value, before, strict=True))


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
