r"""Gradients that all examples have the same of, but for a factor: of a penalty on parameters, added to a loss.

With own gradients :math:`G_i` beside them, and directions :math:`V_k`,

.. math::
    \left(G_i + \sum_k c_{ik} V_k\right) \cdot \left(G_j + \sum_l c_{jl} V_l\right)
    = G_i \cdot G_j + \sum_k (u_{ik} c_{jk} + c_{ik} u_{jk}) + \sum_{kl} c_{ik} (V_k \cdot V_l) c_{jl}

where :math:`u_{ik} = G_i \cdot V_k`: as much work as a forward pass, and no gradient is formed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.parts import Dense, Lookup, Outer, Part
from lightning_stiffness.gram.total import Total

FIT = 1e-8, 1e8
"""Lengths of directions that are taken as they are."""


class Multiple(Part):
    """Gradients ``c_i V``.

    Args:
        factors: ``[n, 1]``.
        direction: ``[R, C]``.
    """

    formula = "c cᵀ |V|²"

    def __init__(self, factors: Tensor, direction: Tensor):
        self.factors, self.direction = factors, direction
        self.n, (self.rows, self.columns) = len(factors), direction.shape

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients."""
        return self.factors * self.direction[low:high].reshape(1, -1)

    def tensors(self) -> tuple[Tensor, ...]:
        """The factors."""
        return (self.factors,)

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Multiple":
        """Other multiples of the same direction."""
        return Multiple(tensors[0], self.direction)


def parted(pieces: list[list[Part]]) -> tuple[list[list[Part]], list[Multiple]]:
    """A parameter's own gradients, and the multiples among their parts, those of all pieces together; all of them
    as they are where the pieces have not as many.

    Args:
        pieces: for each piece of the examples, the parts whose sum the gradients are.
    """
    held = [[part for part in parts if isinstance(part, Multiple)] for parts in pieces]
    if not held or not held[0] or len({len(one) for one in held}) > 1:
        return pieces, []
    # each pass found the directions anew
    joined = [
        Multiple(torch.cat([one.factors for one in alike]), alike[0].direction) for alike in zip(*held, strict=True)
    ]
    return [[part for part in parts if not isinstance(part, Multiple)] for parts in pieces], joined


def add_multiples(
    total: Total, own: list[list[Part]], sizes: Sequence[int], multiples: Sequence[Multiple], room: int
) -> None:
    """Add the products of multiples with each other, and with the parameter's own gradients.

    Args:
        total: what to add to; the own gradients' products with each other are left to others.
        own: for each piece, the parts of these.
        sizes: examples in each piece.
        multiples: of all examples, at least one.
        room: bytes for gradients formed at a time.
    """
    dtype = total.squares.dtype
    units, factors = [], []
    for one in multiples:
        length = float(torch.linalg.vector_norm(one.direction, dtype=dtype))
        usual = not 0 < length < math.inf or FIT[0] < length < FIT[1]  # where products do not vanish, nor overflow
        units.append(one.direction if usual else (one.direction / length))
        factors.append(one.factors[:, 0].to(dtype) * (1.0 if usual else length))
    c = torch.stack(factors, 1)
    u, start = torch.zeros_like(c), 0
    for parts, n in zip(own, sizes, strict=True):
        for part in parts:
            for k, unit in enumerate(units):
                u[start : start + n, k] += along(part, unit, room).to(dtype)
        start += n
    between = torch.stack([torch.stack([(one * other).sum(dtype=dtype) for other in units]) for one in units])
    both = u + c @ between / 2
    for rows, columns, view in total.strips():
        view += both[rows] @ c[columns].T
        view += c[rows] @ both[columns].T
    if total.m is not None:
        total.add_squares(2 * (both * c).sum(1), None)


def along(part: Part, direction: Tensor, room: int) -> Tensor:
    """Inner products ``[n]`` of gradients with one direction ``[R, C]``.

    Example:
        >>> part = Outer(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0]]]))
        >>> along(part, torch.tensor([[1.0], [1.0]]), 1 << 20)
        tensor([9.])
    """
    if isinstance(part, Outer):
        return ((part.right @ direction.T) * part.left).sum((1, 2))
    if isinstance(part, Dense):
        return part.gradient @ direction.flatten()
    if isinstance(part, Lookup):
        return (direction[part.index] * part.delta).sum((1, 2))
    found = direction.new_zeros(part.n)
    step = max(1, room // max(1, part.n * part.columns * direction.element_size()))
    for low in range(0, part.rows, step):
        high = min(low + step, part.rows)
        found += part.dense(low, high) @ direction[low:high].flatten()
    return found
