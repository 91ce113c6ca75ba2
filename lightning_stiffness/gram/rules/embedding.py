"""Rows looked up in a table: ``embedding``, sums and means of them, indexing with one tensor."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.parts import Lookup
from lightning_stiffness.gram.rules.registry import NoRule, Parts, data, real, rule, shared
from lightning_stiffness.gram.uses import Operand, Use


@rule(F.embedding, factored=True)
def embedding(
    use: Use,
    input: Operand,
    weight: Operand,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Parts:
    """y = W[k], with dW[k] = d; whether the gradient would be sparse makes no difference here."""
    d = real(use)
    if not weight.wanted:
        raise NoRule
    rows = shared(weight).shape[0]
    index = data(input).canonical().reshape(len(d), -1).long()
    delta = d.reshape(*index.shape, weight.shape[1])
    if padding_idx is not None:
        delta = delta * (index != padding_idx % rows)[..., None]
    if scale_grad_by_freq:
        delta = delta / _frequency(index)[..., None]
    return [(weight, Lookup(index, delta, rows))]


@rule(torch.embedding, factored=True)
def embedding_below(
    use: Use,
    weight: Operand,
    indices: Operand,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Parts:
    """The same by its inner name; here a negative ``padding_idx`` means none."""
    return embedding(use, indices, weight, padding_idx if padding_idx >= 0 else None, None, 2.0, scale_grad_by_freq)


@rule(F.embedding_bag)
def embedding_bag(
    use: Use,
    input: Operand,
    weight: Operand,
    offsets: Operand | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Operand | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Parts:
    """y = Σ W[k] over the entries of a bag, or their mean."""
    d = real(use)
    covered = mode in ("sum", "mean") and offsets is None and len(input.shape) == 2
    if not covered or not weight.wanted or scale_grad_by_freq or (per_sample_weights and per_sample_weights.wanted):
        raise NoRule
    rows = shared(weight).shape[0]
    index = data(input).canonical().long()  # [n, bags, length]
    counted = torch.ones_like(index, dtype=d.dtype)
    if padding_idx is not None:
        counted = (index != padding_idx % rows).to(d.dtype)
    if per_sample_weights is not None:
        counted = counted * per_sample_weights.canonical()
    elif mode == "mean":
        counted = counted / counted.sum(2, keepdim=True).clamp(min=1)
    delta = d[:, :, None, :] * counted[..., None]
    return [(weight, Lookup(index.flatten(1), delta.flatten(1, 2), rows))]


@rule(Tensor.__getitem__)
def getitem(use: Use, table: Operand, key: object) -> Parts:
    """y = W[k] with one tensor of integers."""
    d = real(use)
    if not isinstance(key, Operand) or len(shared(table).shape) < 1:
        raise NoRule
    index = data(key).canonical()
    if index.dtype in (torch.bool, torch.uint8) or not table.wanted:
        raise NoRule
    index = index.reshape(len(d), -1).long()
    index = torch.where(index < 0, index + table.shape[0], index)
    return [(table, Lookup(index, d.reshape(*index.shape, -1), table.shape[0]))]


def _frequency(index: Tensor) -> Tensor:
    """How often each entry occurs among those of the same example, ``[n, T]``."""
    return (index[:, :, None] == index[:, None, :]).sum(2)
