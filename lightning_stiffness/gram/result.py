"""The Gram of per-example gradients, as engines return it and as a caller receives it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.product import Products


@dataclass(frozen=True)
class GradientGram:
    """Inner products of per-example gradients; see :func:`gradient_gram`."""

    values: Tensor
    """:math:`g_i \\cdot g_j`, shape ``[n, m]``, float64."""
    norms: Tensor
    """:math:`|g_i|` of the rows, ``[n]``, float64."""
    other_norms: Tensor
    """:math:`|g_j|` of the columns, ``[m]``, float64; equal to ``norms`` where both sides are the same."""
    engine: str
    """Name of the engine that computed it."""
    plan: Any = field(default=None, repr=False)
    """Which formula each parameter took, readable with ``print``; None for engines without a choice."""

    @classmethod
    def from_products(cls, products: Products, engine: str, plan: Any = None) -> "GradientGram":
        """From sums of inner products over all parameters."""
        return cls(products.values, products.squares.sqrt(), products.other_squares.sqrt(), engine, plan)

    def block(self, rows: slice, columns: slice) -> "GradientGram":
        """The Gram between some of the rows and some of the columns.

        Example:
            >>> gram = GradientGram(torch.eye(3), torch.ones(3), torch.ones(3), "loop")
            >>> gram.block(slice(0, 1), slice(1, 3)).values.tolist()
            [[0.0, 0.0]]
        """
        return GradientGram(
            self.values[rows, columns], self.norms[rows], self.other_norms[columns], self.engine, self.plan
        )

    def to(self, device: torch.device | str) -> "GradientGram":
        """The same Gram on another device."""
        return GradientGram(
            self.values.to(device), self.norms.to(device), self.other_norms.to(device), self.engine, self.plan
        )
