"""A measurement as plain values, for JSON."""

import math
from typing import Any

import numpy as np

from lightning_stiffness import StiffnessResult
from reproduction.stats import correlation

Plain = dict[str, Any]
DETAILED_BLOCK = "train-val"
"""Whose matrices and curves are kept: does a step on training examples help examples not trained on?"""


def record(
    result: StiffnessResult, epoch: float, quality: dict[str, tuple[float, float]], *, detailed: bool
) -> Plain:
    """What the claims and figures need of one measurement.

    Args:
        result: the measurement.
        epoch: epochs trained, with fractions.
        quality: split → mean loss and accuracy.
        detailed: also keep class matrices, curves and intervals.
    """
    found: Plain = {
        "step": result.step,
        "epoch": epoch,
        "loss": {split: values[0] for split, values in quality.items()},
        "accuracy": {split: values[1] for split, values in quality.items()},
        "summary": result.summary,
        "length": {
            block: {measure: {**vars(length)} for measure, length in measures.items()}
            for block, measures in result.critical_length.items()
        },
        "agreement": agreement(result),
        "superclass_p_value": result.superclass_p_value,
        "excluded": result.excluded,
        "engine": result.engine,
        "seconds": result.seconds,
    }
    if detailed:
        found["interval"] = result.interval
        found["matrix"] = result.class_matrix[DETAILED_BLOCK]
        found["curve"] = {
            measure: {"edges": curve.edges, "mean": curve.mean, "count": curve.count, "low": curve.low,
                      "high": curve.high}
            for measure, curve in result.curve.get(DETAILED_BLOCK, {}).items()
        }  # fmt: skip
    return plain(found)


def agreement(result: StiffnessResult) -> dict[str, dict[str, float]]:
    """Measure → how alike the three blocks are.

    ``cells``: mean over the three pairs of blocks of the correlation between the cells of their class matrices.
    ``within``: largest difference of two blocks' within-class stiffness.
    """
    found = {}
    blocks = list(result.class_matrix)
    for measure in result.class_matrix[blocks[0]]:
        cells = [result.class_matrix[block][measure].ravel() for block in blocks]
        within = [result.summary[block][measure]["within_class"] for block in blocks]
        pairs = [(a, b) for a in range(len(blocks)) for b in range(a)]
        found[measure] = {
            "cells": float(np.mean([correlation(cells[a], cells[b]) for a, b in pairs])),
            "within": max(within) - min(within),
        }
    return found


def plain(value: Any) -> Any:
    """Numbers, texts, lists and dictionaries alone; what is not finite becomes None; five digits."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.5g}") if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
