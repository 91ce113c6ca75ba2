"""Inputs → distances between them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_stiffness.arguments import function, real_tensor, shown

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
        ValueError: for a name that is not registered, or a function that does not take two tensors; the message
            lists the names that are.

    Example:
        >>> find_distance("cosine").__name__
        'cosine'
    """
    form = "a function of two tensors [n, d] and [m, d] that returns distances [n, m]"
    if callable(distance) and not isinstance(distance, type):
        return function("distance", distance, ("x", "y"), form)
    if not isinstance(distance, str) or distance not in DISTANCES:
        raise ValueError(f"unknown distance {shown(distance)}: expected one of {sorted(DISTANCES)} or {form}")
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
        ValueError: if the trailing shapes differ, or for anything but tensors of real numbers.

    Example:
        >>> standardise(torch.tensor([[0, 5], [2, 5]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    x = real_tensor("x", x, "n …", whole=True)
    reference = x if reference is None else real_tensor("reference", reference, "n …", whole=True)
    if x.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"expected inputs of one shape, got {list(x.shape[1:])} and {list(reference.shape[1:])}: "
            "pass a function that turns each batch into tensors [n, d] with the same d (input_fn= in the callback, "
            "inputs= in measure_stiffness)"
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
        ValueError: for an unknown name, a function that returns another shape, or inputs that are not
            ``[n, d]`` and ``[m, d]``.

    Example:
        >>> pairwise_distance(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    x = real_tensor("x", x, "n d")
    other = x if other is None else real_tensor("other", other, "m d")
    if x.shape[1] != other.shape[1]:
        raise ValueError(f"expected other of shape [m, {x.shape[1]}], as wide as x, got {list(other.shape)}")
    result = find_distance(distance)(x, other)
    expected = (len(x), len(other))
    if not isinstance(result, Tensor) or result.shape != expected:
        got = list(result.shape) if isinstance(result, Tensor) else shown(result)
        raise ValueError(f"expected the distance function to return a tensor {list(expected)}, got {got}")
    return result
