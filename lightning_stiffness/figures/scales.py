"""Numbers and names along a side of a plot. Matplotlib's ticks, of five parts each, take three times as long."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from lightning_stiffness.figures.style import Theme

GAP = 3.0
"""Points between a mark and its word."""


def add_scale(
    axes: Axes,
    side: str,
    places: Sequence[float],
    words: Sequence[str],
    *,
    theme: Theme,
    inches: float,
    mark: float = 0.0,
    **style: Any,
) -> None:
    """Words along one side of a plot, outside of it.

    Args:
        axes: the plot.
        side: ``"left"``, ``"right"`` or ``"bottom"``.
        places: where they stand, in units of the axis.
        words: what they say.
        theme: colours.
        inches: how far the plot reaches away from that side.
        mark: length of the marks in points; 0 for none.
        style: of the words, as matplotlib's ``Text`` takes it; they keep the name of the side as ``gid``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lightning_stiffness.figures.style import THEMES
        >>> axes = Figure().add_axes((0.2, 0.2, 0.7, 0.7))
        >>> add_scale(axes, "left", [0.0, 1.0], ["none", "all"], theme=THEMES["light"], inches=3.0, mark=3.0)
        >>> [text.get_text() for text in axes.texts]
        ['none', 'all']
    """
    beside = side != "bottom"
    outwards, edge = (1, 1.0) if side == "right" else (-1, 0.0)
    point = outwards / (72 * inches)
    at = edge + (mark + GAP) * point
    transform = axes.get_yaxis_transform() if beside else axes.get_xaxis_transform()
    placed = {"ha": "left" if side == "right" else "right", "va": "center_baseline"} if beside else {"ha": "center"}
    style = {"color": theme.text, "parse_math": False, "gid": side, "va": "top", **placed, **style}
    for place, word in zip(places, words, strict=True):
        axes.text(*((at, place) if beside else (place, at)), word, transform=transform, **style)
    if mark:
        ends = edge, edge + mark * point
        lines = [[(end, place) if beside else (place, end) for end in ends] for place in places]
        marks = LineCollection(lines, colors=theme.muted, linewidths=0.8, clip_on=False, transform=transform)
        axes.add_collection(marks, autolim=False)


def without_ticks(axes: Axes, theme: Theme) -> None:
    """Only the frame of a plot, in muted colour."""
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(theme.muted)


def round_numbers(low: float, high: float, most: int, *, whole: bool = False) -> dict[float, str]:
    """Round numbers within a range, and how they are written.

    Args:
        low: least.
        high: greatest.
        most: about how many steps between them, at most.
        whole: integers only.

    Example:
        >>> round_numbers(-0.13, 0.31, 5)
        {-0.1: '−0.1', 0.0: '0', 0.1: '0.1', 0.2: '0.2', 0.3: '0.3'}
    """
    found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high).tolist()
    room = 1e-9 * (high - low)
    near = [value for value in found if low - room <= value <= high + room]
    step = found[1] - found[0] if len(found) > 1 else 1.0
    digits = max(0, 2 - math.floor(math.log10(step)))  # of which the steps need two at most
    rounded = [round(value, digits) + 0.0 for value in near]  # + 0.0: there is no −0
    return {value: f"{value:,.10g}".replace("-", "−") for value in rounded}
