"""Which example each row of a collated batch is."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lightning_stiffness.gram.batch import Batch, is_per_example, leaves

_LOOKS = 16
"""Rows looked at before all are."""


def has_rows(batch: Batch, size: int, alone: Batch) -> bool:
    """Whether the first axes of a batch's tensors hold its examples.

    Args:
        batch: ``size`` examples collated together, its tensors of that length.
        size: number of examples.
        alone: the first of them collated alone.

    Returns:
        False where a tensor is as long for one example, so that its first axis is another: time, mostly.

    Example:
        >>> import torch
        >>> together, alone = torch.zeros(5, 5, 3), torch.zeros(5, 1, 3)  # [time, examples, features]
        >>> has_rows(together, 5, alone), has_rows(together, 5, torch.zeros(1, 5, 3))
        (False, True)
    """
    return size == 1 or not any(
        isinstance(one, Tensor) and one.ndim == leaf.ndim and len(one) == size
        for leaf, one in _tensors(batch, alone)
        if is_per_example(leaf, size)
    )


def order_of_rows(batch: Batch, size: int, alone: Callable[[int], Batch]) -> list[int]:
    """The example that each row of a batch is; collate functions may sort, as for packed sequences.

    Args:
        batch: ``size`` examples collated together.
        size: number of examples.
        alone: position of an example → the example collated alone.

    Returns:
        Positions ``[size]``; as they were given where rows cannot be told, as when the collate function is random.

    Example:
        >>> import torch
        >>> values = [3.0, 1.0, 2.0]
        >>> order_of_rows(torch.tensor(sorted(values)), 3, lambda k: torch.tensor(values[k : k + 1]))
        [1, 2, 0]
    """
    given = list(range(size))
    if all(
        _is_row(batch, size, k, alone(k)) for k in {place * (size - 1) // (_LOOKS - 1) for place in range(_LOOKS)}
    ):
        return given
    free, found = given.copy(), dict[int, int]()
    for k in given:
        one = alone(k)
        row = next((row for row in free if _is_row(batch, size, row, one)), None)
        if row is None:
            return given
        free.remove(row)
        found[row] = k
    return [found[row] for row in given]


def _is_row(batch: Batch, size: int, row: int, alone: Batch) -> bool:
    """Whether a row of a batch is an example, but for what fills it up to the length of others."""
    parts, ones = ([leaf for _, leaf in leaves(whole)] for whole in (batch, alone))
    if len(parts) != len(ones):
        return False
    for leaf, one in zip(parts, ones, strict=True):
        if not is_per_example(leaf, size):
            continue
        if not isinstance(leaf, Tensor):
            if leaf[row] != one[0]:
                return False
        elif not isinstance(one, Tensor) or not _within(leaf[row], one):
            return False
    return True


def _within(row: Tensor, one: Tensor) -> bool:
    """Whether a tensor of one example is a row, or its beginning, or its end."""
    one = one[0] if one.ndim == row.ndim + 1 and len(one) == 1 else one
    if one.ndim != row.ndim or any(short > long for short, long in zip(one.shape, row.shape, strict=True)):
        return False
    starts = row[tuple(slice(0, length) for length in one.shape)]
    ends = row[tuple(slice(long - short, long) for short, long in zip(one.shape, row.shape, strict=True))]
    return any(bool(((part == one) | ((part != part) & (one != one))).all()) for part in (starts, ends))


def _tensors(batch: Batch, alone: Batch) -> list[tuple[Tensor, Any]]:
    pairs = zip((leaf for _, leaf in leaves(batch)), (one for _, one in leaves(alone)), strict=True)
    return [(leaf, one) for leaf, one in pairs if isinstance(leaf, Tensor)]
