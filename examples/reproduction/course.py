"""The course of one finished run: its numbers over the moments it was measured at."""

import math
from typing import Any

import numpy as np

from reproduction.plan import MAIN_RATE

FIRST = 1.0
"""Epochs from which on moments count where training is compared with itself or with another rate."""


class Course:
    """A run's file, read by name; what is missing is NaN."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self.stored = stored
        self.system: str = stored["system"]
        self.title: str = stored["title"]
        self.rate: float = stored["rate"]
        self.seed: int = stored["seed"]
        self.moments: list[dict[str, Any]] = stored["measurements"]
        self.epochs = np.array([moment["epoch"] for moment in self.moments])
        self.val_loss = self.numbers("loss", "val")
        self.train_loss = self.numbers("loss", "train")
        self.lowest = int(np.nanargmin(self.val_loss))
        """The moment of the lowest validation loss: overfitting sets in after it."""

    @property
    def kind(self) -> str:
        """``images`` or ``text``."""
        return str(self.stored["settings"]["kind"])

    @property
    def main(self) -> bool:
        """Is it at the rate of the claims that compare none?"""
        return self.rate == MAIN_RATE or self.kind == "text"

    def numbers(self, *path: str) -> np.ndarray:
        """One number at every moment ``[t]``."""
        return np.array([_float(_at(moment, path)) for moment in self.moments])

    def stiffness(self, name: str, measure: str = "cos", block: str = "train-val") -> np.ndarray:
        """A mean, such as ``within_class``, at every moment ``[t]``."""
        return self.numbers("summary", block, measure, name)

    def length(self, measure: str = "cos", block: str = "train-val") -> np.ndarray:
        """The critical length ξ at every moment ``[t]``."""
        return self.numbers("length", block, measure, "value")

    @property
    def trained(self) -> np.ndarray:
        """Which moments come after the first epoch ``[t]``."""
        return self.epochs >= FIRST

    def at_loss(self, values: np.ndarray, level: float) -> float:
        """``values`` where the training loss first falls to ``level``: linear in log loss between two moments."""
        loss = np.log(np.maximum(self.train_loss, 1e-12))
        for after in range(1, len(loss)):
            if loss[after] <= math.log(level) < loss[after - 1]:
                share = (loss[after - 1] - math.log(level)) / (loss[after - 1] - loss[after])
                return float(values[after - 1] + share * (values[after] - values[after - 1]))
        return math.nan


def _at(entry: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
