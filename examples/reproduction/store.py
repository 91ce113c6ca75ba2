"""Runs on disk: each finished one is a JSON file, written whole or not at all."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lightning_stiffness
from reproduction.plan import Run
from reproduction.record import Plain

FORMAT = 1
"""Goes up when older files would be misread: those runs are then run again."""


def versions() -> dict[str, str]:
    """What was at work."""
    return {
        "lightning_stiffness": lightning_stiffness.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def finished(folder: Path, run: Run, data_sum: str) -> dict[str, Any] | None:
    """The run's file, where there is one with these settings; None: it has to be run."""
    try:
        stored = json.loads((folder / f"{run.name}.json").read_text("utf-8"))
        same = stored["format"] == FORMAT and stored["settings"] == json.loads(json.dumps(run.settings(data_sum)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stored if same else None


def store(folder: Path, run: Run, data_sum: str, data: str, measurements: list[Plain], seconds: float) -> None:
    """Write the run's file; whoever reads it meanwhile finds the old one or the new one, whole.

    Args:
        folder: where it goes.
        run: what was run.
        data_sum: checksum of the data.
        data: the data in words.
        measurements: what was found.
        seconds: how long it took.
    """
    stored = {
        "format": FORMAT,
        "name": run.name,
        "system": run.system.name,
        "title": run.system.title,
        "rate": run.rate,
        "seed": run.seed,
        "data": data,
        "settings": run.settings(data_sum),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "measurements": measurements,
    }
    write_whole(folder / f"{run.name}.json", json.dumps(stored, allow_nan=False))


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
