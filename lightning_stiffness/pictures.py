"""The pictures of a result, by the names they are logged under."""

from collections.abc import Sequence
from typing import Any

from lightning_stiffness.figures import class_matrix_figure, distance_curve_figure, figure_to_rgb
from lightning_stiffness.loggers import Picture
from lightning_stiffness.result import StiffnessResult

CHOICES = ("main", "all", "none")
"""Which pictures a logger is given; see :func:`pictures`."""
TELLING = {"block": ("train-val", "train-train"), "measure": ("cos", "sign")}
"""What the main pictures show, the best first: does a step on training examples help examples not trained on?"""


def pictures(result: StiffnessResult, which: str = "all") -> list[str]:
    """Names of the pictures of a result: ``stiffness/{block}/{measure}/{class_matrix|distance_curve}``.

    Args:
        result: a measurement.
        which: ``"all"``; ``"main"`` for one class matrix and one curve, of the block from training to validation
            examples where there is one, by the cosine where it was asked for; ``"none"``.
    """
    tables: dict[str, dict[str, dict[str, Any]]] = {
        "class_matrix": result.class_matrix,
        "distance_curve": result.curve,
    }
    return [
        f"stiffness/{block}/{measure}/{kind}"
        for kind, table in tables.items()
        for block, measures in _chosen(table, "block", which)
        for measure, _ in _chosen(measures, "measure", which)
    ]


def _chosen(table: dict[str, Any], kind: str, which: str) -> Sequence[tuple[str, Any]]:
    if which == "main":
        names = [name for name in (*TELLING[kind], *table) if name in table][:1]
        return [(name, table[name]) for name in names]
    return list(table.items()) if which == "all" else []


def draw_picture(result: StiffnessResult, tag: str) -> Picture:
    """The picture of that name, uint8 ``[height, width, 3]``."""
    _, block, measure, kind = tag.split("/")
    draw = class_matrix_figure if kind == "class_matrix" else distance_curve_figure
    return figure_to_rgb(draw(result, block, measure))
