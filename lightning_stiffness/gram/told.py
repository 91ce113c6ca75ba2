"""Numbers that Python is told, which know whether it compares them with others."""

import math
from collections.abc import Callable
from typing import Any

MOST = 4096
"""Numbers of a list that are watched: longer ones are for a log."""


class Comparison:
    """Whether a number, or what was made of it, was compared with another."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made = False


class Told(float):
    """A float like any other, which remembers that Python compared it: then it may decide by it.

    To write a number to a log, or to add it to others, decides on nothing. That it is compared with itself, or with
    infinity, as to see whether it is a number, does not count.

    Example:
        >>> comparison = Comparison()
        >>> loss = Told(2.5, comparison)
        >>> f"{loss:.2f}", loss == float("inf"), comparison.made
        ('2.50', False, False)
        >>> (loss / 2 > 1, comparison.made)
        (True, True)
    """

    comparison: Comparison

    def __new__(cls, value: float, comparison: Comparison) -> "Told":
        """A number, and where to enter that it was compared."""
        told = super().__new__(cls, value)
        told.comparison = comparison
        return told

    def __reduce__(self) -> tuple[Any, ...]:
        """What is kept of it is the plain number."""
        return float, (float(self),)

    def __deepcopy__(self, memo: Any) -> float:
        return float(self)

    def __copy__(self) -> float:
        return float(self)

    def __bool__(self) -> bool:
        self.comparison.made = True
        return super().__bool__()

    __hash__ = float.__hash__


def _comparing(name: str) -> Callable[[Told, Any], Any]:
    of_floats = getattr(float, name)

    def compare(self: Told, other: Any) -> Any:
        finite = isinstance(other, int | float) and math.isfinite(other)
        if other is not self and (finite or not isinstance(other, int | float)):
            self.comparison.made = True
        return of_floats(self, other)

    return compare


def _making(name: str) -> Callable[..., Any]:
    of_floats = getattr(float, name)

    def make(self: Told, *others: Any) -> Any:
        made = of_floats(self, *others)
        if type(made) is float:
            return Told(made, self.comparison)
        if type(made) is int:  # which keeps no account
            self.comparison.made = True
        return made

    return make


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Told, f"__{_name}__", _comparing(f"__{_name}__"))
for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "mod", "rmod", "floordiv"),
    *("rfloordiv", "neg", "pos", "abs", "round", "int", "trunc", "floor", "ceil"),
):
    setattr(Told, f"__{_name}__", _making(f"__{_name}__"))


def plain(node: Any) -> Any:
    """The number itself: what looks at a call's arguments is not to be taken for Python's own comparing them."""
    return float(node) if type(node) is Told else node


def watched(out: Any, comparison: Comparison) -> Any:
    """What a call gave Python, with its numbers watched."""
    if type(out) is float:
        return Told(out, comparison)
    if type(out) is list and len(out) <= MOST and all(type(one) is float for one in out):
        return [Told(one, comparison) for one in out]
    return out
