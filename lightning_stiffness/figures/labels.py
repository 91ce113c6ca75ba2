"""Names along the axes of a class matrix, however many classes there are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lightning_stiffness.figures.names import shorten, shorten_all
from lightning_stiffness.figures.style import text_width

LONGEST = 20
"""Signs of a name that are shown."""
SMALLEST, LARGEST = 6.0, 10.5
"""Type sizes in points."""
FILL = 0.85
"""Share of the room between two names that the type may take."""
STEPS = tuple(factor * 10**power for power in range(7) for factor in (1, 2, 5))
"""Distances between the classes named, where not all are."""


@dataclass(frozen=True)
class Ticks:
    """Names of an axis and where they stand."""

    places: list[float]
    names: list[str]
    size: float
    """Type size in points."""
    rotation: int
    """Degrees by which the names below the columns are turned."""
    thinned: bool
    """Not every class has its name."""
    row_width: float
    """Inches that the names beside the rows take."""
    column_height: float
    """Inches that the names below the columns take."""


def axis_ticks(
    names: Sequence[str], groups: Sequence[int] | None, group_names: Sequence[str] | None, *, pitch: float
) -> Ticks:
    """Choose which names to show, and how large, so that none overlap.

    Args:
        names: class names in the order shown.
        groups: group of each class in the order shown.
        group_names: name of each group.
        pitch: inches from one class to the next.

    Returns:
        Every class while its name fits at 6 points; past that each group, or every 2nd, 5th, 10th … class.

    Raises:
        ValueError: if ``group_names`` does not name every group.

    Example:
        >>> axis_ticks(["cat", "dog"], None, None, pitch=1.0).names
        ['cat', 'dog']
        >>> axis_ticks([str(i) for i in range(100)], None, None, pitch=0.06).names[:3]
        ['0', '2', '4']
    """
    if group_names is not None and groups is not None and len(group_names) <= max(groups):
        raise ValueError(
            f"expected group_names to name the groups 0 to {max(groups)}, got {len(group_names)} names"
        )
    every = math.ceil(SMALLEST / (72 * pitch * FILL))
    places, shown = [float(i) for i in range(len(names))], list(names)
    if every > 1 and groups is not None:
        places, shown = _group_labels(names, groups, group_names, apart=every)
    elif every > 1:
        every = next(step for step in STEPS if step >= every)
        places, shown = places[::every], shown[::every]
    if len(places) > 1:
        pitch *= min(after - before for before, after in pairwise(places))
    size = min(LARGEST, max(SMALLEST, 72 * pitch * FILL))
    shown = shorten_all(shown, LONGEST)
    longest = max(text_width(name, size) for name in shown)
    if longest <= pitch * 0.95:
        rotation, height = 0, size / 72
    elif 72 * pitch >= 1.45 * size:
        rotation, height = 45, (longest + size / 72) * math.sqrt(0.5)
    else:
        rotation, height = 90, longest
    return Ticks(places, shown, size, rotation, len(shown) < len(names), longest + 0.05, height + 0.08)


def _group_labels(
    names: Sequence[str], groups: Sequence[int], group_names: Sequence[str] | None, *, apart: int
) -> tuple[list[float], list[str]]:
    """Names of the groups, each at the middle of its classes, at least ``apart`` classes from the last one."""
    places: list[float] = []
    labels = []
    for start, length in _runs(groups):
        place = start + (length - 1) / 2
        if places and place - places[-1] < apart:
            continue
        places.append(place)
        if group_names is not None:
            labels.append(str(group_names[groups[start]]))
        else:
            rest = f", +{length - 1} more" if length > 1 else ""
            labels.append(shorten(names[start], max(8, LONGEST - len(rest))) + rest)
    return places, labels


def _runs(groups: Sequence[int]) -> list[tuple[int, int]]:
    """Start and length of each run of equal groups."""
    starts = [i for i in range(len(groups)) if i == 0 or groups[i] != groups[i - 1]]
    return [(start, end - start) for start, end in zip(starts, [*starts[1:], len(groups)], strict=True)]
