"""Class attributes, global variables, objects and what these hold: kept while a measurement runs user code."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_stiffness.contents import Contents
from lightning_stiffness.generators import Generators
from lightning_stiffness.gram.reference import eager
from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.reach import ITERATORS, NAMESPACES, Reached, forked, is_container, is_state, spaces_of
from lightning_stiffness.surroundings.writes import Writes

_LOOKS = 3
"""Losses after which is looked for changes, where none has been seen."""


class Surroundings:
    """What code of some objects may reach, as it is when this is made.

    These are the attributes of their classes and the global variables of the files that these come from (plain
    values, tensors, the contents of containers), the state of every random generator among those and among what
    the objects hold, and the plain values, small arrays, containers and iterators of the objects and of what they
    hold in turn, where their classes are the user's own. The attributes of networks are
    :func:`~lightning_stiffness.gram.state.kept_state`'s, but for iterators. What another thread works on is left
    alone.

    Args:
        things: modules, data sets, functions.
    """

    def __init__(self, *things: Any) -> None:
        spaces = spaces_of(things)
        held = [entry for space in spaces for entry in vars(space).values()]
        found = Reached(things, held)
        known = {id(space) for space in spaces}
        spaces += [one for one in [*found.objects, *spaces_of(found.objects)] if id(one) not in known]
        kept = [(space, name, value) for space in spaces for name, value in _state(space)]
        for network in (thing for thing in things if isinstance(thing, nn.Module)):
            kept += [
                (network, name, value) for name, value in vars(network).items() if isinstance(value, ITERATORS)
            ]
        self.networks = list({id(entry): entry for entry in held if isinstance(entry, nn.Module)}.values())
        self._kept = [(*one, _snapshot(one[2])) for one in kept]
        self._contents = [(entry, _snapshot(entry)) for entry in found.contents.values()]
        self._generators, self._tensors = Generators(found.generators), found.tensors
        self._writes, self._further = Writes(found.tensors), list[Surroundings]()
        self._watches = True
        self._looks, self._moving = _LOOKS, any(isinstance(value, ITERATORS) for _, _, value, _ in self._kept)

    @contextmanager
    def kept(self) -> Iterator["Surroundings"]:
        """Afterwards everything is what it was."""
        with ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(kept_state(network))
            try:
                yield self
            finally:
                self._writes.put_back()
                for one in (self, *self._further):
                    one._generators.put_back()
                    one._refill()

    def _refill(self) -> bool:
        """Make what it was what is not told of when it changes; whether something had."""
        changed = False
        for space, name, value, before in self._kept:
            if isinstance(value, ITERATORS):  # a copy stands where the iterator stood
                _set(space, name, forked(before))
                continue
            if vars(space).get(name) is not value:
                changed = True
                _set(space, name, value)
            changed |= _put_back(value, before)
        for entry, before in self._contents:
            changed |= _put_back(entry, before)
        return changed

    def know(self, thing: Any) -> None:
        """Keep a further network, or an object and what it leads to, which a loss turns out to get at."""
        if isinstance(thing, nn.Module):
            tensors = [*thing.parameters(), *thing.buffers()]
        else:
            self._further.append(further := Surroundings(thing))
            self._moving, tensors = True, further._tensors
        for tensor in tensors:
            self._writes.know(tensor)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, writing to tensors is seen, so that it can be undone."""
        with eager(), self._writes:  # the compiler refuses to work where it is watched
            yield

    def in_the_way(self, error: Exception) -> bool:
        """Whether watching was what a loss failed on; then it is not done again."""
        # What torch says before version 2.6, and in version 2.4
        said = any(words in str(error) for words in ("HigherOrderOperator", "Current active mode"))
        found = self._watches and said
        self._watches &= not found
        return found

    @contextmanager
    def loss(self, *, alone: bool = False) -> Iterator[None]:
        """For the time of one loss: it meets everything as the first one did.

        Args:
            alone: whether the loss is that of one example. There are many of these, and looking at what they change
                takes time: only where the first few changed something, or batches did, those that follow are
                looked at.
        """
        looks, every = self._looks > 0 or not alone, (self, *self._further)
        with unwatched():
            self._writes.put_back()
            if looks or self._moving:
                for one in every:
                    self._moving |= one._refill()
            self._looks -= 1
            for one in every:
                one._generators.sow()
        with self.watched() if self._watches and (looks or self._writes.seen) else nullcontext():
            yield
        with unwatched():
            for one in every:
                one._generators.tell()


def unwatched() -> Any:
    """Engines see every torch call of a loss; those made here are none of it."""
    return torch._C.DisableTorchFunction()  # modes as well as subclasses


@contextmanager
def kept_surroundings(*things: Any) -> Iterator[Surroundings]:
    """Keep what code of some objects may reach: afterwards it is what it was.

    Args:
        things: modules, data sets, functions.

    Yields:
        What is kept; of networks in global variables, attributes and buffers are kept too.

    Example:
        >>> import random
        >>> class Data:
        ...     asked = 0
        ...     rng = random.Random(0)
        >>> with kept_surroundings(Data()):
        ...     Data.asked, _ = 5, Data.rng.random()
        >>> Data.asked, Data.rng.random() == random.Random(0).random()
        (0, True)
    """
    with Surroundings(*things).kept() as surroundings, surroundings.watched():
        yield surroundings


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
        return forked(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return Contents(value) if is_container(value) else value


def _put_back(value: Any, before: Any) -> bool:
    """Fill a tensor, an array or a container as it was, in place; whether it was otherwise."""
    if isinstance(value, Tensor):
        changed = not torch.equal(value, before)
        if changed:
            with torch.no_grad():
                value.detach().copy_(before)
    elif isinstance(value, np.ndarray):
        changed = value.flags.writeable and not np.array_equal(value, before)
        if changed:
            value[...] = before
    else:
        changed = isinstance(before, Contents) and before.put_back()
    return changed
