"""Numbers, switches and names, one at a time."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from lightning_stiffness.arguments.told import shown


def whole(argument: str, value: Any, least: int | None = None, *, of: str = "", why: str = "") -> int:
    """A whole number, also one of NumPy's, or in a tensor by itself.

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
    number = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise ValueError(f"expected {argument} to be a whole number{of}, got {shown(value)}")
    if least is not None and number < least:
        raise ValueError(f"expected {argument} of at least {least}{why}, got {number}")
    return int(number)


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


def budget(value: Any) -> int | None:
    """How many bytes the gradients held at a time may take; None for no bound.

    Raises:
        ValueError: for no whole number, or less than one.
    """
    if value is None:
        return None
    number = whole("memory_budget", value, of=" of bytes, such as 2_000_000_000")
    if number < 1:
        raise ValueError(f"expected memory_budget in bytes, at least 1, got {number}")
    return number


def seed(value: Any) -> int:
    """A seed of random numbers.

    Raises:
        ValueError: for no whole number, or one that torch does not take.
    """
    number = whole("seed", value)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"expected seed to have at most 64 bits, got {number}")
    return number


def fraction(argument: str, value: Any, example: float) -> float:
    """A number between 0 and 1, neither of them.

    Raises:
        ValueError: for anything else, also for a percentage; the message shows the example.

    Example:
        >>> fraction("level", 0.95, 0.9)
        0.95
    """
    number = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(number, bool) or not isinstance(number, Real) or not 0 < float(number) < 1:
        raise ValueError(
            f"expected {argument} to be a number between 0 and 1, such as {example}, got {shown(value)}"
        )
    return float(number)


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
