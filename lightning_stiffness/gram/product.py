"""Inner products of per-example vectors, safe against underflow and rounding."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 16384
"""Columns multiplied at a time; the partial sums are added in float64."""

Square = list[list[float]]
"""Inner products of a few examples with each other: so few that plain numbers are faster than a tensor."""


@dataclass(frozen=True)
class Products:
    """Inner products of gradients, or of one parameter's part of them: parts add up to the whole."""

    values: Tensor
    """:math:`g_i \\cdot g_j`, shape ``[n, m]``, float64."""
    squares: Tensor
    """:math:`|g_i|^2` of the rows, ``[n]``, float64."""
    other_squares: Tensor
    """:math:`|g_j|^2` of the columns, ``[m]``, float64; ``squares`` itself where both sides are the same."""

    @classmethod
    def symmetric(cls, values: Tensor) -> "Products":
        """From the square Gram of one set of examples."""
        squares = values.diagonal().clone()
        return cls(values, squares, squares)

    def __add__(self, other: "Products") -> "Products":
        return Products(
            self.values + other.values, self.squares + other.squares, self.other_squares + other.other_squares
        )


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def inner_products(rows: Tensor, columns: Tensor | None = None) -> Tensor:
    r"""All inner products :math:`\mathrm{Re}\langle a_i, b_j \rangle` between two stacks of vectors.

    Each vector is first divided by a power of two near its largest entry: the gradients of well-fitted
    examples are as small as 1e-22, and their products would vanish in float32. Multiplied in the vectors'
    own precision (float32 at least), summed in float64.

    Args:
        rows: vectors ``[n, p]``, real or complex.
        columns: vectors ``[m, p]``; by default ``rows``.

    Returns:
        Inner products ``[n, m]``, float64.

    Example:
        >>> round(inner_products(torch.tensor([[1e-30, 2e-30]])).item(), 66)
        5e-60
    """
    symmetric = columns is None
    a, a_scale = scaled(rows)
    b, b_scale = (a, a_scale) if columns is None else scaled(columns)
    total = torch.zeros(len(a), len(b), dtype=accumulation_dtype(a.device), device=a.device)
    for low in range(0, a.shape[1], _CHUNK):
        total += a[:, low : low + _CHUNK] @ b[:, low : low + _CHUNK].T
    if symmetric:  # some matrix products round the two triangles differently
        total = (total + total.T) / 2
    return total * a_scale[:, None] * b_scale[None, :]


def squared_norms(vectors: Tensor) -> Tensor:
    r"""Squared norms :math:`|a_i|^2` of the rows, in the arithmetic of :func:`inner_products`.

    Args:
        vectors: ``[n, p]``, real or complex.

    Returns:
        Squared norms ``[n]``, float64.

    Example:
        >>> squared_norms(torch.tensor([[3.0, 4.0]])).tolist()
        [25.0]
    """
    a, scale = scaled(vectors)
    total = torch.zeros(len(a), dtype=accumulation_dtype(a.device), device=a.device)
    for low in range(0, a.shape[1], _CHUNK):
        total += (a[:, low : low + _CHUNK] ** 2).sum(1)
    return total * scale**2


def scaled(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors ``[n, p]`` over a power of two each, and those powers ``[n]`` in float64.

    Args:
        vectors: real or complex; complex ones come back as real ones of twice the length.

    Returns:
        Vectors with their largest entry in [1/2, 1], and the powers of two.

    Example:
        >>> vectors, power = scaled(torch.tensor([[3.0, 8.0]]))
        >>> vectors.tolist(), power.tolist()
        ([[0.1875, 0.5]], [16.0])
    """
    if vectors.is_complex():
        # Re⟨a, b⟩ is the inner product of real and imaginary parts laid side by side.
        vectors = torch.view_as_real(vectors.resolve_conj()).flatten(1)
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    if vectors.shape[1] == 0:
        return vectors, vectors.new_ones(len(vectors), dtype=accumulation_dtype(vectors.device))
    largest = torch.linalg.vector_norm(vectors, math.inf, dim=1)
    exponent = torch.frexp(largest).exponent
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.where(usable, exponent, torch.zeros_like(exponent))
    limit = 1000 if vectors.dtype == torch.float64 else 120  # 2^limit itself has to be a number
    exponent = exponent.clamp(-limit, limit)
    scaled = vectors * torch.ldexp(vectors.new_ones(len(vectors)), -exponent)[:, None]
    one = torch.ones(len(vectors), dtype=accumulation_dtype(vectors.device), device=vectors.device)
    return scaled, torch.ldexp(one, exponent)
