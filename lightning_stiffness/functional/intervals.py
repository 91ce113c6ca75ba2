"""From resampled sums to intervals: class means, bins of the curve, critical length."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_stiffness.functional.classes import cell_masks
from lightning_stiffness.functional.curve import observed_by_each
from lightning_stiffness.functional.jackknife import cells_variance, jackknife_variance, means_without, without_each
from lightning_stiffness.functional.resampling import (
    Block,
    PairList,
    Weights,
    cell_sums,
    weighted_cells,
    weighted_counts,
)

_CELLS_AT_A_TIME = 2**24
_MOST_CELLS = 2**26
"""Cells of all measures in all resamples that are held for intervals of each cell: 400 classes, usually."""


class Interval(NamedTuple):
    """Ends of a confidence interval; NaN where the pairs do not determine one."""

    low: float
    high: float


def summary_intervals(
    every: Tensor,
    block: Block,
    weights: Weights,
    classes: int,
    levels: Sequence[Tensor] | None,
    level: float,
) -> list[tuple[dict[str, Interval], Tensor | None]]:
    """For each of ``k`` measures: means over cells of the class matrix and over all pairs, and the cells
    themselves ``[c, c, 2]``.

    ``every``: of each pair, by each measure, and last 1 where it counts, ``[k + 1, n, m]``; else 0.
    ``levels``: groupings of the classes; None where there are no classes, and no cells. Nor are there intervals of
    cells where the matrix has too many of them.
    """
    masks = {} if levels is None else cell_masks(classes, levels)
    values = every[:-1]
    without = without_each(every, block, classes)
    sums, counts = without[0].cells[:-1], without[0].cells[-1]
    there = counts > 0
    # Each mean over cells; the mean over all pairs is one too, with the numbers of pairs as weights.
    share = torch.stack([*((mask & there).double() for mask in masks.values()), counts]).flatten(1)

    def means(sums: Tensor, counts: Tensor) -> Tensor:
        """From cells ``[k, c, c, r]`` and their weights ``[c, c, r]``."""
        there = counts.flatten(0, 1) > 0
        cells = torch.where(there, sums.flatten(1, 2) / counts.flatten(0, 1), 0.0)
        return share @ cells / (share @ there.double())

    step = max(1, _CELLS_AT_A_TIME // (len(values) * classes**2))
    of_cells = levels is not None and len(values) * classes**2 * weights.rows.shape[1] <= _MOST_CELLS
    drawn, drawn_cells = [], []
    for low in range(0, weights.rows.shape[1], step):
        some = Weights(weights.rows[:, low : low + step], weights.columns[:, low : low + step])
        # Where no pair is, all pairs less the missing ones may leave a rounding error.
        some_counts = weighted_counts(block, some, classes) * there[..., None]
        some_sums = weighted_cells(values, block, some, classes)
        drawn.append(means(some_sums, some_counts))
        if of_cells:
            drawn_cells.append(some_sums / some_counts)
    estimate = means(sums[..., None], counts[..., None])[..., 0]
    jackknife = torch.zeros_like(estimate)
    share_by_rows = share.reshape(-1, classes, classes)
    for of_side, cell_share in zip(without, (share_by_rows, share_by_rows.mT), strict=False):
        deleted = means_without(of_side, cell_share)
        jackknife += jackknife_variance(deleted.flatten(0, 1), of_side.mine).reshape(jackknife.shape)

    # The variance with independent pairs; in a symmetric block each pair stands in the matrix twice, and within a
    # class twice in its cell.
    twice = 2.0 if block.symmetric else 1.0
    in_cell = 1.0 + (twice - 1.0) * torch.eye(classes, dtype=values.dtype, device=values.device)
    cells_jackknife = cells_variance(without) if of_cells else None
    every_cell = torch.cat(drawn_cells, -1).flatten(1, 2) if of_cells else None
    drawn_cells.clear()
    results = []
    residual = torch.empty_like(every[-1])
    for k, value in enumerate(values):
        mean = torch.where(there, sums[k] / counts, 0.0)
        # in this order whole rows are copied
        torch.index_select(mean.index_select(1, block.columns), 0, block.rows, out=residual)
        torch.sub(value, residual, out=residual).square_().mul_(every[-1])
        squares = cell_sums(residual[None], block, classes)[0]
        cell_variance = squares / counts**2
        independent = [cell_variance[m & there].sum() / (m & there).sum() ** 2 for m in masks.values()]
        everything = squares.sum() + (counts * (mean - estimate[k, -1]) ** 2).sum()  # about the mean of all pairs
        variance = twice * torch.stack([*independent, everything / counts.sum() ** 2])
        ends = _scaled(estimate[k], torch.cat(drawn, -1)[k], jackknife[k], variance, level).tolist()
        cells = None
        if cells_jackknife is not None and every_cell is not None:
            variance_k = (in_cell * cell_variance).flatten()
            of_cell, jackknife_k = (sums[k] / counts).flatten(), cells_jackknife[k].flatten()
            flat = _scaled(of_cell, every_cell[k], jackknife_k, variance_k, level)
            cells = flat.reshape(classes, classes, 2)
        results.append(
            ({name: Interval(*pair) for name, pair in zip([*masks, "overall"], ends, strict=True)}, cells)
        )
    return results


def list_pairs(
    stiffness: Sequence[Tensor],
    distance: Tensor,
    pairs: Tensor,
    counted: Tensor,
    edges: Tensor,
    *,
    symmetric: bool,
) -> PairList:
    """The pairs of the curve, each once, in groups: its bins, and a last one for pairs outside them.

    With each pair go 1, x, x², where x is its distance from the mean distance, and y, xy for each measure, where y
    is its stiffness.
    """
    if symmetric:
        pairs = (pairs | pairs.T).triu(1)
    found = observed_by_each(stiffness, distance, pairs & counted)
    row, column, x, _ = found[0]
    bins = len(edges) - 1
    group = (torch.bucketize(x, edges, right=True) - 1).clamp(0, bins - 1)
    group = torch.where((x >= edges[0]) & (x <= edges[-1]), group, bins)
    order = group.argsort(stable=True)
    row, column, group, x = row[order], column[order], group[order], x[order]
    centre = x.mean() if len(x) else x.new_zeros(())
    x = x - centre
    of_measures = [z for one in found for y in [one.stiffness[order]] for z in (y, x * y)]
    values_of_pairs = torch.stack([torch.ones_like(x), x, x * x, *of_measures], 1)
    return PairList(row, column, group, bins + 1, values_of_pairs, float(centre))


def curve_intervals(
    pairs: PairList, block: Block, weights: Weights, level: float, min_pairs: int
) -> list[tuple[Tensor, Interval]]:
    """Intervals in each bin ``[b, 2]`` and of the critical length, for each measure."""
    every = _PairSums(
        pairs.total()[..., None],
        pairs.weighted(weights),
        [pairs.without(block, side) for side in range(len(block.sides))],
    )

    def per_bin(sums: Tensor) -> Tensor:
        return sums[:-1, 3] / torch.where(sums[:-1, 0] > 0, sums[:-1, 0], math.nan)

    results = []
    for measure in range((pairs.values.shape[1] - 3) // 2):
        columns = [0, 1, 2, 3 + 2 * measure, 4 + 2 * measure]
        sums, one = every.of(columns), pairs.of(pairs.values[:, columns])
        estimate = per_bin(sums.total)[:, 0]
        # The last group lies outside the bins and has no mean: 0 stands in, and its squares are dropped.
        mean = torch.cat([estimate.nan_to_num(0.0), estimate.new_zeros(1)])
        squares = ((one.values[:, 3] - mean[pairs.group]) ** 2)[:, None]
        independent = one.of(squares).total()[:-1, 0] / sums.total[:-1, 0, 0] ** 2
        curve = _scaled(estimate, per_bin(sums.drawn), sums.jackknife(per_bin, block), independent, level)
        results.append((curve, _critical_interval(one, sums, block, level, min_pairs)))
    return results


class _PairSums(NamedTuple):
    """Sums ``[g, 5, …]`` over all pairs, in the resamples, and without each example of each side."""

    total: Tensor
    drawn: Tensor
    without: list[Tensor]

    def of(self, columns: list[int]) -> "_PairSums":
        return _PairSums(self.total[:, columns], self.drawn[:, columns], [s[:, columns] for s in self.without])

    def jackknife(self, statistics: Callable[[Tensor], Tensor], block: Block) -> Tensor:
        sides = zip(self.without, block.sides, strict=True)
        return torch.stack([jackknife_variance(statistics(sums), strata) for sums, strata in sides]).sum(0)


def _critical_interval(pairs: PairList, sums: _PairSums, block: Block, level: float, min_pairs: int) -> Interval:
    """The variance is set right for ξ made linear in the four moments; then the moments give ξ themselves."""
    _, x, _, y, _ = pairs.values.unbind(1)
    if len(x) < max(min_pairs, 2):
        return Interval(math.nan, math.nan)

    def moments(sums: Tensor) -> Tensor:
        one, x, xx, y, xy = sums.sum(0)
        one = torch.where(one > 0, one, math.nan)
        return torch.stack([x / one, y / one, xx / one, xy / one])

    at = moments(sums.total)[:, 0]
    _, mean_y, xx, xy = at
    slope = xy / xx
    # No ξ, as in critical_length: pairs all at one distance, up to rounding, or a stiffness that does not fall.
    spread_out = xx > (1e-12 * max(1.0, abs(pairs.centre))) ** 2
    if not spread_out or not slope * (x.max() - x.min()) < -1e-12 * y.abs().max():
        return Interval(math.nan, math.nan)
    # ξ = m_x - m_y / slope, slope = (m_xy - m_x m_y) / (m_xx - m_x²); its derivatives at m_x = 0.
    by_slope = mean_y / slope**2
    gradient = torch.stack([1 - by_slope * mean_y / xx, -1 / slope, -by_slope * slope / xx, by_slope / xx])
    residual = y - mean_y - slope * x
    influence = residual * (1 / len(x) - mean_y / slope * x / (xx * len(x))) / slope

    def linear(sums: Tensor) -> Tensor:
        return (gradient @ (moments(sums) - at[:, None]))[None]

    drawn = moments(sums.drawn)
    variance = _variance(sums.jackknife(linear, block), (influence**2).sum()[None])
    factor = _factor(variance, linear(sums.drawn))
    mean_x, mean_y, xx, xy = at[:, None] + factor * (drawn - at[:, None])
    spread, slope = xx - mean_x**2, xy - mean_x * mean_y
    # As the slope goes to 0 from below, ξ goes to infinity, on the side where stiffness has its sign.
    crossing = torch.where(
        (slope < 0) & (spread > 0), pairs.centre + mean_x - mean_y * spread / slope, torch.sign(mean_y) * math.inf
    )
    ordered, tail = crossing.sort().values, (1 - level) / 2 * (len(crossing) - 1)
    if bool(torch.isnan(factor).any()):
        return Interval(math.nan, math.nan)
    return Interval(float(ordered[math.floor(tail)]), float(ordered[-1 - math.floor(tail)]))


def _variance(jackknife: Tensor, independent: Tensor) -> Tensor:
    return torch.maximum(jackknife - independent, independent)


def _factor(variance: Tensor, drawn: Tensor) -> Tensor:
    """What the deviations of ``k`` statistics, drawn ``[k, r]``, are multiplied with to have that variance."""
    have = drawn.var(1)
    # Resamples that all agree stay as they are; NaN stays NaN.
    return torch.where(have > 0, (variance / have).sqrt(), 0.0 * variance)


def _scaled(estimate: Tensor, drawn: Tensor, jackknife: Tensor, independent: Tensor, level: float) -> Tensor:
    """Quantiles of the scaled deviations about the estimates, ``[k, 2]``."""
    deviation = drawn - estimate[:, None]
    deviation = deviation * _factor(_variance(jackknife, independent), deviation)[:, None]
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=deviation.dtype, device=deviation.device)
    return (estimate[:, None] + torch.quantile(deviation, ends, dim=1).T).clamp(-1.0, 1.0)
