"""Inner products of sums of rows at indices, as of an embedding, from the indices that occur."""

import torch
from torch import Tensor

from lightning_stiffness.gram.contract import FIT, SLAB, ranged
from lightning_stiffness.gram.devices import ROOM
from lightning_stiffness.gram.parts import Lookup
from lightning_stiffness.gram.total import Total, add


def add_lookup(total: Total, part: Lookup, room: int = ROOM) -> None:
    """Add the products of sums of rows at indices, with ``room`` bytes for what is formed at a time."""
    delta, scale = ranged(part.delta.flatten(1), *FIT)
    delta = delta.view(part.delta.shape)
    example = torch.arange(part.n, device=delta.device)[:, None].expand_as(part.index)
    # one row for each index and example, in the order of the indices
    keys, place = torch.unique((part.index * part.n + example).flatten(), return_inverse=True)
    rows = delta.new_zeros(len(keys), part.columns).index_add_(0, place, delta.flatten(0, 1))
    index, example = keys // part.n, keys % part.n
    counts = index.unique_consecutive(return_counts=True)[1]
    common = counts > max(8, part.n // 8)
    often = common.repeat_interleave(counts)
    if bool(common.any()):
        _add_common(total, rows[often], example[often], counts[common], part.n, scale, room)
    _add_rare(total, rows[~often], example[~often], counts[~common], scale, room)
    if total.m is not None:
        squares = torch.zeros(part.n, dtype=total.squares.dtype, device=delta.device)
        squares.index_add_(0, example, rows.square().sum(1).to(squares.dtype))
        total.add_squares(squares, scale)


def _add_common(
    total: Total, rows: Tensor, example: Tensor, counts: Tensor, n: int, scale: Tensor | None, room: int
) -> None:
    """Indices that most examples hold: dense in the examples, several indices at a time."""
    width = rows.shape[1]
    step = max(1, min(SLAB, room // (n * rows.element_size())) // width)
    slot = torch.arange(len(counts), device=rows.device).repeat_interleave(counts)
    for low in range(0, len(counts), step):
        inside = (slot >= low) & (slot < low + step)
        count = min(step, len(counts) - low)
        dense = rows.new_zeros(n, count, width)
        dense[example[inside], slot[inside] - low] = rows[inside]
        flat = dense.flatten(1)
        for above, beside, view in total.strips():
            add(view, flat[above] @ flat[beside].T, scale, above, beside)


def _add_rare(total: Total, rows: Tensor, example: Tensor, counts: Tensor, scale: Tensor | None, room: int) -> None:
    """Indices that few examples hold: pair by pair."""
    ends = counts.cumsum(0)
    last = ends.repeat_interleave(counts)  # where the rows of the same index end
    here = torch.arange(len(rows), device=rows.device)
    step = max(1, room // (3 * max(1, rows.shape[1]) * rows.element_size()))
    for offset in range(int(counts.max()) if len(counts) else 0):
        near = here[here + offset < last]
        for low in range(0, len(near), step):
            first = near[low : low + step]
            i, j = example[first], example[first + offset]
            value = (rows[first] * rows[first + offset]).sum(1).to(total.squares.dtype)
            if scale is not None:
                value = value * scale[i] * scale[j]
            if total.m is not None:  # examples of one index are in order: rows come before columns
                cross = (i < total.n) & (j >= total.n)
                i, j, value = i[cross], j[cross], value[cross]
            total.add_pairs(i, j, value)
