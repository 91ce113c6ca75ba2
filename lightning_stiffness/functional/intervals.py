"""From resampled sums to intervals: class means, bins of the curve, critical length."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_stiffness.functional.classes import superclass_tensor
from lightning_stiffness.functional.resampling import (
    Block,
    PairList,
    Weights,
    cells_without,
    jackknife_variance,
    weighted_cells,
)

_CELLS_AT_A_TIME = 2**24


class Interval(NamedTuple):
    """Ends of a confidence interval; NaN where the pairs do not determine one."""

    low: float
    high: float


def summary_intervals(
    value: Tensor,
    block: Block,
    weights: Weights,
    classes: int,
    labelled: bool,
    superclasses: Sequence[int] | Tensor | None,
    level: float,
) -> dict[str, Interval]:
    """Means over cells of the class matrix, and over all pairs."""
    counted = block.counted.double()
    ids = torch.arange(classes, device=value.device)
    masks: dict[str, Tensor] = {}
    if labelled:
        same = ids[:, None] == ids[None, :]
        masks = {"within_class": same, "between_class": ~same}
        if superclasses is not None:
            groups = superclass_tensor(superclasses, classes).to(value.device)
            same_group = groups[:, None] == groups[None, :]
            masks |= {"within_superclass": same_group & ~same, "between_superclass": ~same_group}
    names = [*masks, "overall"]

    one = Weights(*(torch.ones_like(w[:, :1]) for w in (weights.rows, weights.columns)))
    sums, counts = (weighted_cells(x, block, one, classes) for x in (value, counted))
    # Each mean over cells; the mean over all pairs is one too, with the numbers of pairs as weights.
    share = torch.stack([*(m.double() for m in masks.values()), counts[..., 0]]).flatten(1)

    def means(sums: Tensor, counts: Tensor) -> Tensor:
        there = counts.flatten(0, 1) > 0
        cells = torch.where(there, sums.flatten(0, 1) / counts.flatten(0, 1), 0.0)
        return share @ cells / (share @ there.double())

    step = max(1, _CELLS_AT_A_TIME // classes**2)
    estimate = means(sums, counts)[:, 0]
    drawn = []
    for low in range(0, weights.rows.shape[1], step):
        some = Weights(weights.rows[:, low : low + step], weights.columns[:, low : low + step])
        drawn.append(means(*(weighted_cells(x, block, some, classes) for x in (value, counted))))
    jackknife = torch.zeros_like(estimate)
    for side, strata in enumerate(block.sides):
        deleted = [
            means(*(cells_without(x, block, classes, side, low, low + step) for x in (value, counted)))
            for low in range(0, len(strata), step)
        ]
        jackknife += jackknife_variance(torch.cat(deleted, 1) if deleted else estimate[:, None][:, :0], strata)

    # The variance with independent pairs; in a symmetric block each pair stands in the matrix twice.
    twice = 2.0 if block.symmetric else 1.0
    mean = (sums / counts)[..., 0]
    residual = ((value - mean[block.rows][:, block.columns]) ** 2).masked_fill(~block.counted, 0.0)
    cell_variance = weighted_cells(residual, block, one, classes)[..., 0] / counts[..., 0] ** 2
    independent = []
    for cells in masks.values():
        present = cells & (counts[..., 0] > 0)
        independent.append(twice * cell_variance[present].sum() / present.sum() ** 2)
    everything = ((value - estimate[-1]) ** 2).masked_fill(~block.counted, 0.0).sum()
    independent.append(twice * everything / counts.sum() ** 2)
    low_high = _scaled(estimate, torch.cat(drawn, 1), jackknife, torch.stack(independent), level)
    return {name: Interval(*ends) for name, ends in zip(names, low_high.tolist(), strict=True)}


def list_pairs(value: Tensor, distance: Tensor, pairs: Tensor, block: Block, edges: Tensor) -> PairList:
    """The pairs of the curve, each once, in groups: its bins, and a last one for pairs outside them.

    With each pair go 1, y, x, x², xy, where y is its stiffness and x its distance.
    """
    if block.symmetric:
        pairs = (pairs | pairs.T).triu(1)
    row, column = torch.nonzero(pairs & block.counted & torch.isfinite(distance), as_tuple=True)
    x, y = distance[row, column].double(), value[row, column]
    bins = len(edges) - 1
    group = (torch.bucketize(x, edges, right=True) - 1).clamp(0, bins - 1)
    group = torch.where((x >= edges[0]) & (x <= edges[-1]), group, bins)
    order = group.argsort(stable=True)
    row, column, group, x, y = row[order], column[order], group[order], x[order], y[order]
    return PairList(row, column, group, bins + 1, torch.stack([torch.ones_like(x), y, x, x * x, x * y], 1))


def curve_intervals(
    pairs: PairList, block: Block, weights: Weights, level: float, min_pairs: int
) -> tuple[Tensor, Interval]:
    """Intervals in each bin ``[b, 2]`` and of the critical length."""
    sums = _PairSums(
        pairs.total()[..., None],
        pairs.weighted(weights),
        [pairs.without(block, side) for side in range(len(block.sides))],
    )

    def per_bin(sums: Tensor) -> Tensor:
        return sums[:-1, 1] / torch.where(sums[:-1, 0] > 0, sums[:-1, 0], math.nan)

    estimate = per_bin(sums.total)[:, 0]
    # The last group lies outside the bins and has no mean: 0 stands in, and its squares are dropped.
    mean = torch.cat([estimate.nan_to_num(0.0), estimate.new_zeros(1)])
    squares = ((pairs.values[:, 1] - mean[pairs.group]) ** 2)[:, None]
    independent = pairs.of(squares).total()[:-1, 0] / sums.total[:-1, 0, 0] ** 2
    curve = _scaled(estimate, per_bin(sums.drawn), sums.jackknife(per_bin, block), independent, level)
    return curve, _critical_interval(pairs, sums, block, level, min_pairs)


class _PairSums(NamedTuple):
    """Sums ``[g, 5, …]`` over all pairs, in the resamples, and without each example of each side."""

    total: Tensor
    drawn: Tensor
    without: list[Tensor]

    def jackknife(self, statistics: Callable[[Tensor], Tensor], block: Block) -> Tensor:
        sides = zip(self.without, block.sides, strict=True)
        return torch.stack([jackknife_variance(statistics(sums), strata) for sums, strata in sides]).sum(0)


def _critical_interval(pairs: PairList, sums: _PairSums, block: Block, level: float, min_pairs: int) -> Interval:
    """The variance is set right for ξ made linear in the four moments; then the moments give ξ themselves."""
    _, y, x, _, _ = pairs.values.unbind(1)
    if len(x) < max(min_pairs, 2):
        return Interval(math.nan, math.nan)
    centre = x.mean()

    def moments(sums: Tensor) -> Tensor:
        one, y, x, xx, xy = sums.sum(0)
        one = torch.where(one > 0, one, math.nan)
        mean_x, mean_y = x / one - centre, y / one
        return torch.stack([mean_x, mean_y, xx / one - 2 * centre * mean_x - centre**2, xy / one - centre * mean_y])

    at = moments(sums.total)[:, 0]
    _, mean_y, xx, xy = at
    slope = xy / xx
    if not slope < 0:  # no ξ, as in critical_length; also where all pairs lie at one distance
        return Interval(math.nan, math.nan)
    # ξ = m_x - m_y / slope, slope = (m_xy - m_x m_y) / (m_xx - m_x²); its derivatives at m_x = 0.
    by_slope = mean_y / slope**2
    gradient = torch.stack([1 - by_slope * mean_y / xx, -1 / slope, -by_slope * slope / xx, by_slope / xx])
    residual = y - mean_y - slope * (x - centre)
    influence = residual * (1 / len(x) - mean_y / slope * (x - centre) / (xx * len(x))) / slope

    def linear(sums: Tensor) -> Tensor:
        return (gradient @ (moments(sums) - at[:, None]))[None]

    drawn = moments(sums.drawn)
    variance = _variance(sums.jackknife(linear, block), (influence**2).sum()[None])
    factor = _factor(variance, linear(sums.drawn))
    mean_x, mean_y, xx, xy = at[:, None] + factor * (drawn - at[:, None])
    spread, slope = xx - mean_x**2, xy - mean_x * mean_y
    # As the slope goes to 0 from below, ξ goes to infinity, on the side where stiffness has its sign.
    crossing = torch.where(
        (slope < 0) & (spread > 0), centre + mean_x - mean_y * spread / slope, torch.sign(mean_y) * math.inf
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
