"""What a loss that is one number makes of its examples' losses: their mean, their sum, or a weighted mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_stiffness.gram.check import TOLERANCE, limit_of
from lightning_stiffness.gram.product import Products, accumulation_dtype


@dataclass
class Reduction:
    """What is known of it, from the examples that were compared with themselves alone.

    Example:
        >>> reduction = Reduction()
        >>> reduction.enter([4], 0, 4, torch.device("cpu"))
        >>> reduction.settle([0.25], [2], TOLERANCE)
        >>> reduction.form, reduction.factors.tolist()
        ('mean', [4.0, 4.0, 4.0, 4.0])
    """

    could_be_sum: bool = True
    could_be_mean: bool = True
    lean: float = 0.0
    """Negative where examples' factors are nearer those of a sum than those of a mean."""
    sizes: Tensor | None = None
    """How many examples each one's loss is reduced with, or all their weights over its own; None where each
    has its own."""
    weights: Tensor | None = None
    """``[n]``: of all examples, in a mean where they are known to weigh otherwise than each other."""
    torn: bool = False
    """Whether an example has one factor for some parameters and another one for others, which no mean leaves."""
    _ratios: dict[int, float] = field(default_factory=dict)
    """Position → factor of an example, by the parameters that were looked at first."""

    @property
    def scalar(self) -> bool:
        """Whether the loss of a batch is one number."""
        return self.sizes is not None

    @property
    def form(self) -> str | None:
        """``"mean"``, ``"sum"``, or ``"each"`` where each example has a loss; None for a weighted mean, or where
        it is not known."""
        if self.sizes is None:
            return "each"
        if self.could_be_mean == self.could_be_sum:
            return None
        return "mean" if self.could_be_mean else "sum"

    @property
    def plain(self) -> bool:
        """Whether there is a loss for each example, or their sum, or a mean in which they weigh alike."""
        return self.form is not None and self.weights is None

    @property
    def weighted(self) -> bool:
        """Whether each example's gradient keeps a positive factor of its own."""
        return self.sizes is not None and not self.could_be_sum and not self.could_be_mean

    @property
    def factors(self) -> Tensor | None:
        """Size of the pass of each example, by which a mean is too small; None where there is nothing to mend."""
        as_sum = self.could_be_sum and not self.could_be_mean
        return None if as_sum or (self.weighted and self.lean < 0) else self.sizes

    def enter(self, pieces: Sequence[int], offset: int, n: int, device: torch.device) -> None:
        """Keep how many examples each one's loss is reduced with.

        Args:
            pieces: sizes of the batches passed through the module.
            offset: position of the first of their examples.
            n: number of all examples.
            device: where the factors are wanted.
        """
        if self.sizes is None:
            self.sizes = torch.ones(n, dtype=accumulation_dtype(device), device=device)
        for size in pieces:
            here, offset = slice(offset, offset + size), offset + size
            self.sizes[here] = size
            if self.weights is not None:
                weights = self.weights[here].to(self.sizes)
                self.sizes[here] = torch.where(weights > 0, weights.sum() / weights, self.sizes[here])

    def settle(self, ratios: Sequence[float], positions: Sequence[int], rounding: float) -> None:
        """Learn from the sizes of some examples' gradients in a batch, over those of each alone.

        Args:
            ratios: NaN where there is no telling.
            positions: of the examples.
            rounding: what a ratio may be off by.
        """
        assert self.sizes is not None
        for ratio, position in zip(ratios, positions, strict=True):
            if math.isfinite(ratio) and ratio > 0:
                size, first = float(self.sizes[position]), self._ratios.setdefault(position, ratio)
                self.torn |= abs(ratio - first) > rounding * first
                self.could_be_sum &= abs(ratio - 1) < rounding
                self.could_be_mean &= abs(ratio * size - 1) < rounding
                self.lean += abs(math.log(ratio)) - abs(math.log(ratio * size))

    def rely_on(self, form: str) -> None:
        """Take a loss that is one number for the examples' ``"mean"`` or ``"sum"``."""
        self.could_be_sum &= form == "sum"
        self.could_be_mean &= form == "mean"

    def merge(self, others: "Sequence[Reduction]") -> None:
        """Learn what all processes of a run have learnt of their own examples; this one's is among the others."""
        self.lean = sum(other.lean for other in others)
        if any(other.weights is None for other in others):
            self.weights = None
        for other in others:
            self.could_be_sum &= other.could_be_sum
            self.could_be_mean &= other.could_be_mean
            self.torn |= other.torn

    def mended(self, products: Products, *, cross: bool) -> Products:
        """A Gram, or a part of it, without the factors that a mean leaves."""
        factors = self.factors
        if factors is None:
            return products
        n = len(products.values)
        rows = factors[:n]
        columns = factors[n:] if cross else rows
        squares = products.squares * rows**2
        other = products.other_squares * columns**2 if cross else squares
        return Products(products.values * rows[:, None] * columns[None, :], squares, other)


def rounding_of(dtype: torch.dtype) -> float:
    """What a factor may be off by for gradients of this type; parts of a module may compute in less."""
    limit = limit_of(dtype)
    return 3 * limit if limit == TOLERANCE else limit
