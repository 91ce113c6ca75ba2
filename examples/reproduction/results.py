"""Finished runs → one JSON with what the claims rest on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduction.course import Course
from reproduction.plan import ORDER, Run
from reproduction.store import finished, write_whole

KEPT = ("step", "epoch", "loss", "accuracy", "agreement", "superclass_p_value", "excluded", "engine")
ONE_RUN = {"train-val": {"cos": ("within_class",)}}
"""Of which numbers the intervals within a run are kept: block → measure → names."""


def collect(folder: Path, runs: Sequence[Run], sums: dict[str, str]) -> list[dict[str, Any]]:
    """The files of the runs that are finished, in the order of the page.

    Args:
        folder: where they lie.
        runs: those that there should be.
        sums: system → checksum of its data.
    """
    found = [stored for run in runs if (stored := finished(folder, run, sums[run.system.name])) is not None]
    return sorted(found, key=lambda one: (ORDER.index(one["system"]), one["rate"], one["seed"]))


def courses_of(stored: Sequence[dict[str, Any]]) -> list[Course]:
    """Runs, to be read by name."""
    return [Course(one) for one in stored]


def compact(stored: dict[str, Any]) -> dict[str, Any]:
    """A run without what only the figures need: matrices, curves, most intervals."""
    return {**stored, "measurements": [_compact(moment) for moment in stored["measurements"]]}


def _compact(moment: dict[str, Any]) -> dict[str, Any]:
    kept = {name: moment[name] for name in KEPT if name in moment}
    kept["summary"] = moment["summary"]
    ends = ("value", "extrapolated", "low", "high")
    kept["length"] = {
        block: {
            measure: {name: length[name] for name in ends if length.get(name) is not None}
            for measure, length in measures.items()
        }
        for block, measures in moment["length"].items()
    }
    if "interval" in moment:
        kept["interval"] = {
            block: {measure: {name: moment["interval"][block][measure][name] for name in names}}
            for block, measures in ONE_RUN.items()
            for measure, names in measures.items()
        }
    return kept


def write_results(path: Path, stored: Sequence[dict[str, Any]], planned: int) -> None:
    """One line a run, so that a change of one shows as such.

    Args:
        path: the file.
        stored: from :func:`collect`.
        planned: how many runs there should be.
    """
    lines = ",\n".join(json.dumps(compact(one), allow_nan=False, separators=(",", ":")) for one in stored)
    write_whole(path, f'{{"planned": {planned},\n"runs": [\n{lines}\n]}}\n')


def read_results(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The runs, and how many there should be."""
    found = json.loads(path.read_text("utf-8"))
    return found["runs"], found["planned"]
