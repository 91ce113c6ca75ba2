"""What an example says: before training which data it uses, afterwards what it measured and where it is."""

import argparse
import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from _options import Data

from lightning_stiffness import StiffnessResult
from lightning_stiffness.figures import class_matrix_figure, distance_curve_figure

if TYPE_CHECKING:  # an example without Lightning needs none for its report
    from pytorch_lightning import Trainer

    from lightning_stiffness import StiffnessCallback

FIGURES = ("train-val", "cos")
"""Block and measure of the figures: does a step on training examples help examples not trained on?"""
COLUMNS = ("within_class", "between_class", "critical_length")


def print_data(data: Data) -> None:
    """Say which data is used, and how much."""
    train, test = data.sizes
    print(f"Data: {data.source}: {train} training and {test} test {data.noun}.", flush=True)


def print_report(trainer: "Trainer", stiffness: "StiffnessCallback", options: argparse.Namespace) -> None:
    """Report on a Trainer's run."""
    logs = Path(trainer.log_dir or options.log_dir)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    print_results(stiffness.history[0], stiffness.history[-1], metrics, logs, options.log_dir)


def print_results(
    first: StiffnessResult, last: StiffnessResult, metrics: Mapping[str, float], logs: Path, log_dir: Path
) -> None:
    """Print the numbers of the first and the last measurement, write the last figures, say where all is.

    Args:
        first: the first measurement.
        last: the last one.
        metrics: ``loss/train``, ``accuracy/train`` and the same for ``val``.
        logs: folder of this run.
        log_dir: folder of all runs, for TensorBoard.
    """
    print("\n" + stiffness_table(first, last))
    print("\nlast epoch      loss  accuracy")
    for part in ("train", "val"):
        print(f"{part:<10} {metrics[f'loss/{part}']:9.4f} {metrics[f'accuracy/{part}']:9.4f}")
    figures = save_figures(last, logs)
    print(f"\nLogs:    {logs}")
    print("Figures: " + "\n         ".join(map(str, figures)))
    print(f"To see it all: {tensorboard_command(log_dir)}", flush=True)


def stiffness_table(first: StiffnessResult, last: StiffnessResult) -> str:
    """Block × measure against the numbers measured at two moments, ``first → last``."""
    width = 20
    moments = [f"epoch {result.epoch} (step {result.step})" for result in (first, last)]
    lines = [
        f"Stiffness, {' → '.join(moments)}",
        f"{'block':<12} {'measure':<7}" + "".join(f"{name:>{width}}" for name in COLUMNS),
    ]
    for block, measures in last.summary.items():
        for measure in measures:
            cells = [
                " → ".join(_cell(result, block, measure, name) for result in (first, last)) for name in COLUMNS
            ]
            lines.append(f"{block:<12} {measure:<7}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join([*lines, *_group_lines(first, last), *_notes([first, last])])


def _group_lines(first: StiffnessResult, last: StiffnessResult) -> list[str]:
    """Stiffness of different classes within and between super-classes, level by level."""
    block, lines = FIGURES[0], []
    for level in range(len(last.superclass_levels)):
        suffix = "" if level == 0 else f"_{level + 1}"
        for measure, p_values in last.superclass_p_value.get(block, {}).items():
            inside, outside = (
                " → ".join(_cell(result, block, measure, f"{kind}_superclass{suffix}") for result in (first, last))
                for kind in ("within", "between")
            )
            groups = len(set(last.superclass_levels[level]))
            lines.append(
                f"{block} {measure}, classes in {groups} groups: within one {inside}, between two {outside}, "
                f"p = {p_values[level]:.3g} at the end"
            )
    return lines


def _cell(result: StiffnessResult, block: str, measure: str, name: str) -> str:
    if name != "critical_length":
        value = result.summary[block][measure].get(name, math.nan)
        return "–" if math.isnan(value) else f"{value:.4f}"
    length = result.critical_length.get(block, {}).get(measure)
    if length is None or math.isnan(length.value):
        return "–"
    return f"{length.value:.4g}{'*' if length.extrapolated else ''}"


def _notes(results: list[StiffnessResult]) -> list[str]:
    """What the signs in the table mean: why a critical length is missing, and which ones are extrapolated."""
    why: dict[str, None] = {}  # an ordered set
    for result in results:
        for lengths in result.critical_length.values():
            for length in lengths.values():
                if math.isnan(length.value):
                    why[f"  – no critical length: {length.reason}"] = None
                elif length.extrapolated:
                    why["  * outside the distances that occur in the data, so extrapolated"] = None
    return list(why)


def save_figures(result: StiffnessResult, folder: Path) -> list[Path]:
    """Write the class heatmap and the distance curve, where there are such, as PNGs, and return their paths."""
    block, measure = FIGURES
    kinds = {
        "class_matrix": (result.class_matrix, class_matrix_figure),
        "distance_curve": (result.curve, distance_curve_figure),
    }
    paths = []
    for kind, (measured, draw) in kinds.items():
        if measure in measured.get(block, {}):
            paths.append(folder / f"{kind}_{block}_{measure}.png")
            draw(result, block, measure).savefig(paths[-1], dpi=150)
    return paths


def tensorboard_command(log_dir: Path) -> str:
    """The line to type, with the path of TensorBoard where the shell would not find this one."""
    command = "tensorboard"
    own = Path(sys.executable).parent / command
    if own.exists() and shutil.which(command) != str(own):
        command = os.path.relpath(own)
    return f"{shlex.quote(command)} --logdir {shlex.quote(str(log_dir))}"
