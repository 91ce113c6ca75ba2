"""Many short texts as one shape, for the values in the cells of a heatmap."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lightning_stiffness.figures.outlines import outline
from lightning_stiffness.figures.style import Array


class Lettering(PathPatch):
    """Texts as the filled outlines of their letters, each centred at its place.

    A hundred texts of matplotlib's would take most of the time of a picture.

    Args:
        texts: what to write, at least one text, in digits and simple signs.
        places: their centres ``[k, 2]``, in units of the axes.
        size: height of the type, in those units. The vertical axis points down, as that of an image does.
        colour: of the letters.

    Example:
        >>> values = Lettering(["0.5", "−0.1"], [(0, 0), (3, 1)], 0.2, "black")
        >>> values.texts[1], values.places[1].tolist()
        ('−0.1', [3, 1])
    """

    def __init__(self, texts: Sequence[str], places: Any, size: float, colour: str) -> None:
        self.texts, self.places = list(texts), np.asarray(places)
        outlines = [_outline(text) for text in texts]
        vertices = [place + size * points for place, (points, _) in zip(self.places, outlines, strict=True)]
        path = Path(np.concatenate(vertices), np.concatenate([codes for _, codes in outlines]))
        super().__init__(path, facecolor=colour, linewidth=0)


@functools.lru_cache(maxsize=512)  # there are about 200 values of two digits
def _outline(text: str) -> tuple[Array, Array]:
    """Vertices about the centre, the type's height being 1, and matplotlib's codes of a path."""
    shape, at, boxes = outline(text), 0.0, []
    for sign in text:
        boxes.append(_box(sign) + np.array((at, 0.0)))
        at += outline(sign).advance
    low, high = np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)
    return (shape.vertices - (low + high) / 2) * [1, -1], shape.codes


@functools.lru_cache(maxsize=64)
def _box(sign: str) -> Array:
    """Lower left and upper right corner of one sign."""
    shape = outline(sign)
    return np.asarray(Path(shape.vertices, shape.codes).get_extents().get_points())
