"""What a class matrix or a critical length shows, in words."""

import math
from collections.abc import Mapping, Sequence

import torch

from lightning_stiffness.figures.intervals import length_digits, length_range, mean_digits, mean_words, short_length
from lightning_stiffness.figures.style import Array, effect
from lightning_stiffness.functional import class_summary, superclass_summary


def captions(
    cells: Array,
    groups: Sequence[int] | None,
    counts: Array | None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    p_value: float = math.nan,
) -> list[str]:
    """What a class matrix shows, in words.

    Args:
        cells: class matrix ``[c, c]``; NaN where there is no pair.
        groups: group of each class.
        counts: number of pairs behind each cell ``[c, c]``.
        intervals: ends of the 95% intervals of ``within_class``, ``between_class`` and the like.
        p_value: of the permutation test of the grouping; NaN where there is none.

    Returns:
        One sentence on within-class and between-class stiffness; one on groups and one on pairs, if given.

    Raises:
        ValueError: if ``groups`` does not have one integer per class.

    Example:
        >>> import numpy as np
        >>> print(captions(np.array([[0.5, 0.3], [0.3, 0.5]]), None, None)[0].replace("\u00a0", " "))
        A step on one example strongly helps its own class (mean 0.50) and helps other classes (mean 0.30).
    """
    summary = class_summary(torch.from_numpy(cells))
    within, between = summary["within_class"], summary["between_class"]
    around = {name: ends for name, ends in (intervals or {}).items() if mean_digits(*ends) is not None}
    own = f"its own class (mean\u00a0{mean_words(within, *around.get('within_class', ()))})"  # no line breaks there
    other = f"other classes (mean\u00a0{mean_words(between, *around.get('between_class', ()))})"
    if len(cells) == 1 and not math.isnan(within):
        lines = [f"A step on one example {effect(within)} {own}; there is no other class."]
    elif math.isnan(within) and math.isnan(between):
        lines = ["No pair of examples could be measured."]
    elif math.isnan(between):
        lines = [f"A step on one example {effect(within)} {own}; no pair of different classes was measured."]
    elif math.isnan(within):
        lines = [f"A step on one example {effect(between)} {other}; no pair of the same class was measured."]
    else:
        link = "and" if within * between > 0 or abs(between) < 0.02 else "but"
        lines = [f"A step on one example {effect(within)} {own} {link} {effect(between)} {other}."]
    if groups is not None:
        numbers = superclass_summary(torch.from_numpy(cells), list(groups))
        same, different = numbers["within_superclass"], numbers["between_superclass"]
        known = [
            f"{words} {mean_words(value, *around.get(name, ()))}"
            for name, words, value in (
                ("within_superclass", "in the same group (outlined)", same),
                ("between_superclass", "in different groups", different),
            )
            if not math.isnan(value)
        ]
        if known:
            chance = "" if math.isnan(p_value) else f" (chance alone: p\u00a0=\u00a0{p_value:.2g})"
            lines.append(f"Mean over different classes: {', '.join(known)}{chance}.")
    if around:
        lines.append("In brackets: 95% intervals, over the choice of examples.")
    if counts is not None and (counts > 0).any():
        low, high = int(counts[counts > 0].min()), int(counts.max())
        many = f"a mean over {low if low == high else f'{low} to {high}'} pairs"
        lines.append(f"Each cell is {many if high > 1 else 'one pair'} of examples.")
    return lines


def length_verdict(
    xi: float, interval: tuple[float, float] | None, reason: str, extrapolated: bool, borders: Array
) -> str:
    """ξ and what it means, or why there is none.

    Args:
        xi: the critical length; NaN where there is none.
        interval: ends of its 95% interval, which may be infinite.
        reason: why there is none.
        extrapolated: it lies outside the distances observed.
        borders: bin borders of the curve.

    Example:
        >>> length_verdict(0.58, (0.5, math.inf), "", False, [0, 1])
        'ξ = 0.58 (95% interval: 0.5 or more): examples nearer to each other than ξ improve together.'
    """
    if not math.isfinite(xi):
        return f"No ξ: {reason}." if reason else "No ξ: the fitted line gives none."
    told = ["extrapolated"] if extrapolated else []
    ends = interval or (math.nan, math.nan)
    if around := length_range(*ends):
        told.append(f"95% interval{':' if not told else ''} {around}")
    head = f"ξ = {short_length(xi, length_digits(*ends) or 3)}" + (f" ({', '.join(told)})" if told else "")
    if not extrapolated:
        return f"{head}: examples nearer to each other than ξ improve together."
    if xi > (borders[0] + borders[-1]) / 2:
        return f"{head}: beyond every pair measured; all improve together."
    return f"{head}: below every distance measured; none improve together."
