"""Names of classes and layers, short enough to stand along an axis."""

from collections.abc import Sequence


def shorten(name: str, limit: int) -> str:
    """A name on one line, of at most ``limit`` signs; its middle is left out, as many names begin alike.

    Example:
        >>> shorten("sweet  pepper", 20), shorten("very long name", 8)
        ('sweet pepper', 'very…ame')
    """
    name = " ".join(name.split())
    return name if len(name) <= limit else _cut(name, limit, limit // 2)


def shorten_all(names: Sequence[str], limit: int) -> list[str]:
    """Names of at most ``limit`` signs each, cut so that those that differ go on doing so.

    The middle is left out, else the beginning or the end; where no such cut tells all of them apart, those that
    would look alike end in their place among the names.

    Example:
        >>> shorten_all(["a rather long class 1", "a rather long class 2"], 12)
        ['a rath…ass 1', 'a rath…ass 2']
        >>> shorten_all(["block 1 of the same kind", "block 2 of the same kind"], 10)
        ['block 1 o…', 'block 2 o…']
    """
    whole = [" ".join(name.split()) for name in names]
    for kept in (limit // 2, 0, limit - 1):
        found = [name if len(name) <= limit else _cut(name, limit, kept) for name in whole]
        if len(set(found)) == len(set(whole)):
            return found
    short = [shorten(name, limit) for name in whole]
    meant: dict[str, set[str]] = {}
    for name, one in zip(whole, short, strict=True):
        meant.setdefault(one, set()).add(name)
    places = {name: f"{place}" for place, name in enumerate(whole)}  # equal names have one place
    return [
        f"{one[: limit - len(places[name]) - 1].rstrip('… ')}…{places[name]}" if len(meant[one]) > 1 else one
        for name, one in zip(whole, short, strict=True)
    ]


def _cut(name: str, limit: int, kept: int) -> str:
    """``kept`` signs of the beginning, and of the end as many as ``limit`` leaves."""
    rest = limit - 1 - kept
    return name[:kept].rstrip() + "…" + (name[-rest:].lstrip() if rest else "")
