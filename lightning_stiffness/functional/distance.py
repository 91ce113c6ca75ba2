"""Inputs → distances; stiffness against distance: binned curve and dynamical critical length."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
"""The named distances: functions from inputs ``[n, d]`` and ``[m, d]`` to distances ``[n, m]``."""

Distance = str | Callable[[Tensor, Tensor], Tensor]


def _register(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    DISTANCES[function.__name__] = function
    return function


@_register
def cosine(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    r"""Cosine distance :math:`1 - x \cdot y / (|x| |y|)` in [0, 2]; NaN for an input of all zeros.

    (Fort et al., arXiv:1901.09491v3, section 2.4.)
    """
    similarity: Tensor = _unit(x) @ _unit(y).T
    return 1 - similarity.clamp(-1.0, 1.0)


def _unit(x: Tensor) -> Tensor:
    # Over the largest entry first: the square of a very small or large one is not a number the type can hold.
    x = x / x.abs().amax(1, keepdim=True) if x.shape[1] else x
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm


@_register
def euclidean(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    r"""Euclidean distance :math:`|x - y|`, in the units of the inputs."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def find_distance(distance: Distance) -> Callable[[Tensor, Tensor], Tensor]:
    """The distance function of that name, or the callable itself.

    Raises:
        ValueError: for a name that is not registered; the message lists those that are.

    Example:
        >>> find_distance("cosine").__name__
        'cosine'
    """
    if callable(distance):
        return distance
    if distance not in DISTANCES:
        raise ValueError(
            f"unknown distance {distance!r}: expected one of {sorted(DISTANCES)} or a function of two "
            "tensors [n, d] and [m, d] that returns distances [n, m]"
        )
    return DISTANCES[distance]


def standardise(x: Tensor, *, reference: Tensor | None = None) -> Float[Tensor, "n d"]:
    r"""Inputs with mean 0 and standard deviation 1, feature by feature, flattened.

    .. math:: z = \frac{x - \mu}{\sigma}

    with :math:`\mu, \sigma` the mean and the (biased) standard deviation of each feature over
    ``reference``. A feature that does not vary there says nothing of distance and becomes 0. An example with a
    NaN or infinite entry takes no part in them, and stays without a distance.

    Args:
        x: inputs ``[n, …]`` of any numeric kind.
        reference: inputs ``[r, …]`` that give mean and deviation, the training probe; by default ``x``.

    Returns:
        Standardised inputs ``[n, d]``, float64.

    Raises:
        ValueError: if the trailing shapes differ.

    Example:
        >>> standardise(torch.tensor([[0, 5], [2, 5]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    reference = x if reference is None else reference
    if x.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"expected inputs of one shape, got {list(x.shape[1:])} and {list(reference.shape[1:])}: "
            "pass input_fn= to turn each batch into tensors [n, d]"
        )
    flat, base = (v.reshape(len(v), v.shape[1:].numel()).double() for v in (x, reference))
    base = base[torch.isfinite(base).all(1)]
    mean = base.mean(0)
    deviation = ((base - mean) ** 2).mean(0).sqrt()
    # Not "deviation > 0": the mean of equal numbers is rounded, and leaves a deviation of about 1e-17.
    varies = (base != base[:1]).any(0)
    scaled = (flat - mean) / torch.where(varies, deviation, torch.ones_like(deviation))
    scaled = torch.where(varies, scaled, torch.zeros_like(scaled))
    return scaled.masked_fill(~torch.isfinite(flat).all(1, keepdim=True), math.nan)


def pairwise_distance(
    x: Float[Tensor, "n d"], other: Float[Tensor, "m d"] | None = None, *, distance: Distance = "cosine"
) -> Float[Tensor, "n m"]:
    r"""Distance of every pair of inputs.

    Args:
        x: inputs ``[n, d]``, standardised (:func:`standardise`) as in the paper.
        other: inputs ``[m, d]``; by default ``x``.
        distance: ``"cosine"``, :math:`1 - x \cdot y / (|x||y|)` in [0, 2] (Fort et al.,
            arXiv:1901.09491v3, section 2.4), ``"euclidean"``, or a function of two such tensors.

    Returns:
        Distances ``[n, m]``; NaN where there is none.

    Raises:
        ValueError: for an unknown name, or a function that returns another shape.

    Example:
        >>> pairwise_distance(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    other = x if other is None else other
    result = find_distance(distance)(x, other)
    expected = (len(x), len(other))
    if not isinstance(result, Tensor) or result.shape != expected:
        got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"expected the distance function to return a tensor {list(expected)}, got {got}")
    return result


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
        ValueError: if ``bins`` < 1, the limits are not in order, or the shapes differ.

    Example:
        >>> S, d = torch.tensor([[0.9, 0.7, 0.1]]), torch.tensor([[0.0, 0.5, 1.0]])
        >>> curve = distance_curve(S, d, torch.ones(1, 3, dtype=torch.bool), bins=2)
        >>> curve.count.tolist(), [round(v, 3) for v in curve.mean.tolist()]
        ([1, 2], [0.9, 0.4])
    """
    if bins < 1:
        raise ValueError(f"expected at least one bin, got bins={bins}")
    x, y = _observed(stiffness, distance, pairs)
    if limits is None:
        limits = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    low, high = limits
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"expected limits=(low, high), finite and in order, got {limits}")
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
        ValueError: if the shapes differ.

    Example:
        >>> d = torch.linspace(0, 1, 20)[None]
        >>> round(critical_length(0.8 - d, d, torch.ones(1, 20, dtype=torch.bool)).value, 6)
        0.8
    """
    x, y = _observed(stiffness, distance, pairs)
    n = len(x)
    if n < min_pairs:
        return CriticalLength(
            math.nan, math.nan, math.nan, n, False, f"{n} pairs of the same class, at least {min_pairs} needed"
        )
    x_mean, y_mean = float(x.mean()), float(y.mean())
    spread = float(((x - x_mean) ** 2).sum())
    # Distances that agree to rounding leave the slope undetermined.
    if spread <= n * (1e-12 * max(1.0, abs(x_mean))) ** 2:
        return CriticalLength(math.nan, math.nan, math.nan, n, False, "all pairs lie at one distance")
    slope = float(((x - x_mean) * (y - y_mean)).sum()) / spread
    intercept = y_mean - slope * x_mean
    if slope >= 0:
        reason = f"stiffness does not fall with distance (slope {slope:+.3g})"
        return CriticalLength(math.nan, slope, intercept, n, False, reason)
    value = -intercept / slope
    extrapolated = not float(x.min()) <= value <= float(x.max())
    return CriticalLength(value, slope, intercept, n, extrapolated, "")


def _observed(stiffness: Tensor, distance: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and stiffnesses ``[k]`` of the pairs that have both, in float64."""
    if not stiffness.shape == distance.shape == pairs.shape:
        raise ValueError(
            "expected stiffness, distance and pairs of one shape [n, m], got "
            f"{list(stiffness.shape)}, {list(distance.shape)} and {list(pairs.shape)}"
        )
    taken = pairs & ~torch.isnan(stiffness) & torch.isfinite(distance)
    return distance[taken].double(), stiffness[taken].double()
