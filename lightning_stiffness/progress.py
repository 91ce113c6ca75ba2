"""How far a long measurement is, beside the trainer's own bar."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from tqdm.auto import tqdm

from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch, batch_size

PATIENCE = 2.0
"""Seconds before a bar appears."""


@contextmanager
def counted(loss_fn: LossFn, total: int, name: str, trainer: Any) -> Iterator[LossFn]:
    """The loss function, with a bar of the examples that went through it.

    The bar appears after two seconds, on one process, where the trainer shows bars, and goes away at the end.

    Args:
        loss_fn: ``loss_fn(module, batch)``.
        total: number of examples to measure on; an engine may need several passes over them.
        name: what the bar is called.
        trainer: the run.

    Yields:
        A function with the same values.
    """
    bar = getattr(trainer, "progress_bar_callback", None)
    if bar is None or not getattr(bar, "is_enabled", True) or not trainer.is_global_zero:
        yield loss_fn
        return
    show = _beside_rich if getattr(bar, "progress", None) is not None else _below
    with show(bar, total, f"Measuring {name}") as advance:

        def counting(module: nn.Module, batch: Batch) -> Tensor:
            loss = loss_fn(module, batch)
            advance(_examples(batch))
            return loss

        yield counting


@contextmanager
def _below(_: Any, total: int, title: str) -> Iterator[Callable[[int], None]]:
    """A bar of tqdm, as Lightning's plain bars are."""
    with tqdm(total=total, desc=title, leave=False, delay=PATIENCE, dynamic_ncols=True) as shown:

        def advance(size: int) -> None:
            shown.total = max(total, shown.n + size)
            shown.update(size)

        yield advance


@contextmanager
def _beside_rich(bar: Any, total: int, title: str) -> Iterator[Callable[[int], None]]:
    """A line among those of Lightning's rich bar, which leaves no room for others on the screen."""
    began, done, line = time.monotonic(), 0, None

    def advance(size: int) -> None:
        nonlocal done, line
        done += size
        if line is None and time.monotonic() - began > PATIENCE:
            line = bar.progress.add_task(title, total=total)
        if line is not None:
            bar.progress.update(line, completed=done, total=max(total, done))

    try:
        yield advance
    finally:
        if line is not None:
            bar.progress.remove_task(line)


def _examples(batch: Batch) -> int:
    try:
        return batch_size(batch)
    except ValueError:  # such as a graph
        return 1
