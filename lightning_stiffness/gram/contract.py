r"""Inner products of per-example gradients, added over parameters into one Gram.

Vectors too small or too large for products in their own precision are first divided by powers of two, as in
:mod:`lightning_stiffness.gram.product`; sums over parameters are float64. A square Gram is worked out in
strips from the diagonal on, half of it, and mirrored at the end.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.parts import Lookup, Outer, Part
from lightning_stiffness.gram.product import Products, accumulation_dtype, scaled

SLAB = 16384
"""Columns multiplied at a time; the partial sums are added in float64."""


class Total:
    """A Gram under construction.

    Args:
        n: examples of the rows.
        m: examples of the columns; None where they are the rows.
        device: where to add.
    """

    def __init__(self, n: int, m: int | None, device: torch.device):
        self.n, self.m = n, m
        dtype = accumulation_dtype(device)
        self.values = torch.zeros(n, n if m is None else m, dtype=dtype, device=device)
        self.squares = torch.zeros(n + (m or 0), dtype=dtype, device=device)

    def products(self) -> Products:
        """The finished Gram."""
        if self.m is None:
            for rows, columns, view in self.strips():
                width = rows.stop - rows.start
                square = view[:, :width]
                square.copy_(square.triu() + square.triu(1).T)
                self.values[columns.start + width :, rows] = view[:, width:].T
            return Products.symmetric(self.values)
        return Products(self.values, self.squares[: self.n], self.squares[self.n :])

    def paste(self, part: Products, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Put in the products of some rows with some columns, both as examples of the two sides together."""
        first = 0 if self.m is None else self.n
        self.values[slice(*rows), columns[0] - first : columns[1] - first] = part.values
        self.squares[slice(*rows)] = part.squares
        self.squares[slice(*columns)] = part.other_squares

    def strips(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns (both as examples of the two sides together), and the view of the Gram to add to."""
        if self.m is None:
            step = min(max(self.n // 6, 32), 256)
            for low in range(0, self.n, step):
                high = min(low + step, self.n)
                yield slice(low, high), slice(low, self.n), self.values[low:high, low:]
        else:
            yield slice(0, self.n), slice(self.n, self.n + self.m), self.values

    def add_dense(self, gradients: Tensor) -> None:
        """Add the products of dense gradients ``[n + m, p]``."""
        for low in range(0, gradients.shape[1], SLAB):
            slab = gradients[:, low : low + SLAB]
            vectors, scale = _ranged(slab, 1e-12, 1e12)
            for rows, columns, view in self.strips():
                _add(view, vectors[rows] @ vectors[columns].T, scale, rows, columns)
            if self.m is not None:
                squares = vectors.square().sum(1)
                self.squares += squares if scale is None else squares * scale**2

    def add_outer(self, part: Outer, ones: bool = False) -> None:
        """Add the products of sums of outer products, without forming them.

        Args:
            part: factors of ``n + m`` examples.
            ones: with a column of ones at the right factor: weight and bias of a linear layer together.
        """
        left, left_scale = _ranged(part.left.flatten(1), 1e-8, 1e8)
        right, right_scale = _ranged(part.right.flatten(1), 1e-8, 1e8)
        scale = (
            left_scale if right_scale is None else right_scale if left_scale is None else left_scale * right_scale
        )
        # what a one has become in a scaled right factor
        one = torch.ones_like(left[:, 0]) if right_scale is None else (1 / right_scale).to(left.dtype)
        flat = right_scale is None
        t = part.positions
        left, right = left.view(-1, t, part.rows), right.view(-1, t, part.columns)
        for rows, columns, view in self.strips():
            if t == 1:
                product = left[rows, 0] @ left[columns, 0].T
                other = right[rows, 0] @ right[columns, 0].T
                if ones:
                    other += 1 if flat else one[rows, None] * one[None, columns]
                _add(view, product.mul_(other), scale, rows, columns)
            else:
                self._add_tokens(view, left, right, scale, rows, columns)
        if self.m is not None:
            for low in range(0, len(left), 64):
                span = slice(low, low + 64)
                product = (left[span] @ left[span].mT) * (right[span] @ right[span].mT)
                squares = product.sum((1, 2)).to(self.squares.dtype)
                if ones:
                    squares += (left[span, 0].square().sum(1)) * one[span] ** 2
                self.squares[span] += squares if scale is None else squares * scale[span] ** 2

    def _add_tokens(
        self, view: Tensor, left: Tensor, right: Tensor, scale: Tensor | None, rows: slice, columns: slice
    ) -> None:
        """Products of all positions of some examples with those of others, a tile at a time."""
        t = left.shape[1]
        side = max(1, 1024 // t)
        for i in range(rows.start, rows.stop, side):
            below = slice(i, min(i + side, rows.stop))
            a, b = left[below].flatten(0, 1), right[below].flatten(0, 1)
            start = columns.start if self.m is not None else i
            for j in range(start, columns.stop, side):
                beside = slice(j, min(j + side, columns.stop))
                tile = (a @ left[beside].flatten(0, 1).T).mul_(b @ right[beside].flatten(0, 1).T)
                summed = tile.view(below.stop - i, t, beside.stop - j, t).sum((1, 3))
                target = view[
                    i - rows.start : below.stop - rows.start, j - columns.start : beside.stop - columns.start
                ]
                _add(target, summed, scale, below, beside)

    def add_lookup(self, part: Lookup) -> None:
        """Add the products of sums of rows at indices, from the indices that occur."""
        delta, scale = _ranged(part.delta.flatten(1), 1e-12, 1e12)
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
            self._add_common(rows[often], example[often], counts[common], part.n, scale)
        self._add_rare(rows[~often], example[~often], counts[~common], scale)
        if self.m is not None:
            squares = torch.zeros(part.n, dtype=self.squares.dtype, device=delta.device)
            squares.index_add_(0, example, rows.square().sum(1).to(squares.dtype))
            self.squares += squares if scale is None else squares * scale**2

    def _add_common(self, rows: Tensor, example: Tensor, counts: Tensor, n: int, scale: Tensor | None) -> None:
        """Indices that most examples hold: dense in the examples, several indices at a time."""
        width = rows.shape[1]
        step = max(1, SLAB // width)
        slot = torch.arange(len(counts), device=rows.device).repeat_interleave(counts)
        for low in range(0, len(counts), step):
            inside = (slot >= low) & (slot < low + step)
            count = min(step, len(counts) - low)
            dense = rows.new_zeros(n, count, width)
            dense[example[inside], slot[inside] - low] = rows[inside]
            flat = dense.flatten(1)
            for above, beside, view in self.strips():
                _add(view, flat[above] @ flat[beside].T, scale, above, beside)

    def _add_rare(self, rows: Tensor, example: Tensor, counts: Tensor, scale: Tensor | None) -> None:
        """Indices that few examples hold: pair by pair."""
        ends = counts.cumsum(0)
        last = ends.repeat_interleave(counts)  # where the rows of the same index end
        here = torch.arange(len(rows), device=rows.device)
        width = max(1, rows.shape[1])
        for offset in range(int(counts.max()) if len(counts) else 0):
            near = here[here + offset < last]
            for low in range(0, len(near), max(1, (1 << 22) // width)):
                first = near[low : low + max(1, (1 << 22) // width)]
                i, j = example[first], example[first + offset]
                value = (rows[first] * rows[first + offset]).sum(1).to(self.values.dtype)
                if scale is not None:
                    value = value * scale[i] * scale[j]
                if self.m is not None:  # examples of one index are in order: rows come before columns
                    cross = (i < self.n) & (j >= self.n)
                    i, j, value = i[cross], j[cross] - self.n, value[cross]
                self.values.index_put_((i, j), value, accumulate=True)


def gradients_product(pieces: Sequence[tuple[int, Sequence[Part]]], device: torch.device) -> Tensor:
    """The Gram ``[k, k]`` of few examples' gradients of one parameter, in float64 throughout.

    Args:
        pieces: for each piece of the examples, how many they are, and the parts whose sum the gradient is; none
            for zero.
        device: where they are.
    """
    dtype = accumulation_dtype(device)
    first = next((parts[0] for _, parts in pieces if parts), None)
    if first is None:
        k = sum(count for count, _ in pieces)
        return torch.zeros(k, k, dtype=dtype, device=device)
    if len(pieces) == 1 and len(pieces[0][1]) == 1:
        if isinstance(first, Outer) and first.n * first.positions < 512:
            left, right = (t.flatten(0, 1).to(dtype) for t in first.tensors())
            return _summed((left @ left.T).mul_(right @ right.T), first.n)
        if isinstance(first, Lookup) and first.n * first.positions < 2048:
            index, delta = first.index.flatten(), first.delta.flatten(0, 1).to(dtype)
            return _summed((delta @ delta.T).mul_(index[:, None] == index[None, :]), first.n)
    vectors = torch.cat([_sum_of_parts(count, parts, first, dtype) for count, parts in pieces])
    if vectors.is_complex():
        vectors = torch.view_as_real(vectors.resolve_conj()).flatten(1)
    return vectors @ vectors.T


def _sum_of_parts(count: int, parts: Sequence[Part], like: Part, dtype: torch.dtype) -> Tensor:
    """Gradients ``[count, R·C]``; zero without parts."""
    if not parts:
        return torch.zeros(count, like.rows * like.columns, dtype=dtype, device=like.tensors()[0].device)
    total = parts[0].dense(0, parts[0].rows)
    total = total.to(torch.complex128 if total.is_complex() else dtype)
    for part in parts[1:]:
        total = total + part.dense(0, part.rows)
    return total


def _summed(products: Tensor, k: int) -> Tensor:
    """Products of positions ``[k·T, k·T]`` summed to those of examples ``[k, k]``."""
    if len(products) == k:
        return products
    return products.view(k, len(products) // k, k, -1).sum((1, 3))


def _ranged(vectors: Tensor, low: float, high: float) -> tuple[Tensor, Tensor | None]:
    """Vectors ``[n, p]`` fit for products in their own precision, and the powers of two they were divided by."""
    if vectors.is_complex() or vectors.dtype in (torch.float16, torch.bfloat16):
        vectors, scale = scaled(vectors)
        return vectors, scale
    if vectors.dtype == torch.float64:
        low, high = low**8, high**8
    if vectors.shape[1] == 0:
        return vectors, None
    # The Euclidean norm is several times faster than the largest entry; where it says nothing, look closer.
    norm = torch.linalg.vector_norm(vectors, dim=1)
    odd = ~((norm > low) & (norm < high))
    if bool(odd.any()):
        largest = vectors[odd].abs().amax(1)
        if bool((torch.isfinite(largest) & (largest > 0)).any()):
            return scaled(vectors)
    return vectors, None


def _add(view: Tensor, product: Tensor, scale: Tensor | None, rows: slice, columns: slice) -> None:
    if scale is None:
        view += product
    else:
        view += product.to(view.dtype) * scale[rows, None] * scale[None, columns]
