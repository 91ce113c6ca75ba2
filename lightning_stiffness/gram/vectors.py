"""The gradients of one example in a batch, held against those that it has alone, as vectors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.check import limit_of
from lightning_stiffness.gram.parts import Dense, Outer, Part
from lightning_stiffness.gram.product import accumulation_dtype

LIMITS = {torch.float32: 2e-3, torch.float64: 1e-5}
"""Largest distance of two gradients that count as the same, over their norm: more may be rounding in float32, and
in float64 parts of a module may compute in less."""

_SIZES = {torch.float32: (1e-24, 1e24), torch.float64: (1e-200, 1e200)}
"""Squared norms between which products do not vanish, nor overflow."""

STRETCH = 1 << 19
"""Entries whose products are summed in the gradients' own precision, before the sums are added up in float64."""


def same_vectors(
    parts: Mapping[str, Sequence[Part]], row: int, gradients: Mapping[str, Tensor], factor: float = 1.0
) -> bool:
    r"""Whether :math:`|\hat g_p - f g_p| \le \epsilon |f g_p|` for every parameter p.

    That is :math:`|\hat g|^2 - 2 f \hat g \cdot g + f^2 |g|^2`, for which gradients of the batch that are held as
    products need not be formed. These inner products have to be equal themselves, to what any may be off by: a
    difference along the gradient shows there at first order.

    Args:
        parts: parameter → parts of its gradients in a batch.
        row: the example's place in it.
        gradients: parameter → gradient of the example alone.
        factor: by which gradients in the batch are another size.

    Returns:
        Not where some are not the same, nor where there is no telling, as where one is zero.

    Example:
        >>> alone = torch.tensor([[3.0, 6.0]])
        >>> batch = [Outer(torch.tensor([[[5.0]], [[3.0]]]), torch.tensor([[[1.0, 1.0]], [[1.0, 2.0]]]))]
        >>> same_vectors({"weight": batch}, 1, {"weight": alone})
        True
        >>> same_vectors({"weight": batch}, 0, {"weight": alone})
        False
    """
    sums: list[Tensor] = []
    for name, held in parts.items():
        gradient = gradients[name]
        if gradient.dtype not in LIMITS or not held or any(not _is_like(part, gradient) for part in held):
            return False
        sums += _products(held, row, gradient)
    if len({one.dtype for one in sums}) > 1:
        sums = [one.double() for one in sums]
    numbers = torch.stack(sums).tolist()
    for k, name in enumerate(parts):
        of_batch, across, alone = numbers[3 * k : 3 * k + 3]
        (least, most), limit = _SIZES[gradients[name].dtype], LIMITS[gradients[name].dtype]
        expected = factor**2 * alone
        distance = of_batch - 2 * factor * across + expected
        off = max(abs(of_batch - expected), abs(factor * across - expected))
        near = distance <= limit**2 * expected and off <= limit_of(gradients[name].dtype) * expected
        if not (least < alone < most and least < of_batch < most and near):
            return False
    return True


def _is_like(part: Part, gradient: Tensor) -> bool:
    """Whether the gradients of a part have as many entries, of the same type."""
    floating = next((one.dtype for one in part.tensors() if one.dtype.is_floating_point), None)
    return floating == gradient.dtype and part.rows * part.columns == gradient.numel()


def _products(held: Sequence[Part], row: int, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one example: squared norm in the batch, inner product with the gradient alone, and its squared norm."""
    flat = gradient.reshape(-1)
    alone = _square(flat)
    if len(held) == 1 and isinstance(held[0], Outer) and held[0].positions == 1:
        left, right = (one[row, 0] for one in held[0].tensors())
        across = torch.dot(left, torch.mv(flat.view(len(left), len(right)), right))
        return torch.dot(left, left) * torch.dot(right, right), across, alone
    if len(held) == 1 and isinstance(held[0], Dense) and len(flat) <= STRETCH:
        vector = held[0].gradient[row]
        return torch.dot(vector, vector), torch.dot(vector, flat), alone
    some = [part.take(slice(row, row + 1)) for part in held]
    step = max(1, STRETCH // max(1, held[0].columns))
    squares, products = [], []
    for low in range(0, held[0].rows, step):
        high = min(low + step, held[0].rows)
        vector = sum((part.dense(low, high)[0] for part in some[1:]), start=some[0].dense(low, high)[0])
        squares.append(torch.dot(vector, vector))
        products.append(torch.dot(vector, flat[low * held[0].columns : high * held[0].columns]))
    return _sum(squares), _sum(products), alone


def _square(flat: Tensor) -> Tensor:
    if len(flat) <= STRETCH:
        return torch.dot(flat, flat)
    return _sum([torch.dot(one, one) for one in torch.split(flat, STRETCH)])


def _sum(sums: list[Tensor]) -> Tensor:
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(dtype=accumulation_dtype(sums[0].device))
