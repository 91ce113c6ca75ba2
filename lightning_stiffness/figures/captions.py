"""What a class matrix shows, in words."""

import math
from collections.abc import Sequence

import torch

from lightning_stiffness.figures.style import Array, effect, number
from lightning_stiffness.functional import class_summary, superclass_summary


def captions(cells: Array, groups: Sequence[int] | None, counts: Array | None) -> list[str]:
    """What a class matrix shows, in words.

    Args:
        cells: class matrix ``[c, c]``; NaN where there is no pair.
        groups: group of each class.
        counts: number of pairs behind each cell ``[c, c]``.

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
    own = f"its own class (mean\u00a0{number(within)})"  # no line breaks there
    other = f"other classes (mean\u00a0{number(between)})"
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
            f"{words} {number(value)}"
            for words, value in (("in the same group (outlined)", same), ("in different groups", different))
            if not math.isnan(value)
        ]
        if known:
            lines.append(f"Mean over different classes: {', '.join(known)}.")
    if counts is not None and (counts > 0).any():
        low, high = int(counts[counts > 0].min()), int(counts.max())
        lines.append(f"Each cell is a mean over {low if low == high else f'{low} to {high}'} pairs of examples.")
    return lines
