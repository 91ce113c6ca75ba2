"""What tells one probe from another."""

import zlib
from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from lightning_stiffness.gram.batch import Batch, leaves

SHORT = 1 << 16
"""Bytes of a tensor that are looked at one by one; of longer ones the rows' sums are."""


def digest(batches: Iterable[Batch]) -> Hashable:
    """A short name for some batches, the same for the same values.

    Labels and masks, which are small, count byte by byte; of large tensors the sum of each row does.

    Returns:
        None where there is none, as with objects that are no tensors, numbers or texts.

    Example:
        >>> one, other = torch.tensor([1, 0, 0]), torch.tensor([0, 1, 0])
        >>> digest([one]) == digest([one.clone()]), digest([one]) == digest([other])
        (True, False)
    """
    found: list[Hashable] = []
    for batch in batches:
        for path, leaf in leaves(batch):
            if isinstance(leaf, Tensor):
                if leaf.layout != torch.strided or leaf.is_quantized or leaf.is_nested:
                    return None
                found.append((path, leaf.dtype, leaf.shape, zlib.crc32(_bytes(leaf.detach()))))
            elif leaf is None or isinstance(leaf, str | bytes | int | float | bool | list):
                found.append((path, repr(leaf)))
            else:
                return None
    return tuple(found)


def _bytes(tensor: Tensor) -> bytes:
    if tensor.numel() * tensor.element_size() > SHORT:
        tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        tensor = tensor.reshape(len(tensor), -1).sum(1)
    flat = tensor.resolve_conj().resolve_neg().cpu().reshape(-1)
    return flat.contiguous().view(torch.uint8).numpy().tobytes()
