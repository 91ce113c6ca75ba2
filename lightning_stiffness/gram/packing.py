"""Values with tensors in them as what travels between processes: a pickle without the tensors, and their bytes."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 16
"""Tensors sent together begin at multiples of so many bytes, as any type needs."""
ALONE = 1 << 18
"""Bytes from which a tensor is sent by itself, without a copy: a message takes as long as copying some 200 kB."""

Forms = list[tuple[torch.dtype, torch.Size]]
"""Types and shapes of tensors, in order."""


@dataclass(frozen=True)
class Pack:
    """A value without its tensors, and the tensors.

    Example:
        >>> pack = Pack.of({"a": torch.ones(2), "b": 3})
        >>> unpacked(pack.text, pack.forms, pack.cargo(torch.device("cpu")))
        {'a': tensor([1., 1.]), 'b': 3}
    """

    text: bytes
    tensors: list[Tensor]

    @classmethod
    def of(cls, value: Any) -> "Pack":
        """Anything that can be pickled."""
        stream = io.BytesIO()
        packer = _Packer(stream)
        packer.dump(value)
        return cls(stream.getvalue(), packer.tensors)

    @property
    def forms(self) -> Forms:
        """Types and shapes of the tensors."""
        return [(tensor.dtype, tensor.shape) for tensor in self.tensors]

    def cargo(self, device: torch.device) -> list[Tensor]:
        """The tensors' bytes on a device, as :func:`slots` has room for them."""
        data = [tensor.detach().contiguous().flatten().to(device).view(torch.uint8) for tensor in self.tensors]
        large = [one for one in data if len(one) >= ALONE]
        small = [one for one in data if len(one) < ALONE]
        if not any(map(len, small)):
            return large
        together = torch.zeros(sum(_aligned(len(one)) for one in small), dtype=torch.uint8, device=device)
        offset = 0
        for one in small:
            together[offset : offset + len(one)] = one
            offset += _aligned(len(one))
        return [*large, together]


def slots(forms: Forms, device: torch.device) -> list[Tensor]:
    """Room for the bytes of tensors of these forms: of each large one, and of all the others together."""
    lengths = [_length(form) for form in forms]
    wanted = [length for length in lengths if length >= ALONE]
    together = sum(_aligned(length) for length in lengths if length < ALONE)
    return [torch.empty(length, dtype=torch.uint8, device=device) for length in (*wanted, together) if length]


def unpacked(text: bytes, forms: Forms, cargo: list[Tensor]) -> Any:
    """The value again.

    Args:
        text: of the pack.
        forms: of its tensors.
        cargo: their bytes.
    """

    def tensors() -> Iterator[Tensor]:
        large, offset = iter(cargo), 0
        for dtype, shape in forms:
            length = _length((dtype, shape))
            if length >= ALONE:
                data = next(large)
            else:
                data = cargo[-1][offset : offset + length] if length else torch.empty(0, dtype=torch.uint8)
                offset += _aligned(length)
            yield data.view(dtype).view(shape)

    return _Unpacker(io.BytesIO(text), list(tensors())).load()


class _Packer(pickle.Pickler):
    """Leaves tensors out of the pickle, each kept once, whatever shape it is seen in: what a weight's and a bias's
    gradient share, they share where they arrive."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.tensors: list[Tensor] = []
        self._places: dict[Any, int] = {}

    def persistent_id(self, obj: Any) -> tuple[int, torch.Size] | None:
        if not isinstance(obj, Tensor):
            return None
        layout = obj.numel() if obj.is_contiguous() else (obj.shape, obj.stride())
        key = (obj.data_ptr(), obj.dtype, layout)
        if key not in self._places:
            self._places[key] = len(self.tensors)
            self.tensors.append(obj)
        return self._places[key], obj.shape


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(stream)
        self._tensors: list[Tensor] = tensors

    def persistent_load(self, pid: tuple[int, torch.Size]) -> Tensor:
        place, shape = pid
        return self._tensors[place].view(shape)


def _length(form: tuple[torch.dtype, torch.Size]) -> int:
    dtype, shape = form
    return shape.numel() * dtype.itemsize


def _aligned(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
