"""What a process of ``reproduce.py`` does: perform one run, and put down what it found."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from _text_run import load_mnli, run_text

from reproduction.plan import Run, System
from reproduction.sources import FOLDER, load
from reproduction.store import store
from reproduction.train import run_images


def data_of(system: System, folder: str | None) -> tuple[str, str]:
    """Checksum of a system's data, and the data in words."""
    _, checksum, words = _load(system, folder)
    return checksum, words


def perform(run: Run, folder: str | None, results: Path) -> float:
    """Perform a run with one thread and store it; the seconds it took."""
    torch.set_num_threads(1)
    data, checksum, words = _load(run.system, folder)
    began = time.perf_counter()
    measurements = run_text(run, data) if run.system.kind == "text" else run_images(run, data)
    seconds = time.perf_counter() - began
    store(results, run, checksum, words, measurements, seconds)
    return seconds


def _load(system: System, folder: str | None) -> tuple[Any, str, str]:
    """Data, checksum and words; pairs of texts come the same for every run."""
    return _pairs(folder) if system.kind == "text" else load(system.data, folder)


@lru_cache(maxsize=1)
def _pairs(folder: str | None) -> tuple[Any, str, str]:
    return load_mnli(folder, FOLDER)
