"""Runs → the figures of the page, in the manner of the paper's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from reproduction.course import Course
from reproduction.drawing import (
    BLUE,
    EPOCHS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TEXT,
    Runs,
    band,
    epochs_axis,
    main_runs,
    panels,
    plain,
    rates_of,
    shade,
    ticks,
)
from reproduction.matrices import draw_groups, draw_matrices
from reproduction.stats import mean_of

LENGTHS = (1, 2, 3, 4, 5, 7, 10, 20, 50, 100)
"""Ticks of the critical length's axis."""
BLOCKS = {"train-train": ":", "train-val": "-", "val-val": "--"}


def draw_all(runs: Runs, folder: Path, groups: list[list[int]], names: list[list[str]]) -> list[Path]:
    """Every figure that the runs allow, as PNGs; the paths written.

    Args:
        runs: system → its runs.
        folder: where they go.
        groups: of CIFAR-100's classes, on each level.
        names: of the groups of each level.
    """
    swept = {name: courses for name, courses in runs.items() if len(rates_of(courses)) >= 3}
    kept = {name: main_runs(courses) for name, courses in runs.items() if main_runs(courses)}
    ten = {name: courses for name, courses in kept.items() if "cifar100" not in name}
    figures: dict[str, Callable[[], Figure | None]] = {
        "training": lambda: draw_training(kept),
        "matrices": lambda: draw_matrices(ten),
        "superclasses": lambda: draw_groups(kept, groups, names),
        "distance": lambda: draw_distance(kept),
        "length": lambda: draw_length(kept),
        "length_rate": lambda: draw_length_rate(swept),
        "stiffness_loss": lambda: draw_stiffness_loss(swept),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in figures.items():
        with rc_context(TEXT):
            figure = draw()
            if figure is not None:
                paths.append(folder / f"{name}.png")
                figure.savefig(paths[-1], dpi=110)
    return paths


def draw_training(runs: Runs) -> Figure | None:
    """Stiffness and losses over the epochs, with the zone of overfitting."""
    if not runs:
        return None
    figure, (upper, lower) = panels(len(runs), height=4.2, rows_each=2)
    for place, courses in enumerate(runs.values()):
        first, epochs = courses[0], courses[0].epochs
        top, bottom = upper[place], lower[place]
        for block, line in BLOCKS.items():
            for name, measure, colour in (("within_class", "cos", BLUE), ("between_class", "sign", ORANGE)):
                label = f"{'within, cos' if measure == 'cos' else 'between, sign'}, {block}"
                band(top, epochs, [c.stiffness(name, measure, block) for c in courses], colour, label, line)
        for part, colour, line in (("train", GREY, ":"), ("val", GREEN, "-")):
            band(bottom, epochs, [c.numbers("loss", part) for c in courses], colour, f"{part} loss", line)
        begin = float(np.mean([c.epochs[c.lowest] for c in courses]))
        for axes in (top, bottom):
            if begin < first.epochs[-1]:
                axes.axvspan(begin, first.epochs[-1], color=PURPLE, alpha=0.15, linewidth=0, label="overfitting")
            epochs_axis(axes, first.epochs[-1], label=axes is bottom)
            plain(axes)
        top.axhline(0, color="0.6", linewidth=0.8)
        top.set_ylim(-1.05, 1.05)
        top.set_title(first.title)
    upper[0].set_ylabel("stiffness")
    lower[0].set_ylabel("loss")
    handles, labels = upper[0].get_legend_handles_labels()
    more, names = lower[0].get_legend_handles_labels()
    shown = dict(zip([*labels, *names], [*handles, *more], strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def draw_distance(runs: Runs) -> Figure | None:
    """Stiffness within a class against distance, at each epoch."""
    kept = {name: own for name, courses in runs.items() if (own := [c for c in courses if "curve" in c.moments[0]])}
    if not kept:
        return None
    figure, axes = panels(len(kept))
    for place, courses in enumerate(kept.values()):
        course = courses[0]
        shown = [at for at, epoch in enumerate(course.epochs) if epoch == 0 or epoch >= 1]
        for order, at in enumerate(shown):
            curve = course.moments[at]["curve"]["cos"]
            edges = np.array(curve["edges"], dtype=float)
            mean = np.array([np.nan if value is None else value for value in curve["mean"]], dtype=float)
            mean[np.array(curve["count"]) < 20] = np.nan  # bins of few pairs are noise
            label = f"{course.epochs[at]:g}"
            axes[place].plot((edges[1:] + edges[:-1]) / 2, mean, color=shade(order, len(shown)), label=label)
        axes[place].axhline(0, color="0.6", linewidth=0.8)
        axes[place].set_title(course.title)
        axes[place].set_xlabel("distance")
        axes[place].legend(title="epoch", frameon=False, ncols=2, fontsize=6.5, title_fontsize=7, handlelength=1)
        plain(axes[place])
    axes[0].set_ylabel("within-class stiffness")
    return figure


def draw_length(runs: Runs) -> Figure | None:
    """The critical length over the epochs."""
    if not runs:
        return None
    figure, axes = panels(len(runs), height=2.4)
    for place, courses in enumerate(runs.values()):
        for block, colour in zip(BLOCKS, (GREY, BLUE, ORANGE), strict=True):
            lengths = [course.length(block=block)[course.trained] for course in courses]
            band(axes[place], courses[0].epochs[courses[0].trained], lengths, colour, block, BLOCKS[block])
        axes[place].set_xscale("log")
        axes[place].set_yscale("log")
        ticks(axes[place].xaxis, EPOCHS)
        ticks(axes[place].yaxis, LENGTHS)
        axes[place].set_title(courses[0].title)
        axes[place].set_xlabel("epochs")
        plain(axes[place])
    axes[0].set_ylabel("critical length ξ")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_length_rate(runs: Runs) -> Figure | None:
    """The critical length against the learning rate, at some epochs."""
    if not runs:
        return None
    figure, axes = panels(len(runs))
    for place, courses in enumerate(runs.values()):
        rates, epochs = rates_of(courses), courses[0].epochs
        shown = [at for at in range(len(epochs)) if epochs[at] >= 1][:: 1 if len(epochs) < 6 else 2]
        for order, at in enumerate(shown):
            # ξ of a flat line runs far off: means and intervals are of its logarithm.
            means = [mean_of([_log(c.length()[at]) for c in courses if c.rate == rate]) for rate in rates]
            middle, low, high = (np.exp([one[part] for one in means]) for part in range(3))
            reach = np.nan_to_num([middle - low, high - middle])
            style = {"color": shade(order, len(shown)), "marker": "o", "markersize": 3.5, "capsize": 3}
            axes[place].errorbar(np.array(rates) * 1.03**order, middle, reach, label=f"{epochs[at]:g}", **style)
        axes[place].set_xscale("log")
        axes[place].set_yscale("log")
        ticks(axes[place].xaxis, rates)
        ticks(axes[place].yaxis, LENGTHS)
        axes[place].set_title(courses[0].title)
        axes[place].set_xlabel("learning rate")
        axes[place].legend(title="epoch", frameon=False, ncols=2, fontsize=7, title_fontsize=7)
        plain(axes[place])
    axes[0].set_ylabel("critical length ξ")
    return figure


def draw_stiffness_loss(runs: Runs) -> Figure | None:
    """Stiffness within a class against the training loss, for each learning rate."""
    if not runs:
        return None
    figure, axes = panels(len(runs))
    for place, courses in enumerate(runs.values()):
        rates = rates_of(courses)
        for order, rate in enumerate(rates):
            for number, course in enumerate(one for one in courses if one.rate == rate):
                _line(axes[place], course, shade(order, len(rates)), f"{rate:g}" if number == 0 else None)
        axes[place].set_xscale("log")
        axes[place].invert_xaxis()
        axes[place].set_title(courses[0].title)
        axes[place].set_xlabel("training loss (falling to the right)")
        axes[place].legend(title="rate", frameon=False, fontsize=7, title_fontsize=7)
        plain(axes[place])
    axes[0].set_ylabel("within-class stiffness")
    return figure


def _line(axes, course: Course, colour, label: str | None) -> None:
    within = course.stiffness("within_class")
    axes.plot(course.train_loss, within, ".-", color=colour, linewidth=0.9, alpha=0.8, label=label)


def _log(length: float) -> float:
    """Its logarithm; NaN where there is none."""
    return float(np.log(length)) if length > 0 else np.nan
