"""Numbers as people read them, in tables and on plain pages: with as many digits as in the figures."""

import math

from lightning_stiffness.figures.intervals import NONE as NONE
from lightning_stiffness.figures.intervals import length_digits, length_range, mean_digits, short_length
from lightning_stiffness.figures.intervals import number as number
from lightning_stiffness.report.runs import Number
from lightning_stiffness.result import Length


def ranged(of: Number, least: int = 2) -> tuple[str, str]:
    """A mean and its 95% interval, with as many decimals as it takes to see that the interval's ends differ.

    Args:
        of: the mean.
        least: decimals that it has at least.

    Returns:
        The mean, and the interval or nothing where there is none.

    Example:
        >>> ranged(Number(0.5, 0.4, 0.6)), ranged(Number(0.501, 0.5006, 0.5014)), ranged(Number(0.5))
        (('0.50', '0.40 to 0.60'), ('0.5010', '0.5006 to 0.5014'), ('0.50', ''))
    """
    digits = mean_digits(of.low, of.high)
    if digits is None:
        return number(of.value, least), ""
    digits = max(least, digits)
    return number(of.value, digits), f"{number(of.low, digits)} to {number(of.high, digits)}"


def ranged_length(of: Length | None) -> tuple[str, str]:
    """A critical length and its 95% interval, alike; ``≈`` where it lies beyond the distances measured.

    Example:
        >>> ranged_length(Length(1.0002, -1, 1, 99, True, "", low=1.0001, high=1.0004))
        ('≈ 1.0002', '1.0001 to 1.0004')
        >>> ranged_length(Length(1.5, -0.5, 0.75, 99, False, "", low=1.25, high=math.inf)), ranged_length(None)
        (('1.5', '1.25 or more'), ('–', ''))
    """
    if of is None:
        return NONE, ""
    digits = length_digits(of.low, of.high)
    value = NONE
    if math.isfinite(of.value):
        value = f"{'≈ ' if of.extrapolated else ''}{short_length(of.value, digits or 3)}"
    return value, length_range(of.low, of.high)
