"""Gradients multiplied by numbers, one for a parameter or one for each of its entries."""

from collections.abc import Sequence

from torch import Tensor

from lightning_stiffness.gram.multiples import Multiple
from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer, Part


class Weighted(Part):
    r"""Gradients of another part, entry by entry times fixed weights: :math:`G_i \circ W`.

    Products of factors no longer give their inner products, so the gradients are formed.

    Args:
        part: the gradients.
        weight: ``[R, C]``.
    """

    formula = "(√D G)(√D G)ᵀ"

    def __init__(self, part: Part, weight: Tensor):
        self.part, self.weight = part, weight
        self.n, self.rows, self.columns = part.n, part.rows, part.columns

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients."""
        return self.part.dense(low, high) * self.weight[low:high].flatten()

    def tensors(self) -> tuple[Tensor, ...]:
        """Those of the part."""
        return self.part.tensors()

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Weighted":
        """Other gradients of the same parameter."""
        return Weighted(self.part.with_tensors(tensors), self.weight)

    def dense_bytes(self) -> int:
        """Bytes of one example's gradient."""
        return self.part.dense_bytes()


def times(part: Part, scale: Tensor) -> Part:
    """A part multiplied by one number, or by one for each entry of the parameter.

    Example:
        >>> import torch
        >>> part = Outer(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0]]]))
        >>> times(part, torch.tensor(2.0)).dense(0, 2).tolist()
        [[6.0, 12.0]]
        >>> times(part, torch.tensor([[1.0], [10.0]])).dense(0, 2).tolist()
        [[3.0, 60.0]]
    """
    if isinstance(part, Multiple):
        return Multiple(
            part.factors, part.direction * scale.reshape(part.direction.shape if scale.numel() > 1 else ())
        )
    if isinstance(part, Dense):
        return Dense(part.gradient * scale.flatten(), part.rows)
    weight = scale.reshape(part.rows, part.columns) if scale.numel() > 1 else scale.reshape(1, 1)
    if isinstance(part, Lookup):  # what is added to a row takes that row's weights
        of_row = weight[part.index] if len(weight) > 1 else weight
        return part.with_tensors([part.index, part.delta * of_row])
    if scale.numel() > 1:
        return Weighted(part, weight)
    # One number goes to one of the factors
    if isinstance(part, Outer):
        return Outer(part.left * scale, part.right)
    assert isinstance(part, Convolution)
    return part.with_tensors([part.inputs, part.gradient * scale])
