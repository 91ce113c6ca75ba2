"""The dynamical critical length: how far a step on one example reaches."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from lightning_stiffness.arguments import label_tensor, whole
from lightning_stiffness.functional.curve import Observed, observed


@dataclass(frozen=True)
class CriticalLength:
    """The dynamical critical length and the line it comes from; see :func:`critical_length`."""

    value: float
    """ξ, in units of distance; NaN where the line gives none."""
    slope: float
    """Slope of the line, per unit of distance."""
    intercept: float
    """The line at distance 0."""
    pairs: int
    """Number of pairs behind it."""
    extrapolated: bool
    """ξ lies outside the distances observed."""
    reason: str
    """Why ``value`` is NaN; empty otherwise."""


def critical_length(
    stiffness: Float[Tensor, "n m"],
    distance: Float[Tensor, "n m"],
    pairs: Bool[Tensor, "n m"],
    *,
    min_pairs: int = 10,
) -> CriticalLength:
    r"""Dynamical critical length: where stiffness, as a line in distance, crosses zero.

    .. math::
        (\alpha, \beta) = \arg\min \sum_{(i, j)} (S(i, j) - \alpha - \beta\, d(i, j))^2
        \qquad \xi = -\alpha / \beta

    (Fort et al., arXiv:1901.09491v3, section 2.5.) Two examples nearer than ξ tend to be improved together
    by a small gradient step. The fit runs over the pairs, not over bins.

    Args:
        stiffness: stiffness of every pair, shape ``[n, m]``; NaN pairs are left out.
        distance: distance of every pair, shape ``[n, m]``; NaN pairs are left out.
        pairs: mask ``[n, m]`` of the pairs to take: those of the same class, each once.
        min_pairs: fewer pairs than this give no ξ.

    Returns:
        ξ with its line. ``value`` is NaN, with the ``reason``, for too few pairs, for pairs all at one
        distance, and for a line that does not fall (stiffness that does not decay has no length).

    Raises:
        ValueError: if the shapes differ, ``min_pairs`` < 1, or for other types.

    Example:
        >>> d = torch.linspace(0, 1, 20)[None]
        >>> round(critical_length(0.8 - d, d, torch.ones(1, 20, dtype=torch.bool)).value, 6)
        0.8
    """
    return length_of(observed(stiffness, distance, pairs), min_pairs=whole("min_pairs", min_pairs, 1))


def length_of(pairs: Observed, *, min_pairs: int = 10) -> CriticalLength:
    """:func:`critical_length` of pairs that have been looked up."""
    return _fit(pairs, torch.zeros_like(pairs.row), 1, min_pairs)[0]


def class_critical_lengths(
    stiffness: Float[Tensor, "n m"],
    distance: Float[Tensor, "n m"],
    pairs: Bool[Tensor, "n m"],
    labels: Integer[Tensor, " n"],
    *,
    num_classes: int | None = None,
    min_pairs: int = 10,
) -> list[CriticalLength]:
    """The critical length of each class by itself: how far a step on one of its examples reaches.

    Args:
        stiffness: stiffness of every pair, shape ``[n, m]``; NaN pairs are left out.
        distance: distance of every pair, shape ``[n, m]``; NaN pairs are left out.
        pairs: mask ``[n, m]`` of the pairs to take: those of the same class, each once.
        labels: class of each row, integers in ``[0, c)``, ``[n]``.
        num_classes: ``c``; by default one more than the largest label.
        min_pairs: fewer pairs of a class than this give it no ξ.

    Returns:
        For each class what :func:`critical_length` gives for the pairs whose row is of that class.

    Raises:
        ValueError: if the shapes do not fit, labels lie outside ``[0, c)``, ``min_pairs`` < 1, or for other types.

    Example:
        >>> d = torch.linspace(0, 1, 20).repeat(2, 1)
        >>> S = torch.tensor([[0.8], [0.4]]) - d
        >>> lengths = class_critical_lengths(S, d, torch.ones(2, 20, dtype=torch.bool), torch.tensor([0, 1]))
        >>> [round(length.value, 6) for length in lengths]
        [0.8, 0.4]
    """
    least = whole("min_pairs", min_pairs, 1)
    taken = observed(stiffness, distance, pairs)
    known = None if num_classes is None else whole("num_classes", num_classes, 1)
    labels = label_tensor("labels", labels, len(stiffness), each="row", classes=known)
    classes = known or (int(labels.max()) + 1 if len(labels) else 0)
    return class_lengths_of(taken, labels, num_classes=classes, min_pairs=least)


def class_lengths_of(
    pairs: Observed, labels: Tensor, *, num_classes: int, min_pairs: int = 10
) -> list[CriticalLength]:
    """:func:`class_critical_lengths` of pairs that have been looked up."""
    return _fit(pairs, labels.to(pairs.row.device)[pairs.row].long(), num_classes, min_pairs)


def _fit(pairs: Observed, group: Tensor, groups: int, min_pairs: int) -> list[CriticalLength]:
    """For each group of the pairs the line through stiffness against distance, and where it crosses zero."""
    x, y = pairs.distance, pairs.stiffness
    zeros = x.new_zeros(groups)
    counts = torch.bincount(group, minlength=groups)

    def mean(values: Tensor) -> Tensor:
        return zeros.index_add(0, group, values) / counts

    def extreme(which: str) -> Tensor:
        return zeros.scatter_reduce(0, group, x, which, include_self=False)

    x_mean, y_mean = mean(x), mean(y)
    from_x, from_y = x - x_mean[group], y - y_mean[group]
    lines = torch.stack(
        [
            *(x_mean, y_mean, counts * mean(from_x**2), counts * mean(from_x * from_y)),
            *(extreme("amin"), extreme("amax"), mean(y**2).sqrt()),
        ],
        dim=1,
    )
    return [
        length_of_line(count, *line, min_pairs=min_pairs)
        for count, line in zip(counts.tolist(), lines.tolist(), strict=True)
    ]


def length_of_line(
    pairs: int,
    x_mean: float,
    y_mean: float,
    spread: float,
    covariance: float,
    nearest: float,
    farthest: float,
    size: float,
    *,
    min_pairs: int = 10,
) -> CriticalLength:
    """The critical length from sums over the pairs, of distances x and stiffnesses y.

    Args:
        pairs: their number.
        x_mean: mean distance.
        y_mean: mean stiffness.
        spread: sum of the squared deviations of x.
        covariance: sum of the products of the deviations of x and y.
        nearest: smallest distance.
        farthest: largest distance.
        size: root mean square of y, to tell a slope from rounding.
        min_pairs: fewer pairs than this give no ξ.

    Example:
        >>> length_of_line(20, 0.5, 0.25, 2.0, -1.0, 0.0, 0.9, 0.3).value
        1.0
    """
    nothing = math.nan
    if pairs < min_pairs:
        reason = f"{pairs} pairs of the same class, at least {min_pairs} needed"
        return CriticalLength(nothing, nothing, nothing, pairs, False, reason)
    # Distances that agree to rounding leave the slope undetermined.
    if spread <= pairs * (1e-12 * max(1.0, abs(x_mean))) ** 2:
        return CriticalLength(nothing, nothing, nothing, pairs, False, "all pairs lie at one distance")
    slope = covariance / spread
    intercept = y_mean - slope * x_mean
    # A stiffness that is the same for all pairs, rounded, would have a length beyond all measure.
    if slope * (farthest - nearest) >= -1e-12 * size:
        reason = f"stiffness does not fall with distance (slope {slope:+.3g})"
        return CriticalLength(nothing, slope, intercept, pairs, False, reason)
    value = -intercept / slope
    return CriticalLength(value, slope, intercept, pairs, not nearest <= value <= farthest, "")
