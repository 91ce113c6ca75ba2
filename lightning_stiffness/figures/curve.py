"""Stiffness against distance → figure with the critical length ξ."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from lightning_stiffness.figures.captions import length_verdict
from lightning_stiffness.figures.intervals import length_digits, short_length
from lightning_stiffness.figures.scales import add_scale, round_numbers, without_ticks
from lightning_stiffness.figures.style import (
    MEASURES,
    Array,
    Theme,
    add_heading,
    as_array,
    find_theme,
    new_figure,
    plain_style,
    wrap,
)

WIDTH, HEIGHT = 7.0, 6.2
BROAD, LOW = 5.65, 0.8
"""Width of the plots, and height of the lower one, in inches."""
Z95 = 1.959963984540054
"""Standard errors on either side of a mean that make a 95% interval."""
SMALLEST_RANGE = 0.02
"""Stiffness that the vertical axis spans at least."""


def distance_curve(
    edges: Any,
    mean: Any,
    error: Any = None,
    count: Any = None,
    *,
    line: tuple[float, float] | None = None,
    critical_length: float | None = None,
    critical_interval: tuple[float, float] | None = None,
    reason: str = "",
    extrapolated: bool = False,
    measure: str = "cos",
    pairs: str = "of the same class",
    distance: str = "distance between the two inputs",
    title: str | None = None,
    theme: str = "light",
) -> Figure:
    r"""Stiffness against distance as a picture: how far does a step on one example reach?

    Each point is the mean stiffness of the pairs in one bin of distance, with its 95% interval, joined to a band
    where the interval's ends are given; the strip below counts the pairs. The line :math:`\alpha + \beta d`
    crosses zero at the critical length :math:`\xi` (Fort et al., arXiv:1901.09491v3, sections 2.4 and 2.5). Empty
    bins are left out.

    Args:
        edges: bin borders ``[b + 1]``, or bin centres ``[b]``, in units of distance.
        mean: mean stiffness of each bin ``[b]``; NaN in an empty one.
        error: standard errors ``[b]``, drawn as mean ± 1.96 of them, or a pair ``(low, high)`` of interval
            ends ``[b]``; a bin without one, or with equal ends, is drawn hollow.
        count: number of pairs in each bin ``[b]``.
        line: ``(slope, intercept)`` of the fitted line.
        critical_length: ξ in units of distance; NaN or None where there is none.
        critical_interval: ends of its 95% interval; an end may be infinite.
        reason: why there is none.
        extrapolated: ξ lies outside the distances observed.
        measure: ``"cos"`` or ``"sign"``.
        pairs: which pairs the curve is of, in words.
        distance: title of the horizontal axis.
        title: what is shown, such as block, epoch and step; the measure by default.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if shapes do not fit, or the measure or the theme is unknown.

    Example:
        >>> figure = distance_curve([0, 0.5, 1], [0.4, -0.2], [0.1, 0.1], [30, 50], critical_length=0.58)
        >>> [text.get_text() for text in figure.texts if "ξ" in text.get_text()]
        ['ξ = 0.58: examples nearer to each other than ξ improve together.']
    """
    colours = find_theme(theme)
    if measure not in MEASURES:
        raise ValueError(f"expected measure to be one of {', '.join(map(repr, MEASURES))}, got {measure!r}")
    borders, means, low, high, counts = _checked(edges, mean, error, count)
    centers = (borders[:-1] + borders[1:]) / 2
    xi = math.nan if critical_length is None else float(critical_length)
    digits = None if critical_interval is None else length_digits(*critical_interval)
    around = None if digits is None else critical_interval
    with plain_style():
        figure = new_figure(WIDTH, HEIGHT, colours)
        words = wrap(length_verdict(xi, around, reason, extrapolated, borders), WIDTH - 0.3, 11)
        tall = 3.1 - 0.18 * words.count("\n")
        axes = figure.add_axes((1.15 / WIDTH, 2.15 / HEIGHT, BROAD / WIDTH, tall / HEIGHT))
        strip = figure.add_axes((1.15 / WIDTH, 1.1 / HEIGHT, BROAD / WIDTH, LOW / HEIGHT))
        left, right = _reach(borders, xi)
        bottom, top = _heights(means, low, high, line, borders)
        axes.set(xlim=(left, right), ylim=(bottom, top))
        strip.set_xlim(left, right)
        axes.axhline(0, color=colours.text, linewidth=1.0)
        if line is not None and all(map(math.isfinite, line)):
            ends = np.array([left, right])
            axes.plot(
                ends, line[1] + line[0] * ends, color=colours.hurts, linewidth=1.8, label="line fitted to all pairs"
            )
        _points(axes, centers, means, low, high, error, colours)
        if math.isfinite(xi) and left <= xi <= right:
            axes.axvspan(left, xi, color=colours.shade, zorder=0, linewidth=0)
            label = f"ξ = {short_length(xi, digits or 3)}"
            axes.axvline(xi, color=colours.helps, linewidth=1.6, linestyle="--", label=label)
            if around is not None:
                _whisker(axes, around, left, right, colours)
            axes.plot([xi], [0], marker="D", color=colours.helps, markersize=8, markeredgecolor=colours.background)
        _counts(strip, borders, counts, colours)
        _dress(axes, strip, measure, pairs, distance, colours)
        add_heading(figure, colours, "How far does a step on one example reach?", title or MEASURES[measure])
        ink = colours.helps if math.isfinite(xi) else colours.hurts
        figure.text(0.15 / WIDTH, 1 - 0.68 / HEIGHT, words, color=ink, size=11, va="top", parse_math=False)
    return figure


def _checked(edges: Any, mean: Any, error: Any, count: Any) -> tuple[Array, Array, Array, Array, Array | None]:
    means = as_array(mean, "mean")
    if means.ndim != 1 or not len(means):
        raise ValueError(f"expected mean of shape [b] with b ≥ 1, got {list(means.shape)}")
    bins = len(means)
    borders = as_array(edges, "edges")
    if borders.shape == (bins,):  # centres: the borders lie half-way between them
        half = np.diff(borders) / 2 if bins > 1 else np.array([0.5])
        borders = np.concatenate(
            [[borders[0] - half[0]], borders[:-1] + half[: bins - 1], [borders[-1] + half[-1]]]
        )
    if borders.shape != (bins + 1,):
        raise ValueError(
            f"expected {bins + 1} bin borders or {bins} bin centres for {bins} means, got {list(borders.shape)}"
        )
    if not (np.diff(borders) > 0).all():
        raise ValueError(f"expected bins of increasing distance, got {borders.tolist()}")
    if isinstance(error, tuple) and len(error) == 2:
        low, high = as_array(error[0], "low", (bins,)), as_array(error[1], "high", (bins,))
    elif error is not None:
        spread = Z95 * as_array(error, "error", (bins,))
        low, high = means - spread, means + spread
    else:
        low, high = np.full(bins, np.nan), np.full(bins, np.nan)
    return borders, means, low, high, None if count is None else as_array(count, "count", (bins,))


def _reach(borders: Array, xi: float) -> tuple[float, float]:
    """Range of the horizontal axis: the bins, and ξ where it is not far outside them."""
    low, high = float(borders[0]), float(borders[-1])
    span = high - low
    if math.isfinite(xi) and low - 0.5 * span <= xi <= high + 0.5 * span:
        low, high = min(low, xi), max(high, xi)
    return low - 0.03 * span, high + 0.03 * span


def _heights(
    means: Array, low: Array, high: Array, line: tuple[float, float] | None, borders: Array
) -> tuple[float, float]:
    """Range of the vertical axis: zero, the points and the line, with intervals as far as stiffness goes."""
    values = [0.0, *means[~np.isnan(means)]]
    # The interval of a bin of few pairs may be far wider than the curve is high: it may leave the picture.
    reach = 1.5 * max(0.05, max(values) - min(values))
    for ends in (low, high):
        near = ends[~np.isnan(ends)]
        values += list(np.clip(near, min(values) - reach, max(values) + reach)) if len(near) else []
    if line is not None and all(map(math.isfinite, line)):
        values += [float(np.clip(line[1] + line[0] * x, -1, 1)) for x in (borders[0], borders[-1])]
    if np.isnan(means).all():
        return -1.05, 1.05
    lowest, highest = max(-1.0, min(values)), min(1.0, max(values))
    # Less than this is no structure: it should not fill the picture.
    spare = max(0.0, SMALLEST_RANGE - (highest - lowest)) / 2
    span = highest - lowest + 2 * spare
    return lowest - spare - 0.08 * span, highest + spare + 0.08 * span


def _points(axes: Axes, centers: Array, means: Array, low: Array, high: Array, error: Any, theme: Theme) -> None:
    known = ~np.isnan(means) & (high > low)  # of one pair there is nothing to resample: its ends are equal
    alone = ~np.isnan(means) & ~known
    style: dict[str, Any] = {"color": theme.text, "marker": "o", "linestyle": "none", "markersize": 5.5}
    if known.any():
        note = "mean of a bin, 95% interval" + ("" if isinstance(error, tuple) else " (pairs as if independent)")
        if isinstance(error, tuple):  # a band over bins next to each other; NaN leaves a gap
            note += " (grey band)"
            ends = [np.where(known, end, np.nan) for end in (low, high)]
            axes.fill_between(centers, *ends, color=theme.muted, alpha=0.22, linewidth=0)
        axes.vlines(centers[known], low[known], high[known], color=theme.muted, linewidth=1.8, gid="intervals")
        axes.plot(centers[known], means[known], label=note, **style)
    if alone.any():
        axes.plot(centers[alone], means[alone], label="mean of a bin, no interval", markerfacecolor="none", **style)


def _whisker(axes: Axes, ends: tuple[float, float], left: float, right: float, theme: Theme) -> None:
    """The interval of ξ on the zero line; an end outside the picture has no cap."""
    low, high = max(ends[0], left), min(ends[1], right)
    if low > high:
        return
    style: dict[str, Any] = {"color": theme.helps, "zorder": 2.4}
    axes.plot([low, high], [0, 0], linewidth=3.2, alpha=0.8, label="95% interval of ξ", **style)
    inside = [end for end in ends if left <= end <= right]
    axes.plot(inside, [0] * len(inside), linestyle="none", marker="|", markersize=11, markeredgewidth=2, **style)


def _counts(strip: Axes, borders: Array, counts: Array | None, theme: Theme) -> None:
    if counts is None:
        return
    bars = [
        [(left, 0), (left, count), (right, count), (right, 0)]
        for (left, right), count in zip(pairwise(borders.tolist()), counts.tolist(), strict=True)
        if count > 0
    ]
    # One shape for all of them is drawn in a tenth of the time
    shape = PolyCollection(bars, facecolor=theme.muted, alpha=0.55, edgecolor=theme.background, linewidth=0.6)
    strip.add_collection(shape, autolim=False)
    strip.set_ylim(0, max(1.0, float(counts.max(initial=0))) * 1.1)


def _dress(axes: Axes, strip: Axes, measure: str, pairs: str, distance: str, theme: Theme) -> None:
    style: dict[str, Any] = {"theme": theme, "mark": 3.5, "size": 10}
    for one in (axes, strip):
        one.set_facecolor("none")
        without_ticks(one, theme)
        for side in ("right", "top"):
            one.spines[side].set_visible(False)
    heights = round_numbers(*axes.get_ylim(), 8)
    add_scale(axes, "left", list(heights), list(heights.values()), inches=BROAD, **style)
    axes.hlines(list(heights), *axes.get_xlim(), color=theme.grid, linewidth=0.6, zorder=0.5)
    counts = round_numbers(*strip.get_ylim(), 2, whole=True)
    add_scale(strip, "left", list(counts), list(counts.values()), inches=BROAD, **style)
    reach = round_numbers(*strip.get_xlim(), 9)  # serves both
    add_scale(strip, "bottom", list(reach), list(reach.values()), inches=LOW, **style)
    words: dict[str, Any] = {"color": theme.text, "size": 10.5, "parse_math": False, "ha": "center"}
    upright: dict[str, Any] = {
        "rotation": 90,
        "rotation_mode": "anchor",
        "va": "bottom",
        "multialignment": "center",
    }
    # Without the 0 between them: the words stand at the middle of the axis, where 0 is only by chance.
    says = f"mean {MEASURES[measure]}\nhurts   ←      →   helps"
    axes.text(-0.135, 0.5, says, transform=axes.transAxes, **words, **upright)
    strip.text(-0.135, 0.5, "pairs", transform=strip.transAxes, **words, **upright)
    below = -24 / (72 * LOW)
    strip.text(0.5, below, f"{distance} (pairs {pairs})", transform=strip.transAxes, va="top", **words)
    handles, labels = axes.get_legend_handles_labels()
    if handles:  # below the plots, where it hides no point
        strip.figure.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.06, 0.0),
            ncols=2 if len(handles) <= 4 else 3,
            fontsize=9.5,
            labelcolor=theme.text,
            frameon=False,
            handlelength=1.6,
            columnspacing=1.5,
        )
