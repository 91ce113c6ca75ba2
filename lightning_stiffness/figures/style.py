"""What every figure shares: colours, fonts, words for numbers, and the way to pixels."""

import textwrap
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_stiffness.palette import DARK, LIGHT, STOPS

Array = NDArray[Any]

DPI = 100
"""Dots per inch: legible in TensorBoard, and quick to draw."""

MEASURES = {"cos": "cosine stiffness", "sign": "sign stiffness"}
"""Measure → what it is called in a figure."""


def _colours(name: str, colours: tuple[str, ...], missing: str) -> Colormap:
    places = [(stop + 1) / 2 for stop in STOPS]
    colormap = LinearSegmentedColormap.from_list(name, list(zip(places, colours, strict=True)), N=513)
    return colormap.with_extremes(bad=missing)


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; its background is opaque, so that it reads on any page."""

    background: str
    text: str
    muted: str
    grid: str
    helps: str
    hurts: str
    shade: str
    missing: str
    hatch: str
    colormap: Colormap


THEMES = {
    "light": Theme(
        background="#ffffff",
        text="#1b1b1f",
        muted="#5c5f66",
        grid="#d6d8dc",
        helps="#1f5fa6",
        hurts="#c2480d",
        shade="#e6f0f9",
        missing="#d2d2d2",
        hatch="#8d8d8d",
        colormap=_colours("stiffness_light", LIGHT, "#d2d2d2"),
    ),
    "dark": Theme(
        background="#16181c",
        text="#eceef1",
        muted="#a9aeb6",
        grid="#3d4148",
        helps="#6bb8f2",
        hurts="#f5a055",
        shade="#1d2d3c",
        missing="#5d5d60",
        hatch="#9a9a9d",
        colormap=_colours("stiffness_dark", DARK, "#5d5d60"),
    ),
}


def find_theme(theme: str) -> Theme:
    """The theme of that name.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> find_theme("light").background
        '#ffffff'
    """
    if theme not in THEMES:
        raise ValueError(f"expected theme to be one of {', '.join(map(repr, THEMES))}, got {theme!r}")
    return THEMES[theme]


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib as these figures expect it, whatever the user's own style; it is put back afterwards."""
    # The bundled font makes text widths the same everywhere; the user's fonts follow it for signs it lacks.
    family = ["DejaVu Sans"]
    if mpl.rcParams["font.family"] != mpl.rcParamsDefault["font.family"]:
        family += [name for name in mpl.rcParams["font.family"] if name != "DejaVu Sans"]
    settings: Any = {
        "text.usetex": False,
        "text.hinting": "none",  # a fifth faster, and no worse to read at this resolution
        "font.family": family,
        "font.weight": "normal",
        "axes.labelweight": "normal",
        "axes.grid": False,
        "axes.linewidth": 0.8,
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
        "hatch.linewidth": 1.0,
        "path.sketch": None,
        "path.effects": [],
    }
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty figure, ``width`` × ``height`` inches, that pyplot does not know of."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.background)
    FigureCanvasAgg(figure)
    return figure


def add_heading(figure: Figure, theme: Theme, question: str, title: str) -> None:
    """The question that the figure answers, and below it what exactly is shown."""
    width, height = figure.get_size_inches()
    size = min(13.5, 72 * (width - 0.3) / max(1.0, 0.66 * len(question)))
    figure.text(0.15 / width, 1 - 0.30 / height, question, color=theme.text, size=size, weight="bold")
    size = min(10.5, 72 * (width - 0.3) / max(1.0, 0.56 * len(title)))
    figure.text(0.15 / width, 1 - 0.54 / height, title, color=theme.muted, size=size, parse_math=False)


def wrap(text: str, width: float, size: float) -> str:
    """``text`` broken into lines of at most ``width`` inches at ``size`` points."""
    return "\n".join(textwrap.wrap(text, max(20, int(72 * width / (0.53 * size)))))


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in inches; never much too small.

    Example:
        >>> text_width("automobile", 10) > text_width("cat", 10)
        True
    """
    return sum(_ems(sign) for sign in text) * size / 72


def _ems(sign: str) -> float:
    """Width of a sign in units of the type size."""
    if sign in "fijlrtI.,:;'|()[]! ":
        return 0.38
    if sign in "mwMW…−+" or unicodedata.east_asian_width(sign) in "WF":
        return 1.0
    return 0.7 if sign.isupper() else 0.63


def effect(value: float) -> str:
    """What a mean stiffness says, in words.

    Example:
        >>> effect(0.6), effect(0.3), effect(0.04), effect(-0.01), effect(-0.2)
        ('strongly helps', 'helps', 'slightly helps', 'hardly affects', 'hurts')
    """
    if abs(value) < 0.02:
        return "hardly affects"
    verb = "helps" if value > 0 else "hurts"
    return f"strongly {verb}" if abs(value) >= 0.5 else verb if abs(value) >= 0.1 else f"slightly {verb}"


def as_array(values: Any, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """``values`` (array, tensor, nested list) as float64, with the shape checked where one is given.

    Raises:
        ValueError: if they are not numbers or have another shape.

    Example:
        >>> as_array([1, 2], "mean", (2,))
        array([1., 2.])
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {name} to be an array of numbers, got {type(values).__name__}") from error
    if shape is not None and array.shape != shape:
        raise ValueError(f"expected {name} of shape {list(shape)}, got {list(array.shape)}")
    return array
