"""Small runs of many kinds, one file per family; importing this package registers all of them."""

from tests.callback.setups import closures, losses, norms, optimisation, plain, precision, trainer_use
from tests.callback.setups.base import SETUPS, Run, Setup

__all__ = [
    "SETUPS",
    "Run",
    "Setup",
    "closures",
    "losses",
    "norms",
    "optimisation",
    "plain",
    "precision",
    "trainer_use",
]
