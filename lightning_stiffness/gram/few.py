"""Inner products of a few examples' gradients, parameter by parameter: what the check looks at."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.parts import Lookup, Outer, Part
from lightning_stiffness.gram.product import accumulation_dtype

Pieces = Sequence[tuple[int, Sequence[Part]]]
"""For each piece of the examples, how many they are, and the parts whose sum the gradient is; none for zero."""


def picked(parts: Sequence[Sequence[Part]], indices: Sequence[Tensor | None]) -> Pieces:
    """The parts of one parameter for a few examples.

    Args:
        parts: for each piece of the examples, the parameter's parts.
        indices: for each piece, which of its examples; None for none.
    """
    chosen = ((few, index) for few, index in zip(parts, indices, strict=True) if index is not None)
    return [(len(index), [part.take(index) for part in few]) for few, index in chosen]


def few_products(pieces: Pieces, device: torch.device) -> Tensor:
    """The Gram ``[k, k]`` of few examples' gradients of one parameter, in float64 throughout.

    Args:
        pieces: the parameter's parts, from :func:`picked`.
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
