"""Calls that may put the examples of a batch in another order: then an example stands elsewhere than alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOST = 3
"""Examples of a call that are told."""


def moved(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], n: int) -> list[int]:
    """Places that hold another example after a call than before, some of them; none where it moves nothing.

    Looked at are calls that pick rows along an axis as long as there are examples. Picking an entry from each row,
    as that of the right class, moves none.

    Args:
        function: what was called.
        args: with which arguments.
        kwargs: by name.
        n: number of examples.

    Example:
        >>> moved(torch.index_select, (torch.zeros(4, 2), 0, torch.tensor([0, 2, 1, 3])), {}, 4)
        [1, 2]
        >>> moved(Tensor.__getitem__, (torch.zeros(4, 2), (torch.arange(4), torch.tensor([0, 1, 1, 0]))), {}, 4)
        []
    """
    found = _PICKED.get(function)
    if found is None:
        return []
    try:
        order = found(n, *args, **kwargs)
    except (TypeError, IndexError):  # not as it can be called: torch says what is wrong
        return []
    if order is None:
        return []
    return torch.nonzero(order != torch.arange(n, device=order.device))[:MOST, 0].tolist()


def _of_item(n: int, tensor: Tensor, item: Any) -> Tensor | None:
    entries = item if isinstance(item, tuple) else (item,)
    picks = (entry for entry in entries if isinstance(entry, Tensor) and entry.dtype == torch.int64)
    fit = n in tensor.shape
    return next((pick.detach() for pick in picks if pick.shape == (n,)), None) if fit else None


def _of_select(n: int, input: Tensor, dim: int, index: Tensor) -> Tensor | None:
    return index.detach() if input.ndim and input.shape[dim] == n == len(index) else None


def _of_gather(n: int, input: Tensor, dim: int, index: Tensor, **_: Any) -> Tensor | None:
    fits = input.ndim > 0 and input.shape[dim] == n == index.shape[dim]
    return index.detach().movedim(dim, 0).reshape(n, -1)[:, 0] if fits else None


def _of_along(n: int, input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor | None:
    return None if dim is None else _of_gather(n, input, dim, indices)


def _of_flip(n: int, input: Tensor, *dims: Any, **named: Any) -> Tensor | None:
    wanted = named.get("dims", dims[0] if len(dims) == 1 else dims)
    axes = (wanted,) if isinstance(wanted, int) else wanted
    return torch.arange(n).flip(0) if any(input.shape[axis] == n for axis in axes) else None


def _of_roll(n: int, input: Tensor, shifts: Any, dims: Any = None) -> Tensor | None:
    steps, axes = (shifts,) if isinstance(shifts, int) else shifts, (dims,) if isinstance(dims, int) else dims or ()
    step = next((step for step, axis in zip(steps, axes, strict=False) if input.shape[axis] == n), 0)
    return torch.arange(n).roll(step) if step else None


_PICKED: dict[Any, Callable[..., Tensor | None]] = {
    Tensor.__getitem__: _of_item,
    **dict.fromkeys((torch.index_select, Tensor.index_select), _of_select),
    **dict.fromkeys((torch.gather, Tensor.gather), _of_gather),
    **dict.fromkeys((torch.take_along_dim, Tensor.take_along_dim), _of_along),
    **dict.fromkeys((torch.flip, Tensor.flip), _of_flip),
    **dict.fromkeys((torch.roll, Tensor.roll), _of_roll),
}
"""Function → which example stands in each place afterwards; None where it picks no examples."""
