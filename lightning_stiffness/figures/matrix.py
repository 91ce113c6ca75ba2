"""Class matrix → heatmap."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from lightning_stiffness.figures.captions import captions
from lightning_stiffness.figures.intervals import number
from lightning_stiffness.figures.labels import Ticks, axis_ticks
from lightning_stiffness.figures.lettering import Lettering
from lightning_stiffness.figures.scales import add_scale, without_ticks
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
from lightning_stiffness.functional import class_order

VALUES_UP_TO = 12
"""Classes up to which every cell prints its value."""
BAR = 0.2
"""Inches that the colour bar is wide."""


def heatmap(
    matrix: Any,
    *,
    class_names: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
    group_names: Sequence[str] | None = None,
    order: Sequence[int] | str | None = None,
    counts: Any = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    p_value: float = math.nan,
    measure: str = "cos",
    title: str | None = None,
    row_label: str = "step taken on",
    column_label: str = "effect on",
    theme: str = "light",
) -> Figure:
    r"""Class matrix as a picture: does a step on one class help another?

    The colour of cell (a, b) is :math:`C(a, b)` (Fort et al., arXiv:1901.09491v3, section 2.3) on a scale
    that always runs from -1 (orange, hurts) over 0 (no effect) to 1 (blue, helps), so that figures
    compare. Cells without a value are grey and hatched. Up to twelve classes print their values.

    Args:
        matrix: class matrix ``[c, c]``, array or tensor, dimensionless, in [-1, 1]; NaN where there is no pair.
        class_names: name of each class; by default their numbers.
        groups: group (super-class) of each class, integers from 0: the classes are put in the order of
            their groups, and each group is outlined.
        group_names: name of each group; by default a group is called by its first classes.
        order: ``"given"``, ``"group"`` (by default where there are groups) or ``"cluster"``, see
            :func:`lightning_stiffness.functional.class_order`; or the classes in the order to show, a
            permutation of ``0 … c - 1``.
        counts: number of pairs behind each cell ``[c, c]``, for the caption.
        intervals: ends of the 95% intervals of ``within_class``, ``between_class``, ``within_superclass`` and
            ``between_superclass``, for the caption.
        p_value: of the permutation test of the grouping, for the caption.
        measure: ``"cos"`` or ``"sign"``.
        title: what is shown, such as block, epoch and step; the measure by default.
        row_label: title of the vertical axis.
        column_label: title of the horizontal axis.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if a shape, a length, the order, the measure or the theme does not fit, or a value
            lies outside [-1, 1].

    Example:
        >>> figure = heatmap([[0.5, 0.1], [0.1, 0.4]], class_names=["cat", "dog"], title="epoch 3, step 1200")
        >>> [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "left"]
        ['cat', 'dog']
    """
    colours = find_theme(theme)
    cells = _checked(matrix)
    size = len(cells)
    if measure not in MEASURES:
        raise ValueError(f"expected measure to be one of {', '.join(map(repr, MEASURES))}, got {measure!r}")
    names = [str(index) for index in range(size)] if class_names is None else [str(name) for name in class_names]
    if len(names) != size:
        raise ValueError(f"expected class_names to name the {size} classes of the matrix, got {len(names)} names")
    said = captions(
        cells, groups, None if counts is None else as_array(counts, "counts", (size, size)), intervals, p_value
    )
    rows = _order(cells, order, groups)
    shown = cells[np.ix_(rows, rows)]
    names = [names[row] for row in rows]
    kinds = None if groups is None else [int(groups[row]) for row in rows]
    missing = bool(np.isnan(shown).any())
    with plain_style():
        side = 3.6 if size <= 4 else 4.7 if size <= VALUES_UP_TO else 5.4 if size <= 24 else 6.2
        ticks = axis_ticks(names, kinds, group_names, pitch=side / size)
        left, right, top = 0.47 + ticks.row_width, 1.55, 0.82
        width = left + side + right
        lines = [line for caption in said for line in wrap(caption, width - 0.3, 9.5).split("\n")]
        foot = 0.17 * (len(lines) + missing) + 0.14
        bottom = foot + 0.32 + ticks.column_height
        height = bottom + side + top
        figure = new_figure(width, height, colours)
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        visible = np.ma.masked_invalid(shown)
        axes.imshow(visible, cmap=colours.colormap, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        _label_axes(axes, ticks, side, colours)
        style: dict[str, Any] = {"ha": "center", "color": colours.text, "size": 11, "parse_math": False}
        middle = (left + side / 2) / width, (bottom + side / 2) / height
        figure.text(0.2 / width, middle[1], row_label, rotation=90, va="center", **style)
        figure.text(middle[0], (foot + 0.1) / height, column_label, va="bottom", **style)
        _hatch(axes, np.isnan(shown), colours)
        if kinds is not None:
            _outline(axes, kinds, colours)
        if size <= VALUES_UP_TO:
            _print_values(axes, shown, side / size, colours)
        bar = figure.add_axes(((left + side + 0.22) / width, bottom / height, BAR / width, side / height))
        _colour_bar(bar, measure, colours)
        add_heading(figure, colours, "Does a step on one class help another?", title or MEASURES[measure])
        for index, line in enumerate(lines):
            y = (foot - 0.05 - 0.17 * (index + 1)) / height
            figure.text(0.15 / width, y, line, color=colours.text, size=9.5, va="bottom")
        if missing:
            _legend(figure, colours)
    return figure


def _checked(matrix: Any) -> Array:
    cells = as_array(matrix, "the class matrix")
    if cells.ndim != 2 or cells.shape[0] != cells.shape[1] or not len(cells):
        raise ValueError(f"expected a class matrix of shape [c, c] with c ≥ 1, got {list(cells.shape)}")
    if (np.abs(cells[~np.isnan(cells)]) > 1 + 1e-6).any():
        low, high = np.nanmin(cells), np.nanmax(cells)
        raise ValueError(
            f"expected stiffness in [-1, 1], got values from {low:.4g} to {high:.4g}: pass the class matrix of "
            "cosine or sign stiffness, not inner products"
        )
    return cells


def _order(cells: Array, order: Sequence[int] | str | None, groups: Sequence[int] | None) -> list[int]:
    size = len(cells)
    if isinstance(order, str):
        return class_order(torch.from_numpy(cells), order, None if groups is None else list(groups))
    if order is not None:
        rows = [int(row) for row in order]
        if sorted(rows) != list(range(size)):
            raise ValueError(f"expected order to hold each class from 0 to {size - 1} once, got {rows}")
        return rows
    if groups is not None:
        return sorted(range(size), key=lambda row: int(groups[row]))
    return list(range(size))


def _label_axes(axes: Axes, ticks: Ticks, inches: float, theme: Theme) -> None:
    style: dict[str, Any] = {"theme": theme, "inches": inches, "size": ticks.size, "mark": 2 * ticks.thinned}
    # Slanted names end at their own column; upright ones are centred below it.
    turned: dict[str, Any] = {"rotation": ticks.rotation, "va": "center" if ticks.rotation == 90 else "top"}
    turned |= {"ha": "right", "rotation_mode": "anchor"} if ticks.rotation else {}
    add_scale(axes, "left", ticks.places, ticks.names, **style)
    add_scale(axes, "bottom", ticks.places, ticks.names, **style, **turned)
    without_ticks(axes, theme)


def _hatch(axes: Axes, missing: Array, theme: Theme) -> None:
    """Hatch the cells without a value: one path for all of them, however many."""
    corners = np.argwhere(missing)[:, ::-1] - 0.5
    if not len(corners):
        return
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    vertices = (corners[:, None, :] + square).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(corners))
    cells = Path(vertices, codes)
    axes.add_artist(PathPatch(cells, facecolor="none", edgecolor=theme.hatch, hatch="///", linewidth=0))


def _outline(axes: Axes, groups: list[int], theme: Theme) -> None:
    starts = [0, *(i for i in range(1, len(groups)) if groups[i] != groups[i - 1]), len(groups)]
    boxes = []
    for start, end in pairwise(starts):
        low, high = start - 0.5, end - 0.5
        boxes.append([(low, low), (high, low), (high, high), (low, high), (low, low)])
    axes.add_collection(LineCollection(boxes, colors=theme.text, linewidths=1.6, clip_on=False), autolim=False)


def _print_values(axes: Axes, cells: Array, pitch: float, theme: Theme) -> None:
    size = min(12.0, 72 * pitch / 3.7)  # "−0.00" is 2.9 times as wide as its type is high
    shades = theme.colormap((cells + 1) / 2)[:, :, :3] @ (0.299, 0.587, 0.114)
    dark = shades > 0.55
    for ink, where in (("#111111", dark), ("#ffffff", ~dark)):
        places = np.argwhere(where & ~np.isnan(cells))
        texts = [number(cells[row, column]) for row, column in places]
        if texts:
            axes.add_artist(Lettering(texts, places[:, ::-1], size / (72 * pitch), ink))


def _colour_bar(axes: Axes, measure: str, theme: Theme) -> None:
    words = {
        -1.0: "−1  hurts",
        -0.5: "−0.5",
        -0.2: "−0.2",
        0.0: "0  no effect",
        0.2: "0.2",
        0.5: "0.5",
        1.0: "1  helps",
    }
    shades = np.linspace(-1, 1, 256)[:, None]
    axes.imshow(shades, cmap=theme.colormap, vmin=-1, vmax=1, extent=(0, 1, -1, 1), origin="lower", aspect="auto")
    add_scale(axes, "right", list(words), list(words.values()), theme=theme, inches=BAR, mark=3, size=9.5)
    without_ticks(axes, theme)
    axes.set_title(MEASURES[measure].replace(" ", "\n"), size=9.5, color=theme.text, loc="left", pad=9)


def _legend(figure: Figure, theme: Theme) -> None:
    width, height = figure.get_size_inches()
    figure.add_artist(
        Rectangle(
            (0.15 / width, 0.09 / height),
            0.3 / width,
            0.13 / height,
            facecolor=theme.missing,
            edgecolor=theme.hatch,
            hatch="////",
            linewidth=0.6,
            transform=figure.transFigure,
        )
    )
    figure.text(
        0.53 / width, 0.08 / height, "no pair of examples to measure", color=theme.text, size=9.5, va="bottom"
    )
