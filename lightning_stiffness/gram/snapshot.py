"""Values of tensors, put back where a forward pass has changed them."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.devices import is_far


class Snapshot:
    """Copies of tensors of any kind and place.

    Those on a GPU are copied, and compared at the end, side by side: to look at one is to wait for the GPU.

    Args:
        tensors: one that comes several times is copied once.

    Example:
        >>> mean = torch.zeros(2)
        >>> snapshot = Snapshot([mean, mean])
        >>> _ = mean.add_(1)
        >>> snapshot.put_back()
        >>> mean.tolist()
        [0.0, 0.0]
    """

    def __init__(self, tensors: Iterable[Tensor]):
        self._single: list[tuple[Tensor, Tensor]] = []
        runs: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in {id(tensor): tensor for tensor in tensors}.values():
            if is_far(tensor.device) and _is_flat(tensor):
                runs.setdefault((tensor.device, tensor.dtype), []).append(tensor)
            else:
                self._single.append((tensor, _copied(tensor)))
        self._runs = [_Run(run, [tensor.shape for tensor in run], _beside(run)) for run in runs.values()]

    def put_back(self) -> None:
        """Give the tensors their values again, in place; those that have them are not written to."""
        for tensor, before in self._single:
            _put_back(tensor, before)
        for run in self._runs:
            if not run.is_untouched():
                for tensor, before in run.split():
                    _put_back(tensor, before)


@dataclass
class _Run:
    """Tensors of one device and type, with their values side by side."""

    tensors: list[Tensor]
    shapes: list[torch.Size]
    values: Tensor

    def is_untouched(self) -> bool:
        device, dtype = self.values.device, self.values.dtype
        for tensor, shape in zip(self.tensors, self.shapes, strict=True):
            if not _is_flat(tensor) or (tensor.device, tensor.dtype, tensor.shape) != (device, dtype, shape):
                return False
        return _untouched(_beside(self.tensors), self.values)

    def split(self) -> list[tuple[Tensor, Tensor]]:
        values = self.values.split_with_sizes([shape.numel() for shape in self.shapes])
        return [
            (tensor, part.view(shape).clone())  # of its own, as it may become the tensor's data
            for tensor, part, shape in zip(self.tensors, values, self.shapes, strict=True)
        ]


def _is_flat(tensor: Tensor) -> bool:
    """Whether all there is to a tensor is a row of numbers of a usual kind."""
    known = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_nested
    return known and tensor.dtype in _USUAL and tensor.layout == torch.strided


def _beside(tensors: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _put_back(tensor: Tensor, before: Tensor) -> None:
    if not _untouched(tensor, before):
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            _restore(tensor, before)


def _copied(tensor: Tensor) -> Tensor:
    """The same values in memory of their own."""
    # clone does not know every kind of quantisation
    return copy.deepcopy(tensor.detach()) if tensor.is_quantized else tensor.detach().clone()


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes → the integers in which tensors are compared bit by bit."""
_USUAL = frozenset(
    {
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    }
)


def _untouched(tensor: Tensor, before: Tensor) -> bool:
    """A quick look at tensors of the usual kinds: whether they have the same bits. False for all others."""
    # By value: some kernels write into buffers without counting it as a new version.
    if tensor.dtype not in _USUAL or tensor.dtype != before.dtype or tensor.layout != torch.strided:
        return False
    kind = _INTEGERS[tensor.element_size()]
    try:
        return torch.equal(tensor.view(kind), before.view(kind))
    except Exception:  # an unusual kind
        return False


def _restore(tensor: Tensor, before: Tensor) -> None:
    """A tensor with its earlier values, in place; untouched where nothing changed."""
    if tensor.is_meta and before.is_meta:  # no values
        return
    now, then = _dense(tensor), _dense(before)
    if now is None or then is None or _form(tensor, now) != _form(before, then):
        # Resized, or other entries of a sparse tensor: there is no place for the earlier values in it. Or a layout
        # such as MKL-DNN's, which is private to its kernels: neither can its values be compared.
        tensor.data = before
        return
    for part, earlier in zip(now, then, strict=True):
        if not _same(part, earlier):
            _write(part, earlier)


def _dense(tensor: Tensor) -> list[Tensor] | None:
    """Dense tensors that share a tensor's memory and make it up; None where it gives none."""
    layout = tensor.layout
    if tensor.is_quantized:  # scale and zero point are written to no other tensor, even of the same memory
        return [tensor]
    tensor = tensor.detach()
    if tensor.is_nested:
        return list(tensor.unbind())
    if layout == torch.strided:
        return [tensor]
    if layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return None


def _form(tensor: Tensor, parts: list[Tensor]) -> tuple[Any, ...]:
    sparse = tensor.layout == torch.sparse_coo and tensor.is_coalesced()
    size = None if tensor.is_nested else tensor.shape  # that of nested tensors is in their parts
    return tensor.layout, tensor.device, sparse, size, [(part.shape, part.dtype) for part in parts]


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same bits: NaN is NaN, and 0 is not -0."""
    try:
        if a.is_quantized:
            return torch.equal(a, b)
        if a.is_complex():
            a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
        kind = _INTEGERS[a.element_size()]
        return torch.equal(a.resolve_neg().view(kind), b.resolve_neg().view(kind))
    except Exception:  # a class of tensors may know as little of comparing as it likes
        return False


def _write(tensor: Tensor, values: Tensor) -> None:
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:  # expanded: one place for all these values
            tensor, values = tensor.narrow(dim, 0, 1), values.narrow(dim, 0, 1)
    tensor.copy_(values)
