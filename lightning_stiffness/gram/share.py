"""One Gram worked out by several processes: each handles some of the examples and some of the rows."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from lightning_stiffness.gram.problem import EngineRefusal

_ALIGNED = 16
"""Tensors begin at multiples of so many bytes, as any type needs."""


class OutOfStep(EngineRefusal):
    """Another process could not do its part, and goes on by another way, as this one may."""


class Abandoned(RuntimeError):
    """Another process has given up the measurement: there is nothing to go on with."""


@dataclass(frozen=True)
class Share:
    """This process among those that work on the same Gram; all of them hold the same module and examples."""

    rank: int
    count: int
    device: torch.device

    def span(self, n: int) -> tuple[int, int]:
        """The examples, of ``n``, that this process handles.

        Example:
            >>> Share(1, 2, torch.device("cpu")).span(5)
            (2, 5)
        """
        return self.rank * n // self.count, (self.rank + 1) * n // self.count

    def mine(self, place: int) -> bool:
        """Whether this process works out the strip of that place. Strips grow shorter, so the order turns back
        and forth.

        Example:
            >>> [place for place in range(8) if Share(0, 2, torch.device("cpu")).mine(place)]
            [0, 3, 4, 7]
        """
        turn, position = divmod(place, self.count)
        return (position if turn % 2 == 0 else self.count - 1 - position) == self.rank

    def deal(self, costs: Sequence[float]) -> list[bool]:
        """Which of several tasks this process does: the dearest first, each goes to the process with least to do.

        Example:
            >>> Share(0, 2, torch.device("cpu")).deal([3.0, 4.0, 3.0, 1.0, 1.0])
            [False, True, False, True, True]
        """
        given, owner = [0.0] * self.count, [0] * len(costs)
        for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
            owner[task] = min(range(self.count), key=given.__getitem__)
            given[owner[task]] += costs[task]
        return [rank == self.rank for rank in owner]

    def gather(self, value: Any, failed: Exception | None = None) -> list[Any]:
        """What every process gives, in order; its tensors travel as they are, without a copy to pickle.

        Args:
            value: anything that can be pickled, with tensors in it.
            failed: an error, instead of a value.

        Raises:
            Exception: the own error.
            OutOfStep: if another process failed.
            Abandoned: if another process is no longer there.
        """
        text = b""
        tensors: list[Tensor] = []
        if failed is None:
            text, tensors = _packed(value)
        sizes = [_aligned(tensor.numel() * tensor.element_size()) for tensor in tensors]
        told = exchange(
            "gather", (None if failed is None else str(failed), text, [_form(t) for t in tensors], sum(sizes))
        )
        if failed is not None:
            raise failed
        self._check(told, "gather")
        for rank, (_, answer) in enumerate(told):
            if answer[0] is not None:
                raise OutOfStep(f"process {rank} of {self.count} could not do its part: {answer[0]}")
        most = max(answer[3] for _, answer in told)
        sent = torch.zeros(most, dtype=torch.uint8, device=self.device)
        offset = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            data = tensor.detach().contiguous().flatten().to(self.device).view(torch.uint8)
            sent[offset : offset + len(data)] = data
            offset += size
        received = [torch.empty_like(sent) for _ in told]
        distributed.all_gather(received, sent)
        return [_unpacked(answer[1], answer[2], data) for (_, answer), data in zip(told, received, strict=True)]

    def _check(self, told: list[tuple[str, Any]], here: str) -> None:
        for rank, (kind, _) in enumerate(told):
            if kind != here:
                raise Abandoned(f"process {rank} of {self.count} has given up the measurement")


def exchange(kind: str, value: Any) -> list[tuple[str, Any]]:
    """What every process says, with what it is about: processes that an error put out of step notice."""
    told: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(told, (kind, value))
    return told


class _Packer(pickle.Pickler):
    """Leaves tensors out of the pickle, each kept once."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.tensors: list[Tensor] = []
        self._places: dict[Any, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor):
            return None
        key = (obj.data_ptr(), obj.dtype, obj.shape, obj.stride())
        if key not in self._places:
            self._places[key] = len(self.tensors)
            self.tensors.append(obj)
        return self._places[key]


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(stream)
        self._tensors: list[Tensor] = tensors

    def persistent_load(self, pid: int) -> Tensor:
        return self._tensors[pid]


def _packed(value: Any) -> tuple[bytes, list[Tensor]]:
    stream = io.BytesIO()
    packer = _Packer(stream)
    packer.dump(value)
    return stream.getvalue(), packer.tensors


def _unpacked(text: bytes, forms: list[tuple[torch.dtype, torch.Size]], data: Tensor) -> Any:
    def tensors() -> Iterator[Tensor]:
        offset = 0
        for dtype, shape in forms:
            length = shape.numel() * dtype.itemsize
            yield data[offset : offset + length].view(dtype).view(shape)
            offset += _aligned(length)

    return _Unpacker(io.BytesIO(text), list(tensors())).load()


def _form(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    return tensor.dtype, tensor.shape


def _aligned(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
