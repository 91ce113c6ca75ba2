"""Arrays and results → matplotlib figures, by the object API alone: no pyplot, no figure left open."""

from lightning_stiffness.figures.canvas import figure_to_rgb
from lightning_stiffness.figures.curve import distance_curve
from lightning_stiffness.figures.layers import layer_curve
from lightning_stiffness.figures.matrix import heatmap
from lightning_stiffness.figures.results import class_matrix_figure, distance_curve_figure, layer_figure
from lightning_stiffness.figures.style import THEMES

__all__ = [
    "THEMES",
    "class_matrix_figure",
    "distance_curve",
    "distance_curve_figure",
    "figure_to_rgb",
    "heatmap",
    "layer_curve",
    "layer_figure",
]
