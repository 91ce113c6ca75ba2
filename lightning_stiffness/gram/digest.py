"""What tells one probe from another."""

import functools
import zlib
from collections.abc import Hashable, Iterable, Iterator

import torch
from torch import Tensor

from lightning_stiffness.gram.batch import Batch, leaves

SHORT = 1 << 16
"""Bytes of a tensor that are looked at one by one; longer ones of usual numbers are multiplied with fixed ones."""

AT_A_TIME = 1 << 20
"""Entries that are looked at together."""

_WIDTH = 1024


def digest(batches: Iterable[Batch]) -> Hashable:
    """A short name for some batches, the same for the same values, and likely to be another for others.

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
                try:
                    found.append((path, leaf.dtype, leaf.shape, _of_tensor(leaf.detach())))
                except Exception:  # as of one that is sparse, or has no values
                    return None
            elif leaf is None or isinstance(leaf, str | bytes | int | float | bool | list):
                found.append((path, repr(leaf)))
            else:
                return None
    return tuple(found)


def _of_tensor(tensor: Tensor) -> int:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    short = tensor.numel() * tensor.element_size() <= SHORT
    found = 0
    for flat in _parts(tensor.resolve_neg()):
        rows = len(flat) // _WIDTH
        if not short and flat.dtype in (torch.float32, torch.float64) and rows:
            weights = _weights(flat.dtype, flat.device)
            products = torch.mv(flat[: rows * _WIDTH].view(rows, _WIDTH), weights)
            if bool(products.isfinite().all()):
                found = zlib.crc32(_bytes(products), found)
                flat = flat[rows * _WIDTH :]
        found = zlib.crc32(_bytes(flat), found)
    return found


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """All entries in order, so many at a time: others than those of contiguous tensors are copied."""
    if tensor.is_contiguous():
        yield from torch.split(tensor.reshape(-1), AT_A_TIME)
        return
    rows = max(1, AT_A_TIME * len(tensor) // max(1, tensor.numel()))
    for some in torch.split(tensor, rows):
        yield some.reshape(-1)


@functools.lru_cache
def _weights(dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(_WIDTH, dtype=torch.float64, generator=generator).add_(0.5).to(device, dtype)


def _bytes(flat: Tensor) -> memoryview:
    found: memoryview = flat.cpu().contiguous().view(torch.uint8).numpy().data
    return found
