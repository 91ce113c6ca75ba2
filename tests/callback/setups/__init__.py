"""Small runs of many kinds, one file per family; importing this package registers all of them."""

from tests.callback.setups import (
    batches,
    beyond,
    callbacks,
    closures,
    data,
    losses,
    norms,
    optimisation,
    optimizers,
    plain,
    precision,
    state,
    text,
    trainer_use,
)
from tests.callback.setups.base import SETUPS, Run, Setup

__all__ = [
    "SETUPS",
    "Run",
    "Setup",
    "batches",
    "beyond",
    "callbacks",
    "closures",
    "data",
    "losses",
    "norms",
    "optimisation",
    "optimizers",
    "plain",
    "precision",
    "state",
    "text",
    "trainer_use",
]
