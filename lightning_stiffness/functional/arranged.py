"""Examples in the order of their strata, and what belongs to their pairs in that order."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Side(NamedTuple):
    """The ``k`` kept of ``n`` examples, stratum by stratum: so that sums over strata read what lies together."""

    examples: Tensor
    """Which they are, ``[k]``."""
    strata: Tensor
    """Their strata, none before a smaller one, ``[k]``."""
    drawn: Tensor
    """Which of the kept each was before they were put in order, ``[k]``."""
    place: Tensor
    """Where each example is now, ``[n]``; 0 for one that is not kept."""


def arranged(kept: Tensor, strata: Tensor) -> Side:
    """Put examples in the order of their strata, those of one stratum in the order they have.

    Args:
        kept: mask ``[n]``.
        strata: integers ``[n]``.

    Example:
        >>> side = arranged(torch.tensor([True, False, True, True]), torch.tensor([1, 0, 1, 0]))
        >>> side.examples.tolist(), side.strata.tolist(), side.drawn.tolist(), side.place.tolist()
        ([3, 0, 2], [0, 1, 1], [2, 0, 1], [1, 0, 2, 0])
    """
    all_kept = torch.nonzero(kept)[:, 0]
    drawn = strata[all_kept].argsort(stable=True)
    examples = all_kept[drawn]
    numbers = torch.arange(len(examples), device=strata.device)
    return Side(examples, strata[examples], drawn, torch.zeros_like(strata).index_copy(0, examples, numbers))


def values_of_pairs(measures: Sequence[Tensor], counted: Tensor, rows: Side, columns: Side) -> Tensor:
    """Measures ``[n, m]`` of the pairs that count, 0 for the others, and last 1 or 0 for whether they do: float64,
    for the examples of two sides, ``[k + 1, rows, columns]``.

    Example:
        >>> side = arranged(torch.tensor([True, True]), torch.tensor([1, 0]))
        >>> S = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> values_of_pairs([S], S < 4, side, side).tolist()
        [[[0.0, 3.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]]
    """
    n, m = counted.shape
    shape = len(measures) + 1, len(rows.examples), len(columns.examples)
    every = torch.empty(shape, dtype=torch.float64, device=counted.device)
    # Rows and columns at once, four times as fast as one after the other
    places = (rows.examples[:, None] * m + columns.examples).flatten()
    as_they_are = shape[1:] == (n, m) and bool((places[1:] > places[:-1]).all())
    for room, one in zip(every, (*measures, counted), strict=True):
        if as_they_are:
            room.copy_(one)
        else:
            torch.index_select(one.double().flatten(), 0, places, out=room.view(-1))
    # Here and not before, where copies of all measures would be held: once that is freed, the system takes the
    # memory back, and the next block gets it page by page
    every[:-1].masked_fill_(every[-1] == 0, 0.0)
    return every
