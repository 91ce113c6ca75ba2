"""Class matrices of the runs: early, middle and late; and CIFAR-100's, in the order of its super-classes."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lightning_stiffness.figures import THEMES
from reproduction.course import Course
from reproduction.drawing import Runs

COLOURS = THEMES["light"].colormap


def matrix_at(course: Course, at: int, measure: str) -> np.ndarray:
    """The class matrix ``[c, c]`` of one moment, train-val; NaN where there is no pair."""
    rows = course.moments[at]["matrix"][measure]
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=float)


def draw_matrices(runs: Runs) -> Figure | None:
    """Cosine stiffness between classes before training, at the lowest validation loss, and at the end."""
    kept = [own[0] for courses in runs.values() if (own := [c for c in courses if "matrix" in c.moments[0]])]
    if not kept:
        return None
    figure = Figure(figsize=(1.9 * len(kept) + 0.9, 6.2), layout="constrained")
    grid = figure.subplots(3, len(kept), squeeze=False)
    for column, course in enumerate(kept):
        moments = {"before training": 0, "lowest validation loss": course.lowest, "at the end": -1}
        for row, (words, at) in enumerate(moments.items()):
            axes, cells = grid[row, column], matrix_at(course, at, "cos")
            image = axes.imshow(cells, cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            title = f"epoch {course.epochs[at]:g}"
            axes.set_title(f"{course.title.replace(', ', chr(10))}\n{title}" if row == 0 else title, size=9)
            if column == 0:
                axes.set_ylabel(words, size=9)
    figure.colorbar(image, ax=grid, shrink=0.6, label="cosine stiffness, train → val")
    return figure


def draw_groups(runs: Runs, groups: list[list[int]], names: list[list[str]]) -> Figure | None:
    """CIFAR-100's class matrices at the lowest validation loss, ordered by living or not, then by super-class."""
    courses = [c for name, own in runs.items() if "cifar100" in name for c in own if "matrix" in c.moments[0]]
    if not courses or not groups:
        return None
    course = courses[0]
    fine, coarse = groups[0], groups[1] if len(groups) > 1 else [0] * len(groups[0])
    order = sorted(range(len(fine)), key=lambda a: (-coarse[a], fine[a]))
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    for axes, measure, words in zip(figure.subplots(1, 2), ("sign", "cos"), ("sign", "cosine"), strict=True):
        cells = matrix_at(course, course.lowest, measure)[np.ix_(order, order)]
        apart = cells[~np.eye(len(cells), dtype=bool)]
        reach = float(np.nanpercentile(np.abs(apart), 98))
        image = axes.imshow(cells, cmap=COLOURS, vmin=-reach, vmax=reach, interpolation="nearest")
        figure.colorbar(image, ax=axes, shrink=0.8, extend="both", label=f"{words} stiffness, train → val")
        _outline(axes, [fine[a] for a in order], 0.7)
        _outline(axes, [coarse[a] for a in order], 2.0)
        axes.set_xticks([])
        shown = list(dict.fromkeys(fine[a] for a in order))
        middles = [float(np.mean([place for place, a in enumerate(order) if fine[a] == group])) for group in shown]
        labels = [names[0][group].replace("_", " ") for group in shown] if measure == "sign" else []
        axes.set_yticks(middles if labels else [], labels, size=7)
        axes.set_title(f"{course.title}, epoch {course.epochs[course.lowest]:g}: {words} stiffness")
        axes.set_xlabel("outlined: super-classes, and living (upper left) against not living things")
    return figure


def _outline(axes, groups: list[int], width: float) -> None:
    """A frame around each run of equal groups on the diagonal."""
    starts = [place for place, group in enumerate(groups) if place == 0 or groups[place - 1] != group]
    for start, end in zip(starts, [*starts[1:], len(groups)], strict=True):
        frame = Rectangle((start - 0.5, start - 0.5), end - start, end - start, fill=False, linewidth=width)
        axes.add_patch(frame)
