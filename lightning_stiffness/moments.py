"""Where a run stands: what decides when to measure."""

from typing import Any

_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy", "XLAFSDPStrategy")


def batches_stepped(trainer: Any) -> int:
    """Batches after which an optimizer stepped: the x axis of Lightning's loggers. ``global_step`` counts every
    optimizer by itself."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def about_to_count(trainer: Any) -> int:
    """1 where the batch at hand was stepped on and is not counted yet: Lightning counts it after its hooks and
    the validation behind it."""
    return 0 if trainer.fit_loop.epoch_loop._should_accumulate() else 1


def in_fit(trainer: Any) -> bool:
    """Whether validation is part of a fit, and no ``trainer.validate``."""
    return str(getattr(trainer.state.fn, "value", trainer.state.fn)) == "fit"


def last_batch_of_epoch(trainer: Any) -> bool:
    """Whether the batch at hand is the epoch's last. A validation after it is that which monitoring callbacks act
    after."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def sharded_strategy(trainer: Any) -> str | None:
    """Name of the strategy where it spreads parameters over processes; None where every process has all."""
    kinds = [kind.__name__ for kind in type(trainer.strategy).__mro__]
    return kinds[0] if any(kind in _SHARDED for kind in kinds) else None
