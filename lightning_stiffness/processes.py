"""What the processes of a distributed run tell each other, so that all of them log the same."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from lightning_stiffness.compat import misconfigurations
from lightning_stiffness.gram.share import Abandoned, Share, exchange
from lightning_stiffness.refusal import REFUSALS, Refusal

T = TypeVar("T")


class OtherProcessFailed(RuntimeError):
    """Another process of the run could not go on; the message says which, and why."""


class OtherProcessRefused(Refusal, OtherProcessFailed):
    """Another process met an error that the user has to settle."""


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
            OtherProcessFailed: if it failed on another process; an own error is raised as it is, unless another
                process has one that the user has to settle.
        """
        if self.count == 1:
            return work()
        error: Exception | None = None
        value: Any = None
        try:
            value = work()
        except Exception as caught:
            error = caught
        settle = isinstance(error, (*REFUSALS, *misconfigurations()))
        own = None if error is None else (f"{type(error).__name__}: {error}", settle, isinstance(error, Abandoned))
        told = exchange("together", own)
        while any(kind != "together" for kind, _ in told):  # an error keeps a process from where others still wait
            told = exchange("together", own)
        causes = {rank: answer for rank, (_, answer) in enumerate(told) if answer is not None and not answer[2]}
        others_to_settle = any(answer[1] for answer in causes.values())
        if error is not None and (settle or not (others_to_settle or isinstance(error, Abandoned))):
            raise error
        if causes:
            text = "; ".join(f"on process {rank}, {answer[0]}" for rank, answer in causes.items())
            raise (OtherProcessRefused if others_to_settle else OtherProcessFailed)(text) from error
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def share(self, device: torch.device) -> Share | None:
        """How to work on a Gram together; None for a process alone."""
        return None if self.count == 1 else Share(self.rank, self.count, device)

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
