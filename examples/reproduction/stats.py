"""The little statistics that the claims need: an interval of a mean over seeds, and a rank correlation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Student's t at 97.5%, for 1, 2, … degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Mean(NamedTuple):
    """A mean over seeds with its 95% interval."""

    value: float
    low: float
    high: float
    seeds: int


def mean_of(values: Sequence[float]) -> Mean:
    """Mean with the 95% interval of Student's t, over seeds; NaN values are left out, and counted out of ``seeds``.

    With one value there is no interval: its ends are NaN.
    """
    kept = np.array([value for value in values if not math.isnan(value)])
    if not len(kept):
        return Mean(math.nan, math.nan, math.nan, 0)
    mean = float(kept.mean())
    if len(kept) == 1:
        return Mean(mean, math.nan, math.nan, 1)
    degrees = len(kept) - 1
    factor = _T[degrees - 1] if degrees <= len(_T) else 2.228  # wider than needed beyond ten
    half = factor * float(kept.std(ddof=1)) / math.sqrt(len(kept))
    return Mean(mean, mean - half, mean + half, len(kept))


def median_of(values: Sequence[float]) -> float:
    """Median of the values that are not NaN; NaN where there is none."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.median(kept)) if kept else math.nan


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ of the pairs without NaN; NaN for fewer than three, or where all of one are equal."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if not (math.isnan(a) or math.isnan(b))]
    if len(pairs) < 3:
        return math.nan
    return correlation(*(_ranks(values) for values in zip(*pairs, strict=True)))


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's r of the pairs without NaN; NaN where all of one are equal."""
    pairs = np.array([x, y], dtype=float)
    a, b = pairs[:, ~np.isnan(pairs).any(0)]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.clip(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()), -1, 1))


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs."""
    own = np.array(values, dtype=float)
    return [float((own < value).sum() + ((own == value).sum() - 1) / 2) for value in own]
