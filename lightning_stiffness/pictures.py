"""The pictures of a result, by the names they are logged under."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning_stiffness.figures import class_matrix_figure, distance_curve_figure, figure_to_rgb, layer_figure
from lightning_stiffness.loggers import Picture
from lightning_stiffness.result import StiffnessResult

CHOICES = ("main", "all", "none")
"""Which pictures a logger is given; see :func:`pictures`."""
DRAWN = {
    "class_matrix": class_matrix_figure,
    "distance_curve": distance_curve_figure,
    "layers": layer_figure,
}
"""Kind of picture → how it is drawn."""
TELLING = {"block": ("train-val", "train-train"), "measure": ("cos", "sign")}
"""What the main pictures show, the best first: does a step on training examples help examples not trained on?"""


def pictures(result: StiffnessResult, which: str = "all") -> list[str]:
    """Names of the pictures of a result: ``stiffness/{block}/{measure}/{class_matrix|distance_curve|layers}``.

    Args:
        result: a measurement.
        which: ``"all"``; ``"main"`` for one class matrix and one curve, of the block from training to validation
            examples where there is one, by the cosine where it was asked for; ``"none"``.
    """
    tables: dict[str, dict[str, dict[str, Any]]] = {
        "class_matrix": result.class_matrix,
        "distance_curve": result.curve,
        "layers": result.layer_summary,
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
    with _die_young():
        return figure_to_rgb(DRAWN[kind](result, block, measure))


@contextmanager
def _die_young() -> Iterator[None]:
    """Python's collector waits meanwhile, and then looks at what is new alone.

    A figure is some thousand objects that refer to each other. Collections while it is drawn would count them as
    long-lived, until a full one is due, which goes through everything that a training holds: 0.3 s, measured.
    """
    waits = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if waits:
            gc.enable()
            gc.collect(0)
