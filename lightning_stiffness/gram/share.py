"""One Gram worked out by several processes: each handles some of the examples and some of the rows."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from lightning_stiffness.gram.packing import Pack, slots, unpacked
from lightning_stiffness.gram.problem import EngineRefusal

_HEAD = 16384
"""Bytes of a message that every process sends at once: what half of the blocks of a measurement show has room."""


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
        mine: dict[int, Pack] = {}
        if failed is None:
            others = [k for k in range(self.count) if k != self.rank]
            packs = {key: Pack.of(value) for key, value in {id(values[k]): values[k] for k in others}.items()}
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
        cargo = {id(pack): pack.cargo(device) for pack in mine.values()}
        coming = {rank: answer[1][self.rank] for rank, (_, answer) in enumerate(told) if rank != self.rank}
        received = {rank: slots(forms, device) for rank, (_, forms) in coming.items()}
        moves = [
            distributed.P2POp(distributed.isend, data, k, tag=tag)
            for k, pack in mine.items()
            for tag, data in enumerate(cargo[id(pack)])
        ]
        moves += [
            distributed.P2POp(distributed.irecv, data, rank, tag=tag)
            for rank, room in received.items()
            for tag, data in enumerate(room)
        ]
        for move in distributed.batch_isend_irecv(moves) if moves else []:
            move.wait()
        found = {
            rank: unpacked(text, forms, [data.to(self.device) for data in received[rank]])
            for rank, (text, forms) in coming.items()
        }
        return [values[self.rank] if rank == self.rank else found[rank] for rank in range(self.count)]

    def add(self, values: Iterable[Tensor], said: Any = None) -> list[Any]:
        """Replace values by their sum over the processes.

        Args:
            values: made when they are wanted; to be used before the next.
            said: something short.

        Returns:
            What each process said, in order.

        Raises:
            Abandoned: if another process is not at this point.
        """
        told = self.tell(said, about="add")
        for one in values:
            distributed.all_reduce(one)
        return told

    def tell(self, value: Any, *, about: str) -> list[Any]:
        """What every process says to all, in order: anything that can be pickled, and is not large.

        Raises:
            Abandoned: if another process is not at this point.
        """
        told = exchange(about, value)
        self._check(told, about)
        return [of_rank for _, of_rank in told]

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
