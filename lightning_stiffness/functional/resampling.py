"""Sums over pairs under other weights of the examples: resamples, and one example left out at a time.

A pair ``(i, j)`` weighs ``w_i v_j``. Every sum over pairs is then a quadratic form in the weights, and many
resamples are one matrix product. Sums carry the resamples in their last dimension.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

_PAIRS_AT_A_TIME = 512
"""Their weights then stay in the processor's cache: twice as fast as 8192."""
_CALLS = 32
"""Strata up to which a call for each takes less time than one that looks the stratum of each row up."""
_FEW = 8
"""Pairs without a value, per example, up to which they are looked up one by one."""


@dataclass(frozen=True)
class Block:
    """Pairs between two sets of examples and the strata the examples are drawn in, on the kept examples, stratum by
    stratum."""

    counted: Tensor
    """Mask ``[n, m]`` of the pairs that have a value."""
    rows: Tensor
    """Stratum of each row, integers from 0, ``[n]``."""
    columns: Tensor
    """Stratum of each column, ``[m]``."""
    symmetric: bool
    """Rows and columns are the same examples in the same order."""

    @property
    def sides(self) -> list[Tensor]:
        """Strata of each set of examples that is drawn from: one in a symmetric block, else two."""
        return [self.rows] if self.symmetric else [self.rows, self.columns]


@dataclass(frozen=True)
class Weights:
    """Weights of the rows ``[n, r]`` and of the columns ``[m, r]`` in ``r`` resamples."""

    rows: Tensor
    columns: Tensor


def draw_weights(
    sides: Sequence[Tensor], resamples: int, seed: int, drawn: Sequence[Tensor] | None = None
) -> Weights:
    """Weights of the Bayesian bootstrap (Rubin 1981): exponential, with mean 1 within each stratum.

    They have the variance of the numbers of times that examples are drawn with replacement, and never
    leave a class or a bin of the curve without a pair. Global random state is not touched.

    Args:
        sides: strata of each set of examples that is drawn from, as in :class:`Block`.
        resamples: how many.
        seed: the same seed gives the same weights, on every device.
        drawn: for each side, the number of each example among those drawn; by default 0, 1, 2, …

    Returns:
        Weights, float64; of one side for both rows and columns.

    Example:
        >>> weights = draw_weights([torch.tensor([0, 0, 1])], 5, seed=0).rows
        >>> weights.shape, weights[2].tolist()
        (torch.Size([3, 5]), [1.0, 1.0, 1.0, 1.0, 1.0])
    """
    found = []
    for side, exponential in enumerate(_exponential(tuple(map(len, sides)), resamples, seed)):
        strata = sides[side]
        weights = exponential.to(strata.device)
        if drawn is not None:
            weights = weights.index_select(0, drawn[side])
        found.append(weights / per_stratum(weights, strata).mean[strata])
    return Weights(found[0], found[-1])


