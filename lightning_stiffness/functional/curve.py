"""Stiffness against distance, in bins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_stiffness import arguments
from lightning_stiffness.arguments import mask_tensor, real_tensor


@dataclass(frozen=True)
class DistanceCurve:
    """Stiffness against distance in ``b`` bins of equal width; see :func:`distance_curve`."""

    edges: Tensor
    """Bin borders ``[b + 1]``, in units of distance."""
    mean: Tensor
    """Mean stiffness of the pairs in each bin ``[b]``; NaN in an empty one."""
    count: Tensor
    """Number of pairs in each bin ``[b]``."""
    stderr: Tensor
    """Standard error of the mean ``[b]``, with the pairs taken as independent; NaN below two pairs."""

    @property
    def centers(self) -> Tensor:
        """Bin centres ``[b]``."""
        return (self.edges[:-1] + self.edges[1:]) / 2


def distance_curve(
    stiffness: Float[Tensor, "n m"],
    distance: Float[Tensor, "n m"],
    pairs: Bool[Tensor, "n m"],
    *,
    bins: int = 20,
    limits: tuple[float, float] | None = None,
) -> DistanceCurve:
    r"""Mean stiffness of the pairs at each distance.

    .. math:: S(k) = \operatorname{mean}\{ S(i, j) : e_k \le d(i, j) < e_{k+1} \}

    with the last bin closed. (Fort et al., arXiv:1901.09491v3, section 2.4.)

    Args:
        stiffness: stiffness of every pair, shape ``[n, m]``; NaN pairs are left out.
        distance: distance of every pair, shape ``[n, m]``; NaN pairs are left out.
        pairs: mask ``[n, m]`` of the pairs to take, each pair once or, in a symmetric block, twice.
        bins: number of bins ``b``, of equal width.
        limits: range of the bins; by default from the smallest to the largest distance of those pairs.

    Returns:
        The curve. In a symmetric block pass one triangle, or counts double and standard errors shrink.

    Raises:
        ValueError: if ``bins`` < 1, the limits are not in order, the shapes differ, or for other types.

    Example:
        >>> S, d = torch.tensor([[0.9, 0.7, 0.1]]), torch.tensor([[0.0, 0.5, 1.0]])
        >>> curve = distance_curve(S, d, torch.ones(1, 3, dtype=torch.bool), bins=2)
        >>> curve.count.tolist(), [round(v, 3) for v in curve.mean.tolist()]
        ([1, 2], [0.9, 0.4])
    """
    return curve_of(observed(stiffness, distance, pairs), bins=bins, limits=limits)


def curve_of(pairs: "Observed", *, bins: int, limits: tuple[float, float] | None = None) -> DistanceCurve:
    """:func:`distance_curve` of pairs that have been looked up."""
    bins = arguments.whole("bins", bins, 1)
    x, y = pairs.distance, pairs.stiffness
    if limits is None:
        limits = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    low, high = arguments.limits("limits", limits, apart=False)
    if high == low:  # all pairs at one distance: a bin of any width holds them
        high = low + 1.0
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=x.device)
    inside = (x >= low) & (x <= high)
    x, y = x[inside], y[inside]
    index = (torch.bucketize(x, edges, right=True) - 1).clamp(0, bins - 1)
    zeros = torch.zeros(bins, dtype=torch.float64, device=x.device)
    count = zeros.index_add(0, index, torch.ones_like(x))
    mean = zeros.index_add(0, index, y) / count
    squares = zeros.index_add(0, index, (y - mean[index]) ** 2)
    variance = torch.where(count > 1, squares / (count - 1), torch.full_like(count, math.nan))
    return DistanceCurve(edges, mean, count.long(), (variance / count).sqrt())


def curve_crossing(
    centers: Sequence[float] | Float[Tensor, " b"], mean: Sequence[float] | Float[Tensor, " b"]
) -> float:
    r"""Where the binned curve first falls to zero: a second estimate of the critical length, without a line.

    .. math:: d_k + (d_l - d_k) \frac{S_k}{S_k - S_l}

    for the first bins :math:`k, l` next to each other (empty ones left out) with :math:`S_k > 0 \ge S_l`.
    Where it differs much from the ξ of the line, stiffness does not fall as a line. Bins of few pairs can cross
    by chance.

    Args:
        centers: bin centres ``[b]``, in order, in units of distance.
        mean: mean stiffness of each bin ``[b]``; NaN in an empty one.

    Returns:
        The crossing, in units of distance; NaN where the curve does not cross from above.

    Raises:
        ValueError: if there are not as many means as centres, or for anything but lists of numbers.

    Example:
        >>> curve_crossing([0.5, 1.5, 2.5], [0.4, 0.1, -0.1])
        2.0
    """
    x = arguments.real_numbers("centers", centers, "a list or tensor of numbers [b]")
    y = arguments.real_numbers("mean", mean, "a list or tensor of numbers [b]")
    if len(x) != len(y):
        raise ValueError(f"expected mean to have one entry for each of the {len(x)} centers, got {len(y)}")
    filled = [(d, s) for d, s in zip(x, y, strict=True) if not math.isnan(s)]
    for (d, s), (next_d, next_s) in pairwise(filled):
        if s > 0 >= next_s:
            return min(d + (next_d - d) * (s / (s - next_s)), next_d)  # rounding leads no further
    return math.nan


class Observed(NamedTuple):
    """Pairs that have both a stiffness and a distance, row by row, ``[k]``; the numbers in float64."""

    row: Tensor
    column: Tensor
    distance: Tensor
    stiffness: Tensor


def observed(stiffness: Tensor, distance: Tensor, pairs: Tensor) -> Observed:
    """Those of the chosen pairs ``[n, m]`` that have both a stiffness and a distance.

    Raises:
        ValueError: if the shapes differ, or for other types.

    Example:
        >>> S = torch.tensor([[0.5, float("nan")]])
        >>> observed(S, torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)).column.tolist()
        [0]
    """
    stiffness = real_tensor("stiffness", stiffness, "n m")
    distance = real_tensor("distance", distance, "n m", whole=True, like=("stiffness", stiffness))
    pairs = mask_tensor("pairs", pairs, ("stiffness", stiffness))
    # Few of the pairs are chosen, usually: what is looked at is theirs alone
    row, column = torch.nonzero(pairs, as_tuple=True)
    x, y = distance[row, column].double(), stiffness[row, column].double()
    known = ~torch.isnan(y) & torch.isfinite(x)
    found = Observed(row, column, x, y)
    return found if bool(known.all()) else Observed(*(values[known] for values in found))


def observed_by_each(stiffness: Sequence[Tensor], distance: Tensor, pairs: Tensor) -> list[Observed]:
    """:func:`observed` for several measures that lack the same pairs, which are looked up once."""
    first, *others = stiffness
    found = observed(first, distance, pairs)
    return [found, *(found._replace(stiffness=S[found.row, found.column].double()) for S in others)]
