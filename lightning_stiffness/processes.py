"""What the processes of a distributed run tell each other, so that all of them log the same."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


class OtherProcessFailed(RuntimeError):
    """Another process of the run could not go on; the message says which, and why."""


class Processes:
    """The processes of a run, as the trainer set them up; one alone talks to nobody.

    Args:
        trainer: the run.
    """

    def __init__(self, trainer: Any) -> None:
        alone = trainer.world_size == 1 or not (distributed.is_available() and distributed.is_initialized())
        self.count: int = 1 if alone else distributed.get_world_size()
        self.rank: int = 0 if alone else distributed.get_rank()

    def together(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, if it succeeds on every process; else an error on every process.

        An error on one process alone would leave the others waiting for it at their next exchange.

        Args:
            work: does the same on every process.

        Returns:
            Its value on this process.

        Raises:
            OtherProcessFailed: if it failed on another process; an own error is raised as it is.
        """
        if self.count == 1:
            return work()
        error: Exception | None = None
        value: Any = None
        try:
            value = work()
        except Exception as caught:
            error = caught
        told: list[Any] = [None] * self.count
        distributed.all_gather_object(told, None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        failed = {rank: text for rank, text in enumerate(told) if text is not None}
        if failed:
            raise OtherProcessFailed("; ".join(f"on process {rank}, {text}" for rank, text in failed.items()))
        return value  # type: ignore[no-any-return]

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.count == 1:
            return value
        held: list[Any] = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[no-any-return]

    def share_buffers(self, module: nn.Module) -> None:
        """Give a module the buffers that it has on the first process.

        Every process has its own running statistics of BatchNorm; checkpoints hold those of the first.
        """
        if self.count == 1:
            return
        with torch.no_grad():
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)
