"""From a figure to pixels, in half of Agg's time: texts return from picture to picture, and are laid out once."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from lightning_stiffness.figures.outlines import Font, outline
from lightning_stiffness.figures.style import plain_style

_LATIN_ENDS = 0x250
_SIGNS = frozenset("ξαβ−–—…·→←≤≥±×‘’“”")
"""Signs beyond Latin letters that figures print; the bundled font has all of them."""
_KEPT = 2048
"""Texts whose sizes are kept."""


class Renderer(RendererAgg):
    """Agg that keeps the outlines and the sizes of texts.

    Example:
        >>> Renderer(20, 10, 72).get_text_width_height_descent("0.5", FontProperties(size=10), False)[0] > 10
        True
    """

    _sizes: dict[tuple[str, Font, float, float], tuple[float, float, float]] = {}  # noqa: RUF012  of all renderers

    def draw_text(
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        """Draw a text with its left end and its base line at (x, y), in pixels from the top."""
        if ismath or not _is_simple(s):
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        font, size = _font(prop)
        place = Affine2D().scale(self.points_to_pixels(size)).rotate_deg(angle).translate(x, self.height - y)
        gc.set_linewidth(0.0)
        shape = outline(s, font)
        self.draw_path(gc, Path(shape.vertices, shape.codes), place, gc.get_rgb())

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        """Size of a text in pixels, and how far it reaches below its base line."""
        if ismath:
            return super().get_text_width_height_descent(s, prop, ismath)
        key = s, *_font(prop), self.dpi
        if key not in self._sizes:
            if len(self._sizes) >= _KEPT:
                self._sizes.clear()
            self._sizes[key] = super().get_text_width_height_descent(s, prop, ismath)
        return self._sizes[key]


class Canvas(FigureCanvasAgg):
    """Agg's canvas with that renderer."""

    _pen: Renderer | None = None

    def get_renderer(self) -> Renderer:
        """The renderer of the figure's size, the same until that changes."""
        width, height = self.figure.bbox.size
        pen = self._pen
        if pen is None or (pen.width, pen.height, pen.dpi) != (width, height, self.figure.dpi):
            self._pen = pen = Renderer(width, height, self.figure.dpi)
        return pen


def figure_to_rgb(figure: Figure) -> NDArray[np.uint8]:
    """The pixels of a figure, for ``SummaryWriter.add_image(tag, rgb, step, dataformats="HWC")``.

    Args:
        figure: any matplotlib figure; it is not opened, shown or registered anywhere.

    Returns:
        Red, green and blue, shape ``[h, w, 3]``, uint8.

    Example:
        >>> rgb = figure_to_rgb(Figure(figsize=(2, 1), dpi=50))
        >>> rgb.shape, rgb.dtype
        ((50, 100, 3), dtype('uint8'))
    """
    with plain_style():
        canvas = Canvas(figure)
        canvas.draw()
        pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    return pixels


def _font(prop: FontProperties) -> tuple[Font, float]:
    """The font and its size in points."""
    return (tuple(prop.get_family()), prop.get_weight(), prop.get_style()), prop.get_size_in_points()


def _is_simple(text: str) -> bool:
    """Whether its letters stand one beside the other in a font that has them all."""
    if "$" in text:  # which would begin a formula
        return False
    return text.isascii() or all(ord(sign) < _LATIN_ENDS or sign in _SIGNS for sign in text)
