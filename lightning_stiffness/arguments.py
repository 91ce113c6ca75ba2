"""Settings as a caller writes them: checked one by one, with their name in the message, and made plain."""

import functools
import inspect
from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence, ValuesView
from numbers import Integral
from typing import Any

import numpy as np
from torch import nn

LONGEST = 80
"""Characters of a value in a message."""

LOSS = 'loss_fn=lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1], reduction="none")'
"""A loss as it is wanted, to paste."""


def shown(value: Any) -> str:
    """What came instead, for a message: a short value as it is, anything else by its kind alone.

    Example:
        >>> shown("2GB"), shown([1, "a"]), shown(np.zeros(3)), shown(nn.Linear)
        ("'2GB'", "[1, 'a']", 'an ndarray', 'the class Linear')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if _is_plain(value) or (isinstance(value, list | tuple) and all(map(_is_plain, value[:LONGEST]))):
        text = repr(value)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the function {value.__qualname__}"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "AEIOUaeiou" or kind == "ndarray" else f"a {kind}"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def whole(argument: str, value: Any, least: int | None = None, *, of: str = "", why: str = "") -> int:
    """A whole number, also one of NumPy's.

    Args:
        argument: its name.
        value: what came.
        least: the smallest one that is allowed; None for any.
        of: what it counts, for the message.
        why: the reason for ``least``, for the message.

    Raises:
        ValueError: for anything else, also for True and for 2.0.

    Example:
        >>> whole("bins", np.int64(20), 1)
        20
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"expected {argument} to be a whole number{of}, got {shown(value)}")
    if least is not None and value < least:
        raise ValueError(f"expected {argument} of at least {least}{why}, got {value}")
    return int(value)


def probe_size(value: Any) -> int | None:
    """How many examples of each split to measure on; None for as many as there are, up to a default.

    Raises:
        ValueError: for no whole number, or less than two.
    """
    if value is None:
        return None
    size = whole("probe_size", value, of=" of examples, or None for up to 500")
    if size < 2:
        raise ValueError(f"expected probe_size of at least 2, to have a pair to compare, got {size}")
    return size


def batches(argument: str, value: Any) -> int | Callable[[int], bool] | None:
    """At which numbers of batches something happens: every so many, where a function says so, or (None) never.

    Raises:
        ValueError: for anything else.
    """
    if value is None or isinstance(value, Integral):
        return None if value is None else whole(argument, value, 1)
    return function(argument, value, ("step",), "a whole number, or a function of the number of batches trained")


def seed(value: Any) -> int:
    """A seed of random numbers.

    Raises:
        ValueError: for no whole number, or one that torch does not take.
    """
    number = whole("seed", value)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"expected seed to have at most 64 bits, got {number}")
    return number


def switch(argument: str, value: Any) -> bool:
    """True or False.

    Raises:
        ValueError: for anything else: ``"no"`` would be true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"expected {argument} to be True or False, got {shown(value)}")
    return bool(value)


def choice(argument: str, value: Any, allowed: Sequence[str]) -> str:
    """One of several names.

    Raises:
        ValueError: for anything else; the message lists them.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"expected {argument} to be one of {list(allowed)}, got {shown(value)}")
    return value


def entries(argument: str, value: Any, form: str) -> list[Any]:
    """What a list, a tuple, an array or an iterator of the caller's holds.

    Raises:
        ValueError: for a string, a mapping, a set, or what has no entries; of the last two, the order is nobody's.

    Example:
        >>> entries("superclasses", np.array([0, 1]), "a list of groups")
        [0, 1]
    """
    if hasattr(value, "tolist"):
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


def groups(argument: str, value: Any) -> list[int] | list[list[int]]:
    """The group of each class, or several such lists.

    Raises:
        ValueError: for anything else.

    Example:
        >>> groups("superclasses", [[0, 1, 2], (0, 0, 1)])
        [[0, 1, 2], [0, 0, 1]]
    """
    form = "a list of integers, entry a for the group of class a, or several such lists"
    listed = entries(argument, value, form)
    if all(isinstance(entry, Integral) for entry in listed):
        return [whole(f"each entry of {argument}", entry) for entry in listed]
    if all(hasattr(entry, "__len__") and not isinstance(entry, str) for entry in listed):
        levels = [entries(f"each level of {argument}", level, form) for level in listed]
        return [[whole(f"each entry of {argument}", entry) for entry in level] for level in levels]
    raise ValueError(f"expected {argument} to be {form}, got {shown(value)}")


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


def function(argument: str, value: Any, takes: Sequence[str], form: str) -> Callable[..., Any]:
    """A function that can be called with these arguments, as far as it tells.

    Args:
        argument: its name.
        value: what came.
        takes: what it is called with, by position.
        form: what is expected, in words.

    Raises:
        ValueError: for what cannot be called, or not with as many arguments.
    """
    if not callable(value):
        raise ValueError(f"expected {argument} to be {form}, got {shown(value)}")
    called: Callable[..., Any] = value
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # some that are built in do not tell
        return called
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise ValueError(
            f"expected {argument} to be {form}, called as {argument}({', '.join(takes)}), got {shown(value)}, "
            f"which takes ({', '.join(signature.parameters)})"
        ) from error
    return called


def loss(value: Any) -> Callable[..., Any]:
    """A loss of a module and a batch.

    Raises:
        ValueError: for anything else, such as a loss of outputs and targets; the message shows how to wrap it.
    """
    form = "a function of a module and a batch that returns losses [n], their mean or sum"
    inner = value
    while isinstance(inner, functools.partial):
        inner = inner.func
    of_outputs = isinstance(inner, nn.Module) or (isinstance(inner, type) and issubclass(inner, nn.Module))
    # Their own losses would be called with a module for the outputs, which fails in the middle of a run.
    if of_outputs or (getattr(inner, "__module__", None) or "").split(".")[0] in ("torch", "torchmetrics"):
        raise ValueError(
            f"expected loss_fn to be {form}, got {shown(inner)}, which takes outputs and targets: wrap it, as in "
            f"{LOSS}"
        )
    if not callable(value):
        raise ValueError(f"expected loss_fn to be {form}, got {shown(value)}: pass a function such as {LOSS}")
    return function("loss_fn", value, ("module", "batch"), form)


def path_name(argument: str, value: Any) -> str:
    """What logged names, and a folder within the log directory, begin with.

    Raises:
        ValueError: for anything that is no such name, or leads out of the directory.
    """
    parts = value.split("/") if isinstance(value, str) else []
    if not parts or any(not part.strip() or part.strip() in (".", "..") for part in parts) or "\\" in value:
        raise ValueError(
            f"expected {argument} to begin the logged names with, such as 'stiffness', and to be a folder within "
            f"the log directory, got {shown(value)}"
        )
    return str(value)


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
