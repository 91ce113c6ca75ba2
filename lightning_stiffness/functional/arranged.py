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


def values_of_pairs(values: Sequence[Tensor], rows: Side, columns: Side) -> Tensor:
    """Values ``[n, m]`` of pairs in float64, for the examples of two sides: ``[k, rows, columns]``.

    Example:
        >>> side = arranged(torch.tensor([True, True]), torch.tensor([1, 0]))
        >>> values_of_pairs([torch.tensor([[1.0, 2.0], [3.0, 4.0]])], side, side).tolist()
        [[[4.0, 3.0], [2.0, 1.0]]]
    """
    n, m = values[0].shape
    shape = len(values), len(rows.examples), len(columns.examples)
    every = torch.empty(shape, dtype=torch.float64, device=values[0].device)
    # Rows and columns at once, four times as fast as one after the other
    places = (rows.examples[:, None] * m + columns.examples).flatten()
    as_they_are = shape[1:] == (n, m) and bool((places[1:] > places[:-1]).all())
    for room, one in zip(every, values, strict=True):
        if as_they_are:
            room.copy_(one)
        else:
            torch.index_select(one.double().flatten(), 0, places, out=room.view(-1))
    return every
