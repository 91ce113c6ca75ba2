"""What a container holds: put back, whatever class of its own it is."""

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

_KINDS: tuple[type, ...] = (OrderedDict, dict, list, deque, set, bytearray)
"""Their own methods are used, whatever a class that derives from one of them makes of these."""
_EXACT = {kind: kind for kind in _KINDS} | {defaultdict: dict, Counter: dict}


def kind_of(thing: Any) -> type | None:
    """The kind of container that something is; None of what is none.

    Example:
        >>> class Cache(OrderedDict):
        ...     pass
        >>> kind_of(Cache()), kind_of([]), kind_of("abc")
        (<class 'collections.OrderedDict'>, <class 'list'>, None)
    """
    exact = _EXACT.get(type(thing))
    if exact is not None:
        return exact
    return next((kind for kind in _KINDS if isinstance(thing, kind)), None)


def size_of(thing: Any) -> int:
    """How many entries a container, a tuple or a frozenset has, whatever a class of its own says.

    Example:
        >>> class Shapes(tuple):
        ...     def __len__(self):
        ...         raise NotImplementedError
        >>> size_of(Shapes((1, 2)))
        2
    """
    kind: Any = kind_of(thing) or (tuple if isinstance(thing, tuple) else frozenset)
    size: int = kind.__len__(thing)
    return size


def entries_of(thing: Any) -> list[Any]:
    """The same of what it holds; of a dict its values."""
    kind: Any = kind_of(thing) or (tuple if isinstance(thing, tuple) else frozenset)
    return [*(kind.values(thing) if issubclass(kind, dict) else kind.__iter__(thing))]


class Contents:
    """What a container holds when this is made.

    Example:
        >>> held = {"a": 1}
        >>> contents = Contents(held)
        >>> held.update(b=2)
        >>> contents.put_back(), contents.put_back()
        (True, False)
        >>> held
        {'a': 1}
    """

    __slots__ = ("_before", "_container", "_ids", "_kind")

    def __init__(self, container: Any) -> None:
        kind = kind_of(container)
        assert kind is not None
        self._container, self._kind = container, kind
        self._before = self._entries()
        self._ids = [*map(id, self._before)]

    def _entries(self) -> list[Any]:
        if issubclass(self._kind, dict):
            return [*self._kind.keys(self._container), *self._kind.values(self._container)]
        return [*self._kind.__iter__(self._container)]  # type: ignore[attr-defined]

    def put_back(self) -> bool:
        """It holds the same again, in place; it is not touched where nothing changed, and whether something had."""
        before = self._before
        if [*map(id, self._entries())] == self._ids:
            return False
        kind: Any = self._kind
        kind.clear(self._container)
        if issubclass(kind, dict):
            half = len(before) // 2
            for key, value in zip(before[:half], before[half:], strict=True):
                kind.__setitem__(self._container, key, value)
        elif kind is set:
            kind.update(self._container, before)
        else:
            kind.extend(self._container, before)
        return True
