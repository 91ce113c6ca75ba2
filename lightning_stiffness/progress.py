"""How far a long measurement is, beside the trainer's own bar."""

from collections.abc import Iterator
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
    with tqdm(
        total=total, desc=f"Measuring {name}", unit=" examples", leave=False, delay=PATIENCE, dynamic_ncols=True
    ) as shown:

        def counting(module: nn.Module, batch: Batch) -> Tensor:
            loss = loss_fn(module, batch)
            try:
                size = batch_size(batch)
            except ValueError:  # such as a graph
                size = 1
            if shown.n + size > total:
                shown.total = None
            shown.update(size)
            return loss

        yield counting
