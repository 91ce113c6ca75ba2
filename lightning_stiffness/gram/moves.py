"""Calls that may put the examples of a batch in another order: then an example stands elsewhere than alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_stiffness.gram.calls import Call

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


def scrambles(function: Any, args: tuple[Any, ...], n: int, is_shared: Callable[[Any], bool]) -> bool:
    """Whether a call may put examples elsewhere in a way that :func:`moved` does not follow.

    Args:
        function: what was called.
        args: with which arguments.
        n: number of examples.
        is_shared: whether a tensor is a parameter, or computed from parameters alone: its rows are no examples.
    """
    if function in _LOOKED_UP:
        return len(args) > 1 and not is_shared(args[1])
    if function in _WRITTEN:
        return any(isinstance(one, Tensor) and not is_shared(one) and _holds(one, n) for one in args)
    if function not in (Tensor.__getitem__, Tensor.__setitem__) or len(args) < 2 or is_shared(args[0]):
        return False
    entries = args[1] if isinstance(args[1], tuple) else (args[1],)
    picks = [one for one in entries if isinstance(one, list | np.ndarray) or (isinstance(one, Tensor) and one.ndim)]
    if not picks or not _holds(args[0], n):
        return False
    followed = isinstance(picks[0], Tensor) and picks[0].dtype == torch.int64 and picks[0].shape == (n,)
    return not followed or function is Tensor.__setitem__


def writes(function: Any, args: tuple[Any, ...]) -> bool:
    """Whether a call writes to rows by an index that has values: who reads them may find what another has written.

    Example:
        >>> table, place = torch.zeros(9, 2), torch.tensor([3, 5])
        >>> writes(Tensor.__setitem__, (table, place, 1.0)), writes(Tensor.__setitem__, (table, slice(2), 1.0))
        (True, False)
    """
    if function is not Tensor.__setitem__:
        return function in _WRITTEN
    entries = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(one, Tensor | list | np.ndarray) for one in entries)


def uneven(function: Any, args: tuple[Any, ...], n: int) -> bool:
    """Whether a call picks entries by a mask, of some examples more than of others: then their number does not tell
    which are whose.

    Example:
        >>> x, mask = torch.zeros(2, 3, 4), torch.tensor([[True, False, False], [True, True, True]])
        >>> uneven(Tensor.__getitem__, (x, mask), 2), uneven(Tensor.__getitem__, (x, mask | True), 2)
        (True, False)
    """
    if function not in _BY_MASK or len(args) < 2:
        return False
    entries = args[1] if isinstance(args[1], tuple) else (args[1],)
    masks = [one for one in entries if isinstance(one, Tensor) and one.dtype == torch.bool and one.ndim]
    if not masks or not len(masks[0]) or len(masks[0]) % n:
        return False
    counts = masks[0].detach().reshape(n, -1).sum(1)
    return bool((counts != counts[0]).any())


def turned(call: Call, outs: list[Tensor]) -> bool:
    """Whether a view that one example is a row of, as it is, lays those of a batch along another axis, or several.

    Args:
        call: of one example, which is told the lengths of what it gives.
        outs: what it gave for a batch.

    Example:
        >>> one, many = torch.zeros(1, 4), torch.zeros(5, 4)
        >>> turned(Call(Tensor.view, (one, 1, 1, 4), {}, one.view(1, 1, 4)), [many.view(1, 5, 4)])
        True
        >>> turned(Call(Tensor.view, (one, 1, 1, 4), {}, one.view(1, 1, 4)), [many.view(5, 1, 4)])
        False
    """
    given, made = call.given[:1], call.made
    rows = all(one.ndim and len(one) == 1 for one in (*given, *made))
    return rows and any(one.shape[1:] != many.shape[1:] for one, many in zip(made, outs, strict=False))


def _holds(tensor: Tensor, n: int) -> bool:
    return any(size and size % n == 0 for size in tensor.shape)


_WRITTEN = frozenset(
    getattr(home, name + mark)
    for name in (
        *("scatter", "scatter_add", "scatter_reduce", "index_put", "index_copy", "index_add", "index_fill"),
        *("masked_scatter", "masked_select", "take"),
    )
    for mark in ("", "_")
    for home in (torch, Tensor, nn.functional)
    if hasattr(home, name + mark)
)
"""Functions that read or write entries by index or mask."""
_BY_MASK = frozenset((Tensor.__getitem__, torch.masked_select, Tensor.masked_select))
_LOOKED_UP = frozenset((nn.functional.embedding, nn.functional.embedding_bag))
"""Functions that look up rows of their second argument."""
INDEXING = frozenset((*_PICKED, *_WRITTEN, *_LOOKED_UP, Tensor.__setitem__))
"""All functions that are to be looked at."""
