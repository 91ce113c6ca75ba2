r"""Inner products of per-example gradients, added over parameters into one Gram.

Vectors too small or too large for products in their own precision are first divided by powers of two, as in
:mod:`lightning_stiffness.gram.product`; sums over parameters are float64. A square Gram is worked out in
strips from the diagonal on, half of it, and mirrored at the end.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.devices import ROOM, is_far
from lightning_stiffness.gram.parts import Outer
from lightning_stiffness.gram.product import scaled
from lightning_stiffness.gram.total import BAND, Total, add

SLAB = 16384
"""Columns multiplied at a time; the partial sums are added in float64."""
FAR_SLAB = 2048
"""The same on a GPU, which takes many of them at once: up to three times as fast as with longer ones."""
FIT = 1e-12, 1e12
"""Norms of float32 vectors whose products need no scaling; those of float64 may lie further apart."""

NARROW = 128
"""Examples at most, for whose products threads divide columns."""

SIDE, FAR_SIDE = 1024, 4096
"""Positions on each side of a tile at most; and on a GPU."""

TOGETHER = 8
"""Most parameters whose products are added in their own precision before they go to the float64 sum."""


def add_dense(total: Total, gradients: Tensor, room: int = ROOM) -> None:
    """Add the products of dense gradients ``[n + m, p]``.

    Args:
        total: what to add to.
        gradients: of all examples.
        room: bytes for what is formed at a time.
    """
    wide = SLAB
    if is_far(gradients.device):  # fewer calls, each with more to do
        wide *= max(1, room // (4 * SLAB * max(1, len(gradients)) * gradients.element_size()))
    for low in range(0, gradients.shape[1], wide):
        slab = gradients[:, low : low + wide]
        if not _added_as_they_are(total, slab, room):
            vectors, scale = ranged(slab, *FIT)
            for rows, columns, view in total.strips():
                add(view, _long_product(vectors, rows, columns, view.dtype), scale, rows, columns)
            if total.m is not None:
                total.add_squares(vectors.square().sum(1, dtype=total.squares.dtype), scale)


def _added_as_they_are(total: Total, vectors: Tensor, room: int) -> bool:
    """Add products in the vectors' own precision, if their norms, which are among the products, allow it.

    Saves :func:`ranged` its look at the vectors; only where there is room for all products, and all are worked out
    here.
    """
    plain = vectors.dtype in (torch.float32, torch.float64) and not is_far(vectors.device)
    if not plain or total.m is not None or total.share is not None:
        return False
    if total.pairs() * vectors.element_size() > room // 8:
        return False
    products = [(view, _product(vectors, rows, columns)) for rows, columns, view in total.strips()]
    squares = torch.cat([product.diagonal() for _, product in products])
    if _extreme(vectors, squares.sqrt(), *FIT):
        return False
    for view, product in products:
        view += product
    return True


def _product(vectors: Tensor, rows: slice, columns: slice) -> Tensor:
    """Inner products of some vectors ``[n, p]`` with others."""
    longer, shorter = vectors[columns], vectors[rows]  # in this order the product is several percent faster
    threads = torch.get_num_threads() if vectors.device.type == "cpu" and len(vectors) <= NARROW else 1
    if threads > 1 and vectors.shape[1] % threads == 0:  # so few rows that threads are better given columns
        longer, shorter = (torch.unflatten(v, 1, (threads, -1)).transpose(0, 1) for v in (longer, shorter))
        return torch.bmm(longer, shorter.mT).sum(0).T
    return (longer @ shorter.T).T


def _long_product(vectors: Tensor, rows: slice, columns: slice, dtype: torch.dtype) -> Tensor:
    """The same in a few calls, however many columns there are: each of :data:`SLAB`
    columns, or :data:`FAR_SLAB`, summed in ``dtype``."""
    wide = FAR_SLAB if is_far(vectors.device) else SLAB
    count, rest = divmod(vectors.shape[1], wide)
    if count + bool(rest) <= 1:
        return _product(vectors, rows, columns)
    slabs = vectors[:, : count * wide].view(len(vectors), count, wide).transpose(0, 1)
    total = torch.bmm(slabs[:, columns], slabs[:, rows].mT).sum(0, dtype=dtype).T
    return total + _product(vectors[:, count * wide :], rows, columns) if rest else total


def add_layers(total: Total, layers: Sequence[tuple[Outer, bool]], room: int = ROOM) -> None:
    r"""Add the products of outer products, one for each example: :math:`(l_i \cdot l_j)(r_i \cdot r_j)`.

    Args:
        total: what to add to.
        layers: factors of one position in one precision; and whether the right factor ends in a column of ones:
            weight and bias of a linear layer together.
        room: bytes for products at a time.
    """
    norms = [torch.linalg.vector_norm(factor, dim=2)[:, 0] for part, _ in layers for factor in part.tensors()]
    table = torch.stack(norms).view(len(layers), 2, -1)
    low, high = _limits(table.dtype, 1e-8, 1e8)
    plain = ((table > low) & (table < high)).all(2).all(1).tolist()
    usual: list[tuple[Tensor, Tensor, bool]] = []
    for (part, ones), fits, (left_norm, right_norm) in zip(layers, plain, table.unbind(0), strict=True):
        if not fits:
            add_outer(total, part, ones, room)
            continue
        usual.append((part.left[:, 0], part.right[:, 0], ones))
        if total.m is not None:
            own, others = (norm.to(total.squares.dtype).square() for norm in (left_norm, right_norm))
            total.add_squares(own * (others + int(ones)), None)
    # a band's sums are held beside the products of one strip, which are of both factors
    for band in total.bands(min(BAND, room // (4 * table.element_size()))):
        for start in range(0, len(usual), TOGETHER):
            sums: list[Tensor] = []
            for left, right, ones in usual[start : start + TOGETHER]:
                for k, (rows, columns, _) in enumerate(band):
                    # as in _product, whose division among threads takes longer with factors so narrow
                    product, other = left[columns] @ left[rows].T, right[columns] @ right[rows].T
                    if ones:
                        other += 1
                    if len(sums) == len(band):
                        sums[k].addcmul_(product, other)
                    else:
                        sums.append(product.mul_(other))
            for (_, _, view), products in zip(band, sums, strict=True):
                view += products.T


def add_outer(total: Total, part: Outer, ones: bool = False, room: int = ROOM) -> None:
    """Add the products of sums of outer products, without forming them.

    Args:
        total: what to add to.
        part: factors of ``n + m`` examples.
        ones: as in :func:`add_layers`.
        room: bytes for products of positions at a time.
    """
    left, left_scale = ranged(part.left.flatten(1), 1e-8, 1e8)
    right, right_scale = ranged(part.right.flatten(1), 1e-8, 1e8)
    if ones and right_scale is not None:  # beside an input next to nothing, a one has no place in one precision
        add_outer(total, part, room=room)
        add_outer(total, Outer(part.left, torch.ones_like(part.right[:, :, :1])), room=room)
        return
    scale = left_scale if right_scale is None else right_scale if left_scale is None else left_scale * right_scale
    t = part.positions
    left, right = left.view(-1, t, part.rows), right.view(-1, t, part.columns)
    for rows, columns, view in total.strips():
        if t == 1:
            product, other = _product(left[:, 0], rows, columns), _product(right[:, 0], rows, columns)
            if ones:
                other += 1
            add(view, product.mul_(other), scale, rows, columns)
        else:
            _add_tokens(view, left, right, scale, rows, columns, total.m is None, room)
    if total.m is not None:
        step = max(1, min(64, room // (3 * t * t * left.element_size())))
        for low in range(0, len(left), step):
            span = slice(low, low + step)
            product = (left[span] @ left[span].mT) * (right[span] @ right[span].mT)
            squares = product.sum((1, 2)).to(total.squares.dtype)
            if ones:
                squares += left[span, 0].square().sum(1)
            total.squares[span] += squares if scale is None else squares * scale[span] ** 2


def _add_tokens(
    view: Tensor,
    left: Tensor,
    right: Tensor,
    scale: Tensor | None,
    rows: slice,
    columns: slice,
    half: bool,
    room: int,
) -> None:
    """Products of all positions of some examples with those of others, a tile at a time."""
    t = left.shape[1]
    most = FAR_SIDE if is_far(left.device) else SIDE
    side = max(1, min(most, math.isqrt(room // (2 * left.element_size()))) // t)
    for i in range(rows.start, rows.stop, side):
        below = slice(i, min(i + side, rows.stop))
        a, b = left[below].flatten(0, 1), right[below].flatten(0, 1)
        for j in range(i if half else columns.start, columns.stop, side):
            beside = slice(j, min(j + side, columns.stop))
            tile = (a @ left[beside].flatten(0, 1).T).mul_(b @ right[beside].flatten(0, 1).T)
            summed = tile.view(below.stop - i, t, beside.stop - j, t).sum((1, 3))
            target = view[i - rows.start : below.stop - rows.start, j - columns.start : beside.stop - columns.start]
            add(target, summed, scale, below, beside)


def _limits(dtype: torch.dtype, low: float, high: float) -> tuple[float, float]:
    return (low**8, high**8) if dtype == torch.float64 else (low, high)


def ranged(vectors: Tensor, low: float, high: float) -> tuple[Tensor, Tensor | None]:
    """Vectors ``[n, p]`` fit for products in their own precision, and the powers of two they were divided by.

    On a GPU all are divided: that takes less time than to wait for an answer whether they have to be.
    """
    if vectors.is_complex() or vectors.dtype in (torch.float16, torch.bfloat16) or is_far(vectors.device):
        vectors, scale = scaled(vectors)
        return vectors, scale
    if vectors.shape[1] and _extreme(vectors, torch.linalg.vector_norm(vectors, dim=1), low, high):
        return scaled(vectors)
    return vectors, None


def _extreme(vectors: Tensor, norms: Tensor, low: float, high: float) -> bool:
    """Whether a vector that is not zero, and has no NaN or infinity, is too small or too large."""
    low, high = _limits(vectors.dtype, low, high)
    # The Euclidean norm is several times faster than the largest entry; where it says nothing, look closer.
    odd = ~((norms > low) & (norms < high))
    if not bool(odd.any()):
        return False
    largest = vectors[odd].abs().amax(1)
    return bool((torch.isfinite(largest) & (largest > 0)).any())