@functools.lru_cache(maxsize=4)  # every measurement of a run draws the same
def _exponential(lengths: tuple[int, ...], resamples: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    empty = (torch.empty(length, resamples, dtype=torch.float64) for length in lengths)
    return [weights.exponential_(generator=generator) for weights in empty]


@dataclass(frozen=True)
class PerStratum:
    """Mean of some values over the examples of each stratum, and the number of examples."""

    mean: Tensor
    size: Tensor


def per_stratum(values: Tensor, strata: Tensor) -> PerStratum:
    """Mean over the examples of each stratum ``[s, …]`` and their number ``[s, 1, …]``."""
    groups = int(strata.max()) + 1 if len(strata) else 0
    size = torch.bincount(strata, minlength=groups).to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    total = values.new_zeros(groups, *values.shape[1:]).index_add(0, strata, values)
    return PerStratum(total / size, size)


def cell_sums(values: Tensor, block: Block, classes: int) -> Tensor:
    """Sums of ``values_kij`` over the pairs of every two strata, for each ``k``: ``[k, c, c]``."""
    of_rows, of_columns = (
        torch.nn.functional.one_hot(y, classes).to(values.dtype) for y in (block.rows, block.columns)
    )
    return of_rows.T @ (values @ of_columns)


def weighted_cells(values: Tensor, block: Block, weights: Weights, classes: int) -> Tensor:
    """Sums of ``w_i v_j values_kij`` over the pairs of every two strata, for each ``k``: ``[k, c, c, r]``.

    Of a symmetric block one triangle of the cells is worked out; the other is its mirror image.
    """
    resamples = weights.rows.shape[1]
    cells = values.new_zeros(len(values), classes, classes, resamples)
    row_ends, column_ends = _ends(block.rows, classes), _ends(block.columns, classes)
    for b, (left, right) in enumerate(pairwise(column_ends)):
        if left == right:
            continue
        first = left if block.symmetric else 0  # rows of this stratum and those after it
        by_row = (values[:, first:, left:right] @ weights.columns[left:right]).mul_(weights.rows[first:])
        if classes > _CALLS:
            cells[:, :, b].index_add_(1, block.rows[first:], by_row)
            continue
        for a, (low, high) in enumerate(pairwise(row_ends)):
            if low >= first:
                torch.sum(by_row[:, low - first : high - first], 1, out=cells[:, a, b])
    if block.symmetric:
        above = torch.ones(classes, classes, dtype=torch.bool, device=values.device).triu(1)
        cells = torch.where(above[..., None], cells.transpose(1, 2), cells)
    return cells


def _ends(strata: Tensor, groups: int) -> list[int]:
    """Where each stratum begins, and where the last ends."""
    return [0, *torch.bincount(strata, minlength=groups).cumsum(0).tolist()]


def weighted_counts(block: Block, weights: Weights, classes: int) -> Tensor:
    """Sums of ``w_i v_j`` over the pairs of every two strata that have a value, ``[c, c, r]``."""
    counted = block.counted
    rows, columns = torch.nonzero(~counted, as_tuple=True)
    if len(rows) > _FEW * sum(counted.shape):
        return weighted_cells(counted[None].to(weights.rows.dtype), block, weights, classes)[0]
    # Nearly all pairs count: all of them at once, less the few that do not.
    by_row, by_column = (
        w.new_zeros(classes, w.shape[1]).index_add(0, strata, w)
        for w, strata in ((weights.rows, block.rows), (weights.columns, block.columns))
    )
    cells = block.rows[rows] * classes + block.columns[columns]
    missing = weights.rows.index_select(0, rows) * weights.columns.index_select(0, columns)
    total = by_row[:, None] * by_column[None]
    return total - torch.zeros_like(total).flatten(0, 1).index_add(0, cells, missing).reshape(total.shape)


@dataclass(frozen=True)
class PairList:
    """Chosen pairs one by one, sorted by group (the bins of a curve)."""

    row: Tensor
    column: Tensor
    group: Tensor
    groups: int
    values: Tensor
    """What is summed, ``[k, q]``."""
    centre: float = 0.0
    """Mean distance of the pairs."""

    def of(self, values: Tensor) -> "PairList":
        """The same pairs with other values ``[k, q]``."""
        return replace(self, values=values)

    def total(self) -> Tensor:
        """Sums over the pairs of each group, ``[g, q]``."""
        return self.values.new_zeros(self.groups, self.values.shape[1]).index_add(0, self.group, self.values)

    def weighted(self, weights: Weights) -> Tensor:
        """Sums of ``w_i v_j values_ij`` over the pairs of each group, ``[g, q, r]``."""
        sums = self.values.new_zeros(self.groups, self.values.shape[1], weights.rows.shape[1])
        stops = torch.bincount(self.group, minlength=self.groups).cumsum(0).tolist()
        start = 0
        for group, stop in enumerate(stops):
            for low in range(start, stop, _PAIRS_AT_A_TIME):
                part = slice(low, min(low + _PAIRS_AT_A_TIME, stop))
                pair_weights = weights.rows.index_select(0, self.row[part])
                pair_weights *= weights.columns.index_select(0, self.column[part])
                sums[group] += self.values[part].T @ pair_weights
            start = stop
        return sums

    def without(self, block: Block, side: int) -> Tensor:
        """Sums over the pairs of each group without example ``i``, ``[g, q, n]``.

        The other pairs of its stratum take the place of the pairs lost, so that strata keep their shares.
        """
        strata = block.sides[side]
        ends = [self.row, self.column] if block.symmetric else [(self.row, self.column)[side]]
        both = (block.rows[self.row] == block.columns[self.column]) & block.symmetric
        sums = self.total()[..., None].repeat(1, 1, len(strata))
        # Of k examples' pairs with others k - 1 parts in k are left, of those among themselves k - 2.
        for inside, lost, counted_twice in ((~both, 1, 1), (both, 2, 2)):
            some = int(inside.sum())
            if not some:
                continue
            mine = self.values.new_zeros(len(strata) * self.groups, self.values.shape[1])
            for end in ends:
                place = end * self.groups + self.group
                if some == len(place):
                    mine.index_add_(0, place, self.values)
                else:
                    mine.index_add_(0, place[inside], self.values[inside])
            mine = mine.reshape(len(strata), self.groups, self.values.shape[1])  # there may be no example at all
            stratum = per_stratum(mine, strata)
            all_pairs = (stratum.mean * stratum.size / counted_twice)[strata]
            size = stratum.size[strata]
            again = torch.where(size > lost, size / (size - lost), 1.0)
            sums += (again * (all_pairs - mine) - all_pairs).permute(1, 2, 0)
        return sums
