"""Figures → each logger that can take pictures. Scalars go through Lightning's own ``self.log``."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def takes_pictures(loggers: Iterable[Any]) -> bool:
    """Whether any of the loggers can show a picture."""
    return any(_taker(logger) is not None for logger in loggers)


def log_picture(loggers: Iterable[Any], tag: str, picture: Picture, *, step: int) -> None:
    """Give a picture to every logger that can show it.

    Args:
        loggers: the trainer's loggers.
        tag: its name.
        picture: uint8 ``[height, width, 3]``.
        step: position on the step axis.
    """
    for logger in loggers:
        take = _taker(logger)
        if take is not None:
            take(tag, picture, step)


def log_scalars(loggers: Iterable[Any], scalars: dict[str, float], *, step: int) -> None:
    """Give numbers to every logger directly, where Lightning's ``self.log`` has no place for them."""
    for logger in loggers:
        logger.log_metrics(scalars, step=step)


def _taker(logger: Any) -> Callable[[str, Picture, int], None] | None:
    """How a logger takes a picture, told by what it can do: both Lightning namespaces have their own classes."""
    if callable(getattr(logger, "log_image", None)):  # Weights & Biases and those that follow it
        return lambda tag, picture, step: logger.log_image(key=tag, images=[picture], step=step)
    experiment = getattr(logger, "experiment", None)
    if callable(getattr(experiment, "add_image", None)) and type(logger).__name__ != "DummyLogger":  # TensorBoard
        return lambda tag, picture, step: experiment.add_image(tag, picture, step, dataformats="HWC")
    if callable(getattr(experiment, "log_image", None)) and hasattr(logger, "run_id"):  # MLflow
        return lambda tag, picture, step: experiment.log_image(
            logger.run_id, picture, artifact_file=f"{tag}/step_{step:08d}.png"
        )
    return None
