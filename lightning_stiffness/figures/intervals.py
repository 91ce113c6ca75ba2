"""Numbers with their intervals, to as many digits as it takes to see that the ends differ.

Reports and tables read them from here, and need no matplotlib for it.
"""

import math

NONE = "–"
"""What stands for a number that there is not."""
SAME = 1e-6
"""Width of an interval, as a share of what it is of, at which nothing but rounding tells its ends apart: it comes
from resamples that had nothing to choose from, such as classes of one example."""


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A value as people read it: a real minus sign, and no minus before zero.

    Example:
        >>> number(-0.127), number(-0.001), number(0.25, sign=True), number(math.nan)
        ('−0.13', '0.00', '+0.25', '–')
    """
    if not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def mean_digits(low: float, high: float) -> int | None:
    """Decimals at which the ends of a mean stiffness' interval are two units apart or more, at least two of them.

    The mean is written with as many: rounded more coarsely than its interval it would seem to lie outside.

    Args:
        low: low end; NaN where there is none.
        high: high end.

    Returns:
        Decimals; None where there is no interval, or both of its ends are the same.

    Example:
        >>> mean_digits(0.70, 0.75), mean_digits(0.001, 0.009), mean_digits(0.777, 0.777)
        (2, 3, None)
    """
    width = high - low
    if not (math.isfinite(width) and width > SAME):
        return None
    return max(2, math.ceil(math.log10(2 / width) - 1e-9))


def mean_words(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A mean stiffness with its interval behind it, without line breaks.

    Example:
        >>> mean_words(-0.087, -0.088, -0.086).replace("\u00a0", " "), mean_words(0.5)
        ('−0.087 [−0.088, −0.086]', '0.50')
    """
    digits = mean_digits(low, high)
    if digits is None:
        return number(value)
    return f"{number(value, digits)}\u00a0[{number(low, digits)},\u00a0{number(high, digits)}]"


def length_digits(low: float, high: float) -> int | None:
    """Digits at which the ends of an interval of ξ look different, at least three of them.

    Args:
        low: low end; may be infinite, and is NaN where there is none.
        high: high end.

    Returns:
        Digits; None where there is no interval, or both of its ends are the same.

    Example:
        >>> length_digits(0.5, 0.8), length_digits(1.0001, 1.0004), length_digits(0.5, math.inf)
        (3, 5, 3)
        >>> length_digits(2.0, 2.0) is None
        True
    """
    if math.isnan(low) or math.isnan(high) or high - low <= SAME * abs(high) < math.inf:
        return None
    # Ends that differ by more than a millionth differ in their first eight digits.
    return next((digits for digits in range(3, 9) if short_length(low, digits) != short_length(high, digits)), None)


def length_range(low: float, high: float) -> str:
    """An interval of ξ, whose ends may be open.

    Example:
        >>> length_range(1.0001, 1.0004), length_range(0.5, math.inf)
        ('1.0001 to 1.0004', '0.5 or more')
    """
    digits = length_digits(low, high)
    if digits is None:
        return ""
    if math.isinf(low) and math.isinf(high):
        return "any length"
    if math.isinf(high):
        return f"{short_length(low, digits)} or more"
    if math.isinf(low):
        return f"{short_length(high, digits)} or less"
    return f"{short_length(low, digits)} to {short_length(high, digits)}"


def short_length(length: float, digits: int = 3) -> str:
    """A length to three digits or more, whatever its unit.

    Example:
        >>> short_length(0.58), short_length(-12.345), short_length(12345.6), short_length(1234.56, 5)
        ('0.58', '−12.3', '12,346', '1,234.6')
    """
    if abs(length) < 999.5 or math.isinf(length):
        text = f"{length:.{digits}g}"
    else:
        whole = math.floor(math.log10(abs(length))) + 1
        text = f"{length:,.{max(0, digits - whole)}f}"
    return text.replace("-", "−")
