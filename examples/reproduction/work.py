"""What a process of ``reproduce.py`` does: perform one run, and put down what it found."""

import time
from pathlib import Path

import torch

from reproduction.plan import Run, System
from reproduction.sources import load
from reproduction.store import store
from reproduction.train import run_images


def data_of(system: System, folder: str | None) -> tuple[str, str]:
    """Checksum of a system's data, and the data in words."""
    _, checksum, words = load(system.data, folder)
    return checksum, words


def perform(run: Run, folder: str | None, results: Path) -> float:
    """Perform a run with one thread and store it; the seconds it took."""
    torch.set_num_threads(1)
    data, checksum, words = load(run.system.data, folder)
    began = time.perf_counter()
    measurements = run_images(run, data)
    seconds = time.perf_counter() - began
    store(results, run, checksum, words, measurements, seconds)
    return seconds
