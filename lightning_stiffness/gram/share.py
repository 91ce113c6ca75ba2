"""One Gram worked out by several processes: each handles some of the examples and some of the rows."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from lightning_stiffness.gram.problem import EngineRefusal

_HEAD = 4096
"""Bytes of a message that every process sends at once."""
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
        """Which of several tasks this process does, as :func:`dealt` says.

        Example:
            >>> Share(0, 2, torch.device("cpu")).deal([3.0, 4.0, 3.0, 1.0, 1.0])
            [False, True, False, True, True]
        """
        return [rank == self.rank for rank in dealt(costs, self.count)]

    def gather(self, value: Any, failed: Exception | None = None, *, about: str = "gather") -> list[Any]:
        """What every process gives to all, in order; arguments and errors are those of :meth:`deliver`."""
        return self.deliver([value] * self.count, failed, about=about)

    def deliver(self, values: list[Any], failed: Exception | None = None, *, about: str = "deliver") -> list[Any]:
        """Give each process something of its own; tensors travel as they are, without a copy to pickle.

        Args:
            values: what each process is to have: anything that can be pickled, with tensors in it.
            failed: an error, instead of values.
            about: what it is about: processes that are at different points of their work notice by it.

        Returns:
            What each process gave to this one, in order.

        Raises:
            Exception: the own error.
            OutOfStep: if another process failed.
            Abandoned: if another process is no longer there.
        """
        mine: dict[int, _Pack] = {}
        if failed is None:
            others = [k for k in range(self.count) if k != self.rank]
            packs = {key: _Pack.of(value) for key, value in {id(values[k]): values[k] for k in others}.items()}
            mine = {k: packs[id(values[k])] for k in others}
        labels = {k: (pack.text, pack.forms) for k, pack in mine.items()}
        told = exchange(about, (None if failed is None else str(failed), labels))
        if failed is not None:
            raise failed
        self._check(told, about)
        for rank, (_, (error, _)) in enumerate(told):
            if error is not None:
                raise OutOfStep(f"process {rank} of {self.count} could not do its part: {error}")
        # Gloo sends from the processor's memory alone
        device = torch.device("cpu") if distributed.get_backend() == "gloo" else self.device
        joined = {id(pack): pack.joined(device) for pack in mine.values()}
        coming = {rank: answer[1][self.rank] for rank, (_, answer) in enumerate(told) if rank != self.rank}
        received = {
            rank: torch.empty(length, dtype=torch.uint8, device=device)
            for rank, (_, forms) in coming.items()
            if (length := _length(forms))
        }
        moves = [
            distributed.P2POp(distributed.isend, joined[id(pack)], k)
            for k, pack in mine.items()
            if _length(pack.forms)
        ]
        moves += [distributed.P2POp(distributed.irecv, data, rank) for rank, data in received.items()]
        for move in distributed.batch_isend_irecv(moves) if moves else []:
            move.wait()
        none = torch.empty(0, dtype=torch.uint8, device=device)
        found = {
            rank: _unpacked(text, forms, received.get(rank, none).to(self.device))
            for rank, (text, forms) in coming.items()
        }
        return [values[self.rank] if rank == self.rank else found[rank] for rank in range(self.count)]

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over the processes.

        Raises:
            Abandoned: if another process is not at this point.
        """
        self._check(exchange("add", None), "add")
        distributed.all_reduce(values)

    def _check(self, told: list[tuple[str, Any]], here: str) -> None:
        for rank, (kind, _) in enumerate(told):
            if kind != here:
                raise Abandoned(f"process {rank} of {self.count} has given up the measurement")


def dealt(costs: Sequence[float], count: int) -> list[int]:
    """Who does which of several tasks: the dearest first, each goes to the process with least to do.

    Example:
        >>> dealt([3.0, 4.0, 3.0, 1.0, 1.0], 2)
        [1, 0, 1, 0, 0]
    """
    given, owners = [0.0] * count, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = min(range(count), key=given.__getitem__)
        given[owners[task]] += costs[task]
    return owners


def exchange(kind: str, value: Any) -> list[tuple[str, Any]]:
    """What every process says, with what it is about: processes that an error put out of step notice."""
    told: list[Any] = [None] * distributed.get_world_size()
    if distributed.get_backend() != "gloo":
        distributed.all_gather_object(told, (kind, value))
        return told
    # The same with one message where all are short, in a third of the time
    said = pickle.dumps((kind, value))
    heads = _gathered(len(said).to_bytes(8, "little") + said, _HEAD, len(told))
    lengths = [int.from_bytes(head[:8], "little") for head in heads]
    longest = 8 + max(lengths) - _HEAD
    tails = _gathered(said[_HEAD - 8 :], longest, len(told)) if longest > 0 else [b""] * len(told)
    return [
        pickle.loads((head[8:] + tail)[:length]) for head, tail, length in zip(heads, tails, lengths, strict=True)
    ]


def _gathered(data: bytes, length: int, count: int) -> list[bytes]:
    """The first bytes that each process has, filled up to a length."""
    sent = torch.frombuffer(bytearray(data[:length].ljust(length, b"\0")), dtype=torch.uint8)
    received = [torch.empty_like(sent) for _ in range(count)]
    distributed.all_gather(received, sent)
    return [part.numpy().tobytes() for part in received]


@dataclass(frozen=True)
class _Pack:
    """A value without its tensors, and the tensors."""

    text: bytes
    tensors: list[Tensor]
    forms: list[tuple[torch.dtype, torch.Size]]

    @classmethod
    def of(cls, value: Any) -> "_Pack":
        text, tensors = _packed(value)
        return cls(text, tensors, [_form(tensor) for tensor in tensors])

    def joined(self, device: torch.device) -> Tensor:
        """The tensors' bytes, one behind the other."""
        sent = torch.zeros(_length(self.forms), dtype=torch.uint8, device=device)
        offset = 0
        for tensor in self.tensors:
            data = tensor.detach().contiguous().flatten().to(device).view(torch.uint8)
            sent[offset : offset + len(data)] = data
            offset += _aligned(len(data))
        return sent


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


def _length(forms: list[tuple[torch.dtype, torch.Size]]) -> int:
    return sum(_aligned(shape.numel() * dtype.itemsize) for dtype, shape in forms)


def _aligned(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
