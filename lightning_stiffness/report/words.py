"""Numbers as people read them, in tables and on plain pages."""

import math

from lightning_stiffness.report.runs import Number
from lightning_stiffness.result import Length

NONE = "–"


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A value with a real minus sign and no minus before zero.

    Example:
        >>> number(-0.127), number(-0.001), number(0.25, sign=True), number(float("nan"))
        ('−0.13', '0.00', '+0.25', '–')
    """
    if not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def spread(of: Number, digits: int = 2) -> str:
    """A 95% interval, or nothing.

    Example:
        >>> spread(Number(0.5, 0.4, 0.6)), spread(Number(0.5))
        ('0.40 to 0.60', '')
    """
    if not (math.isfinite(of.low) and math.isfinite(of.high)):
        return ""
    return f"{number(of.low, digits)} to {number(of.high, digits)}"


def length(of: Length | None) -> str:
    """A critical length, ``≈`` where it lies beyond the distances measured.

    Example:
        >>> length(Length(1.5, -0.5, 0.75, 99, True, "")), length(None)
        ('≈ 1.5', '–')
    """
    if of is None or not math.isfinite(of.value):
        return NONE
    return f"{'≈ ' if of.extrapolated else ''}{_digits(of.value)}"


def length_spread(of: Length | None) -> str:
    """The interval of a critical length, which may have no upper end.

    Example:
        >>> length_spread(Length(1.5, -0.5, 0.75, 99, False, "", low=1.25, high=float("inf")))
        '1.25 or more'
    """
    if of is None or not math.isfinite(of.low):
        return ""
    if math.isinf(of.high):
        return f"{_digits(of.low)} or more"
    return f"{_digits(of.low)} to {_digits(of.high)}" if math.isfinite(of.high) else ""


def _digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
