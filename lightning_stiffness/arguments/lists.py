"""Lists, groups and mappings."""

import math
from collections.abc import Iterator, KeysView, Mapping, Sequence, ValuesView
from numbers import Integral, Real
from typing import Any

from lightning_stiffness.arguments.told import shown
from lightning_stiffness.arguments.values import whole


def entries(argument: str, value: Any, form: str) -> list[Any]:
    """What a list, a tuple, an array or an iterator of the caller's holds.

    Raises:
        ValueError: for a string, a mapping, a set, or what has no entries; of the last two, the order is nobody's.

    Example:
        >>> import numpy as np
        >>> entries("superclasses", np.array([0, 1]), "a list of groups")
        [0, 1]
    """
    if hasattr(value, "tolist") and not isinstance(value, type):
        listed = value.tolist()
    elif isinstance(value, Sequence | Iterator | KeysView | ValuesView) and not isinstance(value, str | bytes):
        listed = list(value)
    else:
        listed = None
    if not isinstance(listed, list):
        raise ValueError(f"expected {argument} to be {form}, got {shown(value)}")
    return listed


def names(argument: str, value: Any, form: str) -> list[str]:
    """A list of names; numbers count as names.

    Raises:
        ValueError: for anything else.
    """
    listed = entries(argument, value, form)
    for entry in listed:
        if isinstance(entry, bool) or not isinstance(entry, str | Integral):
            raise ValueError(f"expected {argument} to be {form}, got {shown(entry)} in it")
    return list(map(str, listed))


def real_numbers(argument: str, value: Any, form: str) -> list[float]:
    """A list of real numbers, NaN among them.

    Raises:
        ValueError: for anything else.

    Example:
        >>> real_numbers("mean", (1, float("nan")), "numbers [b]")
        [1.0, nan]
    """
    listed = [entry.item() if getattr(entry, "ndim", 1) == 0 else entry for entry in entries(argument, value, form)]
    for entry in listed:
        if isinstance(entry, bool) or not isinstance(entry, Real):
            raise ValueError(f"expected {argument} to be {form}, got {shown(entry)} in it")
    return list(map(float, listed))


def limits(argument: str, value: Any, *, apart: bool) -> tuple[float, float]:
    """Two ends of a range.

    Args:
        argument: its name.
        value: what came.
        apart: whether they have to differ.

    Raises:
        ValueError: for anything but two finite numbers in order.

    Example:
        >>> limits("limits", [0, 2], apart=True)
        (0.0, 2.0)
    """
    form = f"(low, high), finite and with low {'<' if apart else '<='} high"
    listed = entries(argument, value, form)
    plain = all(isinstance(end, Real) and not isinstance(end, bool) and math.isfinite(end) for end in listed)
    if not plain or len(listed) != 2 or not (listed[0] < listed[1] or (listed[0] == listed[1] and not apart)):
        raise ValueError(f"expected {argument} to be {form}, got {shown(value)}")
    return float(listed[0]), float(listed[1])


def groups(argument: str, value: Any) -> list[int] | list[list[int]]:
    """The group of each class, or several such lists.

    Raises:
        ValueError: for anything else.

    Example:
        >>> groups("superclasses", [[0, 1, 2], (0, 0, 1)])
        [[0, 1, 2], [0, 0, 1]]
    """
    form = "a list of integers, entry a for the group of class a, or several such lists"
    listed = [e.tolist() if hasattr(e, "tolist") else e for e in entries(argument, value, form)]
    if all(isinstance(entry, Integral) for entry in listed):
        return [whole(f"each entry of {argument}", entry) for entry in listed]
    if all(hasattr(entry, "__len__") and not isinstance(entry, str) for entry in listed):
        levels = [entries(f"each level of {argument}", level, form) for level in listed]
        return [[whole(f"each entry of {argument}", entry) for entry in level] for level in levels]
    raise ValueError(f"expected {argument} to be {form}, got {shown(listed)}")


def group_names(argument: str, value: Any) -> list[str] | list[list[str]]:
    """Names of groups, or a list of names for each of several levels.

    Raises:
        ValueError: for anything else.
    """
    form = "a list of names"
    listed = entries(argument, value, form)
    if all(isinstance(entry, str | Integral) for entry in listed):
        return names(argument, listed, form)
    return [names(f"each level of {argument}", level, form) for level in listed]


def mapping(argument: str, value: Any, example: str) -> dict[str, Any]:
    """A mapping from names; None for an empty one.

    Raises:
        ValueError: for anything else, which is not looked into: it may be the run's own data.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"expected {argument} to be a mapping, such as {example}, got {shown(value)}")
    return dict(value)
