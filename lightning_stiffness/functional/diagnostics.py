"""Further measures of gradient alignment, free from the same Gram.

Each takes the square Gram of one set of examples. Give it :func:`cosine_stiffness` of that Gram instead and
every gradient counts with length 1. Examples whose gradient is zero or not finite are left out.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_stiffness.arguments import real_tensor
from lightning_stiffness.functional.pairwise import valid_examples


def gradient_coherence(gram: Float[Tensor, "n n"]) -> float:
    r"""The m-coherence: how many of the ``m`` examples a step on one of them helps, on average.

    .. math:: \alpha = \frac{\sum_{i,j} g_i \cdot g_j}{\sum_i |g_i|^2} \in [0, m]

    (Chatterjee and Zielinski, arXiv:2008.01217.) It is 1 for orthogonal gradients and ``m`` for
    equal ones, and the reciprocal of :func:`gradient_diversity`.

    Args:
        gram: inner products of per-example gradients, ``[n, n]``.

    Returns:
        Number of examples; NaN where no example has a gradient.

    Raises:
        ValueError: if the Gram is not square, or two finite gradients have an inner product that is not.

    Example:
        >>> gradient_coherence(torch.eye(4)), gradient_coherence(torch.ones(4, 4))
        (1.0, 4.0)
    """
    kept = _kept(gram)
    # |sum of the gradients|² is no less than 0, but may round below.
    return max(float(kept.sum()), 0.0) / float(kept.diagonal().sum()) if len(kept) else math.nan


def gradient_diversity(gram: Float[Tensor, "n n"]) -> float:
    r"""Gradient diversity: how far the gradients point in different directions.

    .. math:: \Delta = \frac{\sum_i |g_i|^2}{|\sum_i g_i|^2} \in [1/m, \infty]

    (Yin et al., arXiv:1706.05699.) Minibatches of up to :math:`m \Delta` examples are the batch
    sizes that its theory finds as efficient, per example, as single ones.

    Args:
        gram: inner products of per-example gradients, ``[n, n]``.

    Returns:
        Diversity, dimensionless; infinite where the gradients cancel; NaN where no example has one.

    Raises:
        ValueError: as :func:`gradient_coherence`.

    Example:
        >>> gradient_diversity(torch.eye(4)), gradient_diversity(torch.ones(4, 4))
        (1.0, 0.25)
    """
    coherence = gradient_coherence(gram)
    return 1 / coherence if coherence != 0 else math.inf


def gradient_confusion(gram: Float[Tensor, "n n"]) -> float:
    r"""Gradient confusion: the strongest disagreement between the gradients of two examples.

    .. math:: \eta = \max(0,\ -\min_{i \ne j} g_i \cdot g_j)

    the least bound with :math:`g_i \cdot g_j \ge -\eta` for all pairs. (Sankararaman et al.,
    arXiv:1904.06963.)

    Args:
        gram: inner products of per-example gradients, ``[n, n]``.

    Returns:
        Confusion, in the units of the Gram; NaN with fewer than two examples.

    Raises:
        ValueError: as :func:`gradient_coherence`.

    Example:
        >>> gradient_confusion(torch.tensor([[1.0, -0.25], [-0.25, 2.0]]))
        0.25
    """
    kept = _kept(gram, scaled=False)
    if len(kept) < 2:
        return math.nan
    itself = torch.eye(len(kept), dtype=torch.bool, device=kept.device)
    return max(0.0, -float(kept.masked_fill(itself, math.inf).min()))


def effective_rank(gram: Float[Tensor, "n n"]) -> float:
    r"""Effective rank: over how many directions the gradients spread.

    .. math:: \exp\Big(-\sum_k p_k \ln p_k\Big) \qquad p_k = \lambda_k / \sum_l \lambda_l

    with :math:`\lambda_k` the eigenvalues of the Gram, which are its singular values. (Roy and Vetterli, The
    effective rank, EUSIPCO 2007.)

    Args:
        gram: inner products of per-example gradients, ``[n, n]``.

    Returns:
        A number from 1 (all gradients on one line) to ``m`` (orthogonal, of one length); NaN where no example
        has a gradient.

    Raises:
        ValueError: as :func:`gradient_coherence`.

    Example:
        >>> round(effective_rank(torch.eye(4)), 6), round(effective_rank(torch.ones(4, 4)), 6)
        (4.0, 1.0)
    """
    kept = _kept(gram)
    if not len(kept):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh((kept + kept.T) / 2).clamp(min=0.0)  # below 0 by rounding alone
    p = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(p).sum().exp())


def _kept(gram: Tensor, *, scaled: bool = True) -> Tensor:
    """The Gram of the examples that have a gradient, in float64; scaled, its largest entry is 1."""
    gram = real_tensor("gram", gram, "n m")
    if gram.shape[0] != gram.shape[1]:
        raise ValueError(
            f"expected the square Gram [n, n] of one set of examples, got {list(gram.shape)}: "
            "measure each set by itself"
        )
    there = valid_examples(gram.diagonal())
    kept = (gram if bool(there.all()) else gram[there][:, there]).double()
    # A sum may overflow where no number does: the largest of them decides, at twenty times the time
    if not math.isfinite(kept.sum()) and not math.isfinite(torch.linalg.vector_norm(kept, math.inf)):
        raise ValueError(
            "expected finite inner products between finite gradients, got NaN or infinity: form the Gram in float64"
        )
    return kept / kept.diagonal().max() if scaled and len(kept) else kept
