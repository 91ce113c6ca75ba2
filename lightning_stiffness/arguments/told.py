"""What came instead, in a message."""

from typing import Any

LONGEST = 80
"""Characters of a value in a message."""


def shown(value: Any) -> str:
    """What came instead, for a message: a short value as it is, anything else by its kind alone.

    Example:
        >>> import numpy as np
        >>> shown("2GB"), shown([1, "a"]), shown(np.zeros(3)), shown(dict)
        ("'2GB'", "[1, 'a']", 'an ndarray', 'the class dict')
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
