"""Outlines of texts, put together from pieces that return from picture to picture.

Most of a text is the same in the next picture, but for its numbers. matplotlib lays every text out anew, which
takes a millisecond; here each digit is laid out once, and so is what stands between two of them.
"""

import functools
import re
from typing import Any, NamedTuple

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from lightning_stiffness.figures.style import Array

_PIECES = re.compile(r"[0-9]|[^0-9]+")
_END = "|"
_KEPT = 4096

Font = tuple[tuple[str, ...], Any, str]
"""Families, weight and style."""
PLAIN: Font = (("DejaVu Sans",), "normal", "normal")
"""The font that comes with matplotlib. Its digits stand side by side without regard to each other."""


class Outline(NamedTuple):
    """The outlines of some letters, of type one unit high."""

    vertices: Array
    codes: Array
    """matplotlib's codes of a path."""
    advance: float
    """Where the next letter begins."""


@functools.lru_cache(maxsize=_KEPT)
def outline(text: str, font: Font = PLAIN) -> Outline:
    """Outlines of a text that starts at the origin.

    Args:
        text: letters that stand one beside the other; not empty.
        font: its font.

    Example:
        >>> one, three = outline("1"), outline("1.1")
        >>> bool((three.vertices[-len(one.vertices) :] - one.vertices)[0, 0] > one.advance)
        True
    """
    at, vertices, codes = 0.0, [], []
    for text_of_piece in _PIECES.findall(text):
        piece = _piece(text_of_piece, font)
        vertices.append(piece.vertices + np.array((at, 0.0)))
        codes.append(piece.codes)
        at += piece.advance
    return Outline(np.concatenate(vertices), np.concatenate(codes), at)


@functools.lru_cache(maxsize=_KEPT)
def _piece(text: str, font: Font) -> Outline:
    end, whole = _laid_out(_END, font), _laid_out(text + _END, font)
    length = len(whole.codes) - len(end.codes)
    advance = whole.vertices[length, 0] - end.vertices[0, 0]
    return Outline(whole.vertices[:length], whole.codes[:length], float(advance))


def _laid_out(text: str, font: Font) -> TextPath:
    family, weight, style = font
    return TextPath((0, 0), text, size=1, prop=FontProperties(family=list(family), weight=weight, style=style))
