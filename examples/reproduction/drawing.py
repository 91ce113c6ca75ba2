"""What the figures of the reproduction share: colours that all can tell apart, panels, bands over seeds."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reproduction.course import Course

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"
"""Of Okabe and Ito's palette."""
TEXT = {"axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8}
EPOCHS = (0, 1, 3, 10, 30, 100)

Runs = dict[str, list[Course]]
"""System → its runs."""


def panels(count: int, *, width: float = 3.0, height: float = 2.6, rows_each: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes ``[count]``, or ``[rows_each, count]``; places left over are empty."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows * rows_each, columns, squeeze=False)
    for place in range(count, rows * columns):
        for one in range(rows_each):
            grid[place // columns * rows_each + one, place % columns].set_axis_off()
    places = [divmod(place, columns) for place in range(count)]
    axes = [[grid[row * rows_each + one, column] for row, column in places] for one in range(rows_each)]
    return figure, axes if rows_each > 1 else axes[0]


def band(axes: Axes, x: Any, values: Sequence[Any], colour: Any, label: str | None = None, line: str = "-") -> None:
    """The mean over seeds, and the range of them, at each ``x``."""
    table = np.stack([np.asarray(own, dtype=float) for own in values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # moments without any value have no mean
        mean, low, high = (of(table, 0) for of in (np.nanmean, np.nanmin, np.nanmax))
    axes.plot(x, mean, line, color=colour, label=label, linewidth=1.6, marker=".", markersize=4)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def epochs_axis(axes: Axes, last: float, label: bool = True) -> None:
    """Epochs: even up to the first, then by their logarithm, so that the early moments are seen."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xlim(-0.05, last * 1.05)
    ticks(axes.xaxis, EPOCHS)
    if label:
        axes.set_xlabel("epochs")


def ticks(axis: Axis, values: Sequence[float]) -> None:
    """Those of the values that the axis shows, and no others."""
    low, high = sorted(axis.get_view_interval())
    shown = [value for value in values if low <= value <= high]
    axis.set_ticks(shown, labels=[f"{value:g}" for value in shown])
    axis.set_minor_locator(NullLocator())


def plain(axes: Axes) -> None:
    """No frame above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)


def shade(place: int, count: int) -> Any:
    """The colour of one of several things in order, dark to light."""
    return colormaps["viridis"](0.05 + 0.85 * place / max(1, count - 1))


def rates_of(courses: Sequence[Course]) -> list[float]:
    """Their learning rates, in order."""
    return sorted({course.rate for course in courses})


def main_runs(courses: Sequence[Course]) -> list[Course]:
    """Those at the rate of the claims that compare none."""
    return [course for course in courses if course.main]
