"""A class matrix as text: numbers on their colours where there is room, colours alone where there is less."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_stiffness.palette import colour_of

Array = NDArray[Any]
NAME = 16
"""Columns that a class's name may take."""
MISSING = (0xD2, 0xD2, 0xD2)
CELL = 5


def matrix_lines(
    matrix: Array, names: Sequence[str], groups: Sequence[int] | None, *, width: int, coloured: bool
) -> list[Any]:
    """Lines of rich text that show a class matrix.

    Without colours every number is written, however wide that gets. With colours, numbers give way to colour where
    ``width`` is too little: first one cell in two columns, then two rows in one line. A matrix that fits in no way
    has no lines.

    Args:
        matrix: class matrix ``[c, c]``.
        names: names of the classes.
        groups: group of each class, or None; classes are put in this order.
        width: columns of the terminal.
        coloured: whether it shows colours.

    Returns:
        The lines.

    Example:
        >>> lines = matrix_lines(np.array([[0.5, -0.25]] * 2), ["cat", "dog"], None, width=80, coloured=False)
        >>> print("\\n".join(line.plain for line in lines))
                0    1
        0 cat  .50 -.25
        1 dog  .50 -.25
    """
    order = range(len(names)) if groups is None else sorted(range(len(names)), key=lambda i: (groups[i], i))
    titles = [f"{place} {' '.join(names[i].split())}" for place, i in enumerate(order)]
    if all(title == f"{place} {place}" for place, title in enumerate(titles)):  # classes without names
        titles = [str(place) for place in range(len(titles))]
    titles = [title if len(title) <= NAME else title[: NAME - 1] + "…" for title in titles]
    left = max(map(len, titles)) + 1
    shown = matrix[np.ix_(order, order)]
    if not coloured or left + CELL * len(names) <= width:
        return _numbers(shown, titles, left)
    if left + 2 * len(names) <= width:
        return _cells(shown, titles, left)
    if left + len(names) <= width:
        return _halves(shown, titles, left)
    return []


def cell(value: float) -> str:
    """A stiffness in four columns.

    Example:
        >>> cell(0.128), cell(-0.5), cell(1.0), cell(float("nan")), cell(-0.001)
        (' .13', '-.50', '1.00', '   –', ' .00')
    """
    if math.isnan(value):
        return "   –"
    text = f"{value:.2f}"
    if float(text) == 0:
        text = "0.00"
    text = text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    return f"{text if len(text) < 5 else text[:-1]:>4}"


def style_of(value: float) -> str:
    """The colours of a number: its own behind it, and black or white, whichever is read more easily on that.

    Example:
        >>> style_of(0.5), style_of(0.0)
        ('#ffffff on #2468ad', '#111111 on #ffffff')
    """
    red, green, blue = MISSING if math.isnan(value) else colour_of(value)
    ink = "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
    return f"{ink} on #{red:02x}{green:02x}{blue:02x}"


def _numbers(matrix: Array, titles: list[str], left: int) -> list[Any]:
    from rich.text import Text

    head = " " * left + "".join(f"{place:>{CELL}}" for place in range(len(titles)))
    lines = [Text(head.rstrip())]
    for title, row in zip(titles, matrix, strict=True):
        line = Text(f"{title:<{left - 1}} ")
        for value in row:
            line.append(f"{cell(value):>{CELL}}", style_of(value))
        lines.append(line)
    return lines


def _cells(matrix: Array, titles: list[str], left: int) -> list[Any]:
    from rich.text import Text

    lines = []
    for title, row in zip(titles, matrix, strict=True):
        line = Text(f"{title:<{left}}")
        for value in row:
            line.append(" ?" if math.isnan(value) else "  ", style_of(value))
        lines.append(line)
    return lines


def _halves(matrix: Array, titles: list[str], left: int) -> list[Any]:
    """Two rows a line: the upper one is the colour of a half block, the lower one that behind it."""
    from rich.text import Text

    lines = []
    for place in range(0, len(matrix), 2):
        line = Text(f"{titles[place]:<{left}}")
        below = matrix[place + 1] if place + 1 < len(matrix) else [None] * len(titles)
        for upper, lower in zip(matrix[place], below, strict=True):
            behind = "" if lower is None else f" on {_hex(lower)}"
            line.append("▀", f"{_hex(upper)}{behind}")
        lines.append(line)
    return lines


def _hex(value: float) -> str:
    red, green, blue = MISSING if math.isnan(value) else colour_of(value)
    return f"#{red:02x}{green:02x}{blue:02x}"


def strongest(matrix: Array, names: Sequence[str], most: int = 3) -> list[str]:
    """The classes that help themselves most and least, and the pairs that help and hurt each other most, in words.

    Example:
        >>> strongest(np.array([[0.5, -0.25], [0.125, 0.75]]), ["cat", "dog"], most=1)
        ['own class most: dog .75', 'own class least: cat .50', 'helps another most: dog → cat .12', \
'hurts another most: cat → dog -.25']
    """
    own = [(float(matrix[i, i]), names[i]) for i in range(len(names)) if not math.isnan(matrix[i, i])]
    pairs = [
        (float(matrix[i, j]), f"{names[i]} → {names[j]}")
        for i in range(len(names))
        for j in range(len(names))
        if i != j and not math.isnan(matrix[i, j])
    ]
    helps, hurts = [pair for pair in pairs if pair[0] > 0], [pair for pair in pairs if pair[0] < 0]
    found = [
        ("own class most", sorted(own, reverse=True)),
        ("own class least", sorted(own)),
        ("helps another most", sorted(helps, reverse=True)),
        ("hurts another most", sorted(hurts)),
    ]
    return [
        f"{title}: {', '.join(f'{name} {cell(value).strip()}' for value, name in best[:most])}"
        for title, best in found
        if best
    ]


def sparkline(values: Sequence[float], low: float, high: float, most: int = 60) -> str:
    """Values as a row of bars between two ends; of more than ``most``, evenly spaced ones and the last.

    Example:
        >>> sparkline([0.0, 0.5, 1.0, float("nan")], 0.0, 1.0)
        '▁▅█ '
    """
    if len(values) > most:
        values = [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
    span = high - low or 1.0
    bars = "▁▂▃▄▅▆▇█"
    return "".join(" " if math.isnan(v) else bars[min(7, max(0, int((v - low) / span * 8)))] for v in values)
