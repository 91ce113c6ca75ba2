"""Small runs of many kinds, one file per family; importing this package registers all of them."""

from tests.callback.setups import losses, plain
from tests.callback.setups.base import SETUPS, Run, Setup

__all__ = ["SETUPS", "Run", "Setup", "losses", "plain"]
