"""Inner products of a few examples' gradients, parameter by parameter: what the check looks at."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.parts import Dense, Lookup, Outer, Part
from lightning_stiffness.gram.plan import SMALL
from lightning_stiffness.gram.product import Square, accumulation_dtype

_Key = tuple[int, torch.Size, tuple[int, ...]]
"""What tells factors apart."""
Pieces = Sequence[Sequence[Part]]
"""For each piece of the examples, the parts whose sum one parameter's gradient is; none for zero."""


class Few:
    """A few of the examples of some pieces.

    Args:
        indices: for each piece, which of its examples.
        device: where they are.
        room: bytes for gradients formed at a time.
    """

    def __init__(self, indices: Sequence[Sequence[int]], device: torch.device, room: int):
        self.indices, self.device, self.room = indices, device, room
        self.dtype = accumulation_dtype(device)

    def products(self, parts: Mapping[str, Pieces]) -> dict[str, Square]:
        """The Gram ``k × k`` of each parameter's gradients, in float64 throughout."""
        factors: dict[_Key, Tensor] = {}
        made_of: dict[str, list[_Key]] = {}
        for name, pieces in parts.items():
            for factor in _factors(pieces):
                key = factor.data_ptr(), factor.shape, factor.stride()  # a bias and its weight share one
                factors[key] = factor
                made_of.setdefault(name, []).append(key)
        squares = self._squares(factors)
        result = {name: functools.reduce(_times, [squares[key] for key in keys]) for name, keys in made_of.items()}
        others = {name: pieces for name, pieces in parts.items() if name not in result}
        if others:
            index = [torch.tensor(inside, device=self.device) for inside in self.indices]
            sums = []
            for pieces in others.values():
                chosen = ((held, some) for held, some in zip(pieces, index, strict=True) if len(some))
                picked = [(len(some), [part.take(some) for part in held]) for held, some in chosen]
                sums.append(_products(picked, self.device, self.room))
            result.update(zip(others, torch.stack(sums).tolist(), strict=True))
        return result

    def _squares(self, factors: Mapping[_Key, Tensor]) -> dict[_Key, Square]:
        """Inner products of rows of factors of one piece, in as few calls as there can be: each takes its time."""
        if not factors:
            return {}
        (index,) = self.indices
        widest = max(1, self.room // (24 * len(index)))  # bytes of a row's copies, in its precision and in float64
        squares: list[Tensor] = []
        for run in _runs(list(factors.values()), widest):
            rows = torch.stack([torch.cat([factor[i] for factor in run]) for i in index]).to(self.dtype)
            squares += [part @ part.T for part in rows.split_with_sizes([factor.shape[1] for factor in run], 1)]
        return dict(zip(factors, torch.stack(squares).tolist(), strict=True))


def _runs(factors: list[Tensor], widest: int) -> Iterator[list[Tensor]]:
    """The factors in order, together while their widths stay within bounds."""
    run: list[Tensor] = []
    width = 0
    for factor in factors:
        if run and width + factor.shape[1] > widest:
            yield run
            run, width = [], 0
        run.append(factor)
        width += factor.shape[1]
    yield run


def _factors(pieces: Pieces) -> tuple[Tensor, ...]:
    """Factors ``[n, w]`` whose inner products, multiplied, are those of a parameter's gradients; or none."""
    if len(pieces) != 1 or len(pieces[0]) != 1:
        return ()
    part = pieces[0][0]
    if isinstance(part, Outer) and part.positions == 1:
        return part.left[:, 0], part.right[:, 0]
    if isinstance(part, Dense) and not part.gradient.is_complex() and part.gradient.shape[1] <= SMALL:
        return (part.gradient,)
    return ()


def _times(first: Square, second: Square) -> Square:
    return [[a * b for a, b in zip(left, right, strict=True)] for left, right in zip(first, second, strict=True)]


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
