"""The pictures of a result, by the names they are logged under."""

from typing import Any

from lightning_stiffness.figures import class_matrix_figure, distance_curve_figure, figure_to_rgb
from lightning_stiffness.loggers import Picture
from lightning_stiffness.result import StiffnessResult


def pictures(result: StiffnessResult) -> list[str]:
    """Names of the pictures that a result has: ``stiffness/{block}/{measure}/{class_matrix|distance_curve}``."""
    tables: dict[str, dict[str, dict[str, Any]]] = {
        "class_matrix": result.class_matrix,
        "distance_curve": result.curve,
    }
    return [
        f"stiffness/{block}/{measure}/{kind}"
        for kind, table in tables.items()
        for block, measures in table.items()
        for measure in measures
    ]


def draw_picture(result: StiffnessResult, tag: str) -> Picture:
    """The picture of that name, uint8 ``[height, width, 3]``."""
    _, block, measure, kind = tag.split("/")
    draw = class_matrix_figure if kind == "class_matrix" else distance_curve_figure
    return figure_to_rgb(draw(result, block, measure))
