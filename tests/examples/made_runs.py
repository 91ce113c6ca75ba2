"""Files of runs that were never run, in which the paper's claims hold."""

import math
from typing import Any

import numpy as np

EPOCHS = (0, 1, 2, 4, 8, 16)
BLOCKS = ("train-train", "train-val", "val-val")
LOWEST = 3
"""The moment of the lowest validation loss."""


def all_runs() -> list[dict[str, Any]]:
    """Two systems at three rates, two at one rate, three seeds each."""
    swept = [(system, rate) for system in ("mnist-fc", "cifar10-cnn") for rate in (1e-4, 1e-3, 1e-2)]
    plans = [*swept, ("cifar100-cnn", 1e-3), ("mnli-bert", 1e-3)]
    return [run_file(system, rate, seed) for system, rate in plans for seed in range(3)]


def run_file(system: str, rate: float, seed: int) -> dict[str, Any]:
    """A run that does what the paper says, the more so the larger the rate, with a little noise of its own."""
    noise = np.random.default_rng(seed + int(1e6 * rate)).normal(0, 1e-3, (len(EPOCHS), 4))
    settings = {
        "kind": "text" if "bert" in system else "images",
        **{"train": 100, "probe": 20, "moments": EPOCHS, "rate": rate, "seed": seed},
    }
    return {
        **{"format": 1, "name": f"{system}_{rate}_{seed}", "system": system, "title": system.upper()},
        **{"rate": rate, "seed": seed, "data": "made up", "settings": settings},
        **{"versions": {"torch": "0"}, "seconds": 60.0},
        "measurements": [_moment(at, math.log10(rate / 1e-5), noise[at]) for at in range(len(EPOCHS))],
    }


def _moment(at: int, speed: float, noise: np.ndarray) -> dict[str, Any]:
    numbers = {
        "within_class": 0.9 - 0.08 * at - 0.01 * speed * at + noise[0],
        "between_class": (-0.8 + 0.25 * at if at <= LOWEST else -0.01) + 0.1 * noise[1],
        "overall": 0.0,
        **{f"within_superclass{level}": 0.2 + noise[2] for level in ("", "_2")},
        **{f"between_superclass{level}": noise[3] for level in ("", "_2")},
    }
    length = {"value": 9 - at - speed + noise[3], "extrapolated": True}
    return {
        **{"step": at, "epoch": EPOCHS[at], "engine": "layerwise", "excluded": {}},
        "loss": {"train": 2.3 * 0.5**at, "val": 1 + 0.1 * abs(at - LOWEST)},
        "accuracy": {"train": 0.5, "val": 0.5},
        "summary": {block: {measure: dict(numbers) for measure in ("cos", "sign")} for block in BLOCKS},
        "length": {block: {"cos": dict(length)} for block in BLOCKS},
        "agreement": {"cos": {"cells": 0.97 + noise[2], "within": 0.02 + 0.1 * noise[1]}},
        "superclass_p_value": {"train-val": {"cos": [0.001, 0.001], "sign": [0.001, 0.02]}},
    }
