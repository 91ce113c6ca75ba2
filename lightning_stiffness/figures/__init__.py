"""Arrays and results → matplotlib figures, by the object API alone: no pyplot, no figure left open.

Public names load on first use, so that the words of figures can be had without matplotlib: reports, tables and the
TensorBoard tab say the same in the same words.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_stiffness.figures.canvas import figure_to_rgb as figure_to_rgb
    from lightning_stiffness.figures.curve import distance_curve as distance_curve
    from lightning_stiffness.figures.layers import layer_curve as layer_curve
    from lightning_stiffness.figures.matrix import heatmap as heatmap
    from lightning_stiffness.figures.results import class_matrix_figure as class_matrix_figure
    from lightning_stiffness.figures.results import distance_curve_figure as distance_curve_figure
    from lightning_stiffness.figures.results import layer_figure as layer_figure
    from lightning_stiffness.figures.style import THEMES as THEMES

_HOMES = {
    "THEMES": "style",
    "class_matrix_figure": "results",
    "distance_curve": "curve",
    "distance_curve_figure": "results",
    "figure_to_rgb": "canvas",
    "heatmap": "matrix",
    "layer_curve": "layers",
    "layer_figure": "results",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
