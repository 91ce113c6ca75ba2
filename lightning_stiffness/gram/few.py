"""Inner products of a few examples' gradients, parameter by parameter: what the check looks at."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.parts import Dense, Lookup, Outer, Part
from lightning_stiffness.gram.plan import SMALL
from lightning_stiffness.gram.product import accumulation_dtype

Pieces = Sequence[Sequence[Part]]
"""For each piece of the examples, the parts whose sum one parameter's gradient is; none for zero."""


class Few:
    """A few of the examples of some pieces.

    Args:
        indices: for each piece, which of its examples; None for none.
        device: where they are.
        room: bytes for gradients formed at a time.
    """

    def __init__(self, indices: Sequence[Tensor | None], device: torch.device, room: int):
        self.indices, self.device, self.room = indices, device, room
        self.dtype = accumulation_dtype(device)
        self._seen: dict[tuple[object, ...], Tensor] = {}

    def products(self, pieces: Pieces) -> Tensor:
        """The Gram ``[k, k]`` of one parameter's gradients, in float64 throughout."""
        if len(pieces) == 1 and len(pieces[0]) == 1:
            part, index = pieces[0][0], self.indices[0]
            assert index is not None
            if isinstance(part, Outer) and part.positions == 1:
                return self._own(part.left[:, 0], index) * self._own(part.right[:, 0], index)
            if isinstance(part, Dense) and not part.gradient.is_complex() and part.gradient.shape[1] <= SMALL:
                return self._own(part.gradient, index)
        chosen = ((few, index) for few, index in zip(pieces, self.indices, strict=True) if index is not None)
        picked = [(len(index), [part.take(index) for part in few]) for few, index in chosen]
        return _products(picked, self.device, self.room)

    def _own(self, factor: Tensor, index: Tensor) -> Tensor:
        """Inner products of rows; a bias and its weight share theirs."""
        key = factor.data_ptr(), factor.shape, factor.stride()
        if key not in self._seen:
            rows = factor[index].to(self.dtype)
            self._seen[key] = rows @ rows.T
        return self._seen[key]


def _products(pieces: Sequence[tuple[int, Sequence[Part]]], device: torch.device, room: int) -> Tensor:
    """The Gram ``[k, k]`` of one parameter's gradients, from how many there are in each piece, and their parts."""
    dtype = accumulation_dtype(device)
    first = next((parts[0] for _, parts in pieces if parts), None)
    if first is None:
        k = sum(count for count, _ in pieces)
        return torch.zeros(k, k, dtype=dtype, device=device)
    joined = _joined(pieces)
    if isinstance(joined, Outer) and joined.n * joined.positions < 512:
        left, right = (t.flatten(0, 1).to(dtype) for t in joined.tensors())
        return _summed((left @ left.T).mul_(right @ right.T), joined.n)
    if isinstance(joined, Lookup) and joined.n * joined.positions < 2048:
        index, delta = joined.index.flatten(), joined.delta.flatten(0, 1).to(dtype)
        return _summed((delta @ delta.T).mul_(index[:, None] == index[None, :]), joined.n)
    k = sum(count for count, _ in pieces)
    total = torch.zeros(k, k, dtype=dtype, device=device)
    step = max(1, room // (4 * k * max(1, first.columns) * 8))
    for low in range(0, first.rows, step):
        high = min(low + step, first.rows)
        vectors = torch.cat([_sum_of_parts(count, parts, first, dtype, low, high) for count, parts in pieces])
        if vectors.is_complex():
            vectors = torch.view_as_real(vectors.resolve_conj()).flatten(1)
        total += vectors @ vectors.T
    return total


def _joined(pieces: Sequence[tuple[int, Sequence[Part]]]) -> Part | None:
    """The examples of all pieces in one part, where each has one of the same kind and shape."""
    if any(len(parts) != 1 for _, parts in pieces):
        return None
    parts = [few[0] for _, few in pieces]
    tensors = [part.tensors() for part in parts]
    if len(parts) == 1:
        return parts[0]
    if len({(type(part), *(t.shape[1:] for t in part.tensors())) for part in parts}) > 1:
        return None
    return parts[0].with_tensors([torch.cat(same) for same in zip(*tensors, strict=True)])


def _sum_of_parts(count: int, parts: Sequence[Part], like: Part, dtype: torch.dtype, low: int, high: int) -> Tensor:
    """Rows of the gradients ``[count, (high − low)·C]``; zero without parts."""
    if not parts:
        return torch.zeros(count, (high - low) * like.columns, dtype=dtype, device=like.tensors()[0].device)
    total = parts[0].dense(low, high)
    total = total.to(torch.complex128 if total.is_complex() else dtype)
    for part in parts[1:]:
        total = total + part.dense(low, high)
    return total


def _summed(products: Tensor, k: int) -> Tensor:
    """Products of positions ``[k·T, k·T]`` summed to those of examples ``[k, k]``."""
    if len(products) == k:
        return products
    return products.view(k, len(products) // k, k, -1).sum((1, 3))
