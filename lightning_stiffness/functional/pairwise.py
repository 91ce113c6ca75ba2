"""Gram of per-example gradients → cosine and sign stiffness of every pair."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_stiffness.arguments import real_tensor


def valid_examples(norms: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    r"""Which examples have a stiffness at all: those whose gradient is finite and not zero.

    An example with :math:`|g_i| = 0` moves no other example, and one whose gradient is infinite or NaN
    has no direction; neither is "stiffness 0". Their pairs are left out of every mean.

    Args:
        norms: Euclidean norms :math:`|g_i|`, shape ``[n]``, in units of loss per unit of parameter.

    Returns:
        Boolean mask ``[n]``, true where :math:`0 < |g_i| < \infty`.

    Raises:
        ValueError: for anything but a tensor ``[n]`` of real numbers.

    Example:
        >>> valid_examples(torch.tensor([2.0, 0.0, float("nan"), float("inf")])).tolist()
        [True, False, False, False]
    """
    norms = real_tensor("norms", norms, "n", whole=True)
    return torch.isfinite(norms) & (norms > 0)


def cosine_stiffness(
    gram: Float[Tensor, "n m"],
    norms: Float[Tensor, " n"] | None = None,
    other_norms: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, "n m"]:
    r"""Cosine stiffness of every pair of examples.

    .. math:: S_{\cos}(i, j) = \frac{g_i \cdot g_j}{|g_i|\,|g_j|} \in [-1, 1]

    (Fort et al., arXiv:1901.09491v3, section 2.1.) A small gradient step on example ``i`` lowers the loss of
    example ``j`` where it is positive and raises it where it is negative.

    Args:
        gram: inner products :math:`g_i \cdot g_j`, shape ``[n, m]``.
        norms: :math:`|g_i|` of the rows, shape ``[n]``; by default taken from the diagonal of a square Gram.
        other_norms: :math:`|g_j|` of the columns, shape ``[m]``; by default the same as ``norms``.

    Returns:
        Stiffness ``[n, m]``, dimensionless, clamped to [-1, 1] against rounding. Pairs with an example
        whose gradient is zero or not finite are NaN (see :func:`valid_examples`), and so are pairs with
        :math:`|g_i||g_j|` below the smallest normal number of the Gram's type (1e-38 in float32): what is
        left of their inner product there is rounding. Form such a Gram in float64.

    Raises:
        ValueError: if the shapes do not fit together, or the Gram is not in floating point.

    Example:
        >>> gradients = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [0.0, 0.0]])
        >>> cosine_stiffness(gradients @ gradients.T)[0].tolist()
        [1.0, 0.0, nan]
    """
    norms, other_norms = _norms_of(gram, norms, other_norms)
    # One division at a time: the product of two norms can overflow or underflow where the quotient does not.
    cosine = (gram / norms[:, None] / other_norms[None, :]).clamp(-1.0, 1.0)
    return cosine.masked_fill(~_valid_pairs(gram, norms, other_norms), float("nan"))


def sign_stiffness(
    gram: Float[Tensor, "n m"],
    norms: Float[Tensor, " n"] | None = None,
    other_norms: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, "n m"]:
    r"""Sign stiffness of every pair of examples.

    .. math:: S_{\mathrm{sign}}(i, j) = \operatorname{sign}(g_i \cdot g_j) \in \{-1, 0, 1\}

    (Fort et al., arXiv:1901.09491v3, section 2.1.)

    Args:
        gram: inner products :math:`g_i \cdot g_j`, shape ``[n, m]``.
        norms: :math:`|g_i|` of the rows, shape ``[n]``; by default taken from the diagonal of a square Gram.
        other_norms: :math:`|g_j|` of the columns, shape ``[m]``; by default the same as ``norms``.

    Returns:
        Stiffness ``[n, m]``, dimensionless. 0 only where two non-zero gradients are orthogonal; the pairs
        that are NaN in :func:`cosine_stiffness` are NaN here.

    Raises:
        ValueError: if the shapes do not fit together, or the Gram is not in floating point.

    Example:
        >>> gradients = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.0, 3.0]])
        >>> sign_stiffness(gradients @ gradients.T).tolist()
        [[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    norms, other_norms = _norms_of(gram, norms, other_norms)
    return torch.sign(gram).masked_fill(~_valid_pairs(gram, norms, other_norms), float("nan"))


def _valid_pairs(gram: Tensor, norms: Tensor, other_norms: Tensor) -> Tensor:
    # torch.sign(nan) is 0, so a Gram entry that is not finite has to be caught here too; and an inner product
    # that underflowed is 0 as well, though its gradients are not orthogonal.
    held = norms[:, None] >= torch.finfo(gram.dtype).smallest_normal / other_norms[None, :]
    finite = (gram - gram) == 0  # as torch.isfinite, in half its time
    return finite & (held & valid_examples(norms)[:, None] & valid_examples(other_norms)[None, :])


def _norms_of(gram: Tensor, norms: Tensor | None, other_norms: Tensor | None) -> tuple[Tensor, Tensor]:
    gram = real_tensor("gram", gram, "n m")
    if norms is None:
        if gram.shape[0] != gram.shape[1]:
            raise ValueError(
                f"the Gram between two different sets {list(gram.shape)} does not hold the gradient norms: "
                "pass norms=[n] and other_norms=[m]"
            )
        norms = gram.diagonal().sqrt()
    if other_norms is None:
        other_norms = norms
    norms = real_tensor("norms", norms, "n", whole=True)
    other_norms = real_tensor("other_norms", other_norms, "m", whole=True)
    if norms.shape != gram.shape[:1] or other_norms.shape != gram.shape[1:]:
        raise ValueError(
            f"expected norms of shape [{gram.shape[0]}] and other_norms of shape [{gram.shape[1]}] for a Gram "
            f"{list(gram.shape)}, got {list(norms.shape)} and {list(other_norms.shape)}"
        )
    return norms, other_norms
