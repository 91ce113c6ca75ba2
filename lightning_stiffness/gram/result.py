"""The Gram of per-example gradients, as engines return it and as a caller receives it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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
    """Name of the engine that computed it: that of the slower one where all parameters took it."""
    plan: Any = field(default=None, repr=False)
    """Which formula each parameter took, readable with ``print``; None for engines without a choice."""

    layers: "dict[str, GradientGram]" = field(default_factory=dict, repr=False)
    """Layer → the Gram of its parameters' gradients, which add up to this one; empty where none were asked for."""

    @classmethod
    def from_products(cls, products: Products, engine: str, plan: Any = None) -> "GradientGram":
        """From sums of inner products over all parameters."""
        return cls(products.values, products.squares.sqrt(), products.other_squares.sqrt(), engine, plan)

    @classmethod
    def from_layers(cls, layers: dict[str, Products], engine: str, plan: Any = None) -> "GradientGram":
        """From the sums over each layer's parameters; the layer ``""`` is all of them."""
        first, *others = layers.values()
        whole = cls.from_products(sum(others, start=first), engine, plan)
        named = {} if "" in layers else {n: cls.from_products(one, engine) for n, one in layers.items()}
        return replace(whole, layers=named)

    def with_layers(self, names: Iterable[str]) -> "GradientGram":
        """The same with these layers, in this order; one that takes no step has a Gram of zeros."""
        values, norms, other_norms = (torch.zeros_like(t) for t in (self.values, self.norms, self.other_norms))
        nothing = GradientGram(values, norms, other_norms, self.engine)
        return replace(self, layers={name: self.layers.get(name, nothing) for name in names})

    def block(self, rows: slice, columns: slice) -> "GradientGram":
        """The Gram between some of the rows and some of the columns.

        Example:
            >>> gram = GradientGram(torch.eye(3), torch.ones(3), torch.ones(3), "loop")
            >>> gram.block(slice(0, 1), slice(1, 3)).values.tolist()
            [[0.0, 0.0]]
        """
        values, layers = self.values[rows, columns], {n: one.block(rows, columns) for n, one in self.layers.items()}
        norms, other_norms = self.norms[rows], self.other_norms[columns]
        return replace(self, values=values, norms=norms, other_norms=other_norms, layers=layers)

    def to(self, device: torch.device | str) -> "GradientGram":
        """The same Gram on another device."""
        norms, other_norms = self.norms.to(device), self.other_norms.to(device)
        layers = {name: one.to(device) for name, one in self.layers.items()}
        return replace(self, values=self.values.to(device), norms=norms, other_norms=other_norms, layers=layers)
