"""Stiffness of each layer → figure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_stiffness.figures.intervals import number
from lightning_stiffness.figures.labels import FILL, SMALLEST
from lightning_stiffness.figures.names import shorten_all
from lightning_stiffness.figures.style import (
    MEASURES,
    Array,
    add_heading,
    as_array,
    find_theme,
    new_figure,
    plain_style,
    text_width,
)

WIDTH = 7.0
TALLEST = 9.0
"""Inches that the layers take at most."""
KINDS = {
    "within_class": ("within a class", "o", "helps"),
    "between_class": ("between classes", "s", "muted"),
    "overall": ("all pairs", "o", "helps"),
}
"""Mean → what it is called, its mark, and its colour in the theme."""


def layer_curve(
    layers: Sequence[str],
    numbers: Mapping[str, Sequence[float]],
    *,
    whole: Mapping[str, float] | None = None,
    measure: str = "cos",
    title: str | None = None,
    theme: str = "light",
) -> Figure:
    """Stiffness of each layer's gradients as a picture: in which layers do examples agree?

    Each mark is the mean stiffness taken from the gradients of one layer's parameters alone, in the order of the
    network from top to bottom; the line in its colour is that of the whole network.

    Args:
        layers: their names ``[l]``.
        numbers: ``within_class`` and ``between_class``, or ``overall`` where there are no classes → mean stiffness
            of each layer ``[l]``, dimensionless, in [-1, 1]; NaN where there is none.
        whole: the same names → that of the whole network.
        measure: ``"cos"`` or ``"sign"``.
        title: what is shown, such as block, epoch and step; the measure by default.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if there is no layer, a length does not fit, or the measure or the theme is unknown.

    Example:
        >>> figure = layer_curve(["body", "head"], {"within_class": [0.2, 0.6], "between_class": [0.0, -0.1]})
        >>> [text.get_text() for text in figure.texts][:1]
        ['In which layers do examples agree?']
    """
    colours = find_theme(theme)
    if measure not in MEASURES:
        raise ValueError(f"expected measure to be one of {', '.join(map(repr, MEASURES))}, got {measure!r}")
    if not layers:
        raise ValueError("expected at least one layer, got none")
    shown = [name for name in ("within_class", "between_class") if name in numbers] or ["overall"]
    totals = {name: (whole or {}).get(name, math.nan) for name in shown}
    missing = [name for name in shown if name not in numbers]
    if missing:
        raise ValueError(f"expected numbers of within_class and between_class, or of overall, got {list(numbers)}")
    values = {name: as_array(numbers[name], name, (len(layers),)) for name in shown}
    pitch = min(0.32, TALLEST / len(layers))
    every = math.ceil(SMALLEST / (72 * pitch * FILL))  # layers to a name
    size = min(10.0, max(SMALLEST, 72 * pitch * FILL))
    names = shorten_all(layers[::every], 32)
    left = 0.55 + max(text_width(name, size) for name in names)
    tall = max(0.6, pitch * len(layers))
    height = 0.85 + tall + 1.1
    with plain_style():
        figure = new_figure(WIDTH, height, colours)
        axes = figure.add_axes((left / WIDTH, 1.1 / height, (WIDTH - left - 0.3) / WIDTH, tall / height))
        axes.axvline(0, color=colours.text, linewidth=1.0)
        places = np.arange(len(layers))
        for name, one in values.items():
            words, mark, ink = KINDS[name]
            colour = getattr(colours, ink)
            axes.plot(one, places, mark, color=colour, markersize=6, label=words, linestyle="none", clip_on=False)
            total = totals[name]
            if not math.isnan(total):
                label = f"the whole network: {number(total)}"
                axes.axvline(total, color=colour, linewidth=1.2, linestyle="--", label=label)
        axes.set(xlim=_reach([*values.values(), list(totals.values())]), ylim=(len(layers) - 0.5, -0.5))
        axes.set_yticks(places[::every], labels=names, size=size, color=colours.text, parse_math=False)
        axes.tick_params(labelsize=10, labelcolor=colours.text, color=colours.muted)
        axes.tick_params(axis="y", labelsize=size, length=0)
        axes.set_facecolor("none")
        axes.grid(axis="x", color=colours.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(colours.muted)
        axes.set_xlabel(f"hurts   ←   mean {MEASURES[measure]}   →   helps", color=colours.text, size=10.5)
        add_heading(figure, colours, "In which layers do examples agree?", title or MEASURES[measure])
        # Names may be as bare as "0" and "3".
        middle = 0.22 / WIDTH, (1.1 + tall / 2) / height
        figure.text(*middle, "layer", color=colours.text, size=10.5, rotation=90, va="center", ha="center")
        legend = {"loc": "lower left", "bbox_to_anchor": (0.02, 0.0), "ncols": 2, "frameon": False, "fontsize": 9.5}
        figure.legend(*axes.get_legend_handles_labels(), labelcolor=colours.text, **legend)
    return figure


def _reach(values: Sequence[Array | list[float]]) -> tuple[float, float]:
    """Range of the axis: zero and everything shown."""
    known = [0.0, *(value for value in np.concatenate(values).tolist() if not math.isnan(value))]
    low, high = min(known), max(known)
    span = max(high - low, 0.05)
    return max(-1.02, low - 0.05 * span), min(1.02, high + 0.05 * span)
