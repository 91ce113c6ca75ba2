"""Learning rates compared with each other: at equal epoch, or at equal training loss."""

import math
from collections.abc import Callable

import numpy as np

from reproduction.course import Course
from reproduction.statements import LEVELS
from reproduction.stats import rank_correlation


def over_seeds(
    courses: list[Course],
    values_of: Callable[[Course], np.ndarray],
    by: str,
    compare: Callable[[list[float], list[float]], float] = rank_correlation,
) -> list[float]:
    """For each seed, how the rates compare, averaged over the moments or over training losses they share.

    Args:
        courses: runs of one system at several rates.
        values_of: what to compare, at each moment ``[t]``.
        by: ``"epoch"`` or ``"loss"``.
        compare: rates in ascending order and their values → a number.
    """
    found = []
    for seed in sorted({course.seed for course in courses}):
        own = sorted((course for course in courses if course.seed == seed), key=lambda course: course.rate)
        rates = [course.rate for course in own]
        if len(rates) < 3:
            continue
        if by == "epoch":
            table = np.stack([values_of(course)[course.trained] for course in own])  # [rates, t]
        else:
            levels = common_losses(own)
            table = np.array([[course.at_loss(values_of(course), level) for level in levels] for course in own])
        each = [compare(rates, column.tolist()) for column in table.T]
        known = [value for value in each if not math.isnan(value)]
        found.append(float(np.mean(known)) if known else math.nan)
    return found


def common_losses(courses: list[Course]) -> list[float]:
    """Training losses that all runs pass through, evenly spaced in the logarithm; none where there are no such."""
    low = max(float(np.nanmin(course.train_loss)) for course in courses)
    high = 0.8 * min(float(course.train_loss[0]) for course in courses)
    return np.geomspace(low, high, LEVELS).tolist() if 0 < low < high else []
