"""The trainer of a module that was copied for a measurement: what it tells, and nothing that acts."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import nn

from lightning_stiffness.trainer_view.optimizers import KINDS, SchedulerView
from lightning_stiffness.trainer_view.silent import Silent
from lightning_stiffness.trainer_view.values import ReadView, Scene, viewed

_STAGES = {
    "train": frozenset({"training"}),
    "validate": frozenset({"validating", "evaluating"}),
}
_OF_STAGES = frozenset({"training", "validating", "evaluating", "testing", "predicting", "sanity_checking"})
_HANDED_BACK = frozenset(
    {"reduce", "broadcast", "all_gather", "reduce_boolean_decision", "convert_input", "convert_output"}
)
_CONTEXTS = frozenset({"forward_context", "train_step_context"})
_IDLE = frozenset({"barrier"})
_COPY = frozenset({"model", "lightning_module"})


class StrategyView(ReadView):
    """A strategy or a precision plugin to read from, of one process alone: what it would reduce comes back."""

    def __getattr__(self, name: str) -> Any:
        if name in _COPY:
            return self._scene.shadow
        if name in _HANDED_BACK:
            return lambda value, *_, **__: value
        if name in _CONTEXTS:
            return nullcontext
        if name in _IDLE:
            return _nothing
        return super().__getattr__(name)


class TrainerView:
    """A trainer to read from: numbers, flags, strings, metrics; loggers are silent, optimizers settings and state.

    What would act on the run raises, with a way out. What is set on it is remembered for the one loss and not
    passed on. Whatever the run is at, it validates while the probe is brought to its device, so that hooks leave
    out what they draw at random in training; and it trains from the first loss on, which is a training step's.
    """

    def __init__(self, trainer: Any) -> None:
        scene = Scene()
        object.__setattr__(self, "_trainer", trainer)
        object.__setattr__(self, "_own", {})
        object.__setattr__(self, "_scene", scene)
        object.__setattr__(self, "_stage", "validate")
        scene.kinds = KINDS
        for name in ("strategy", "precision_plugin"):
            scene.own_kinds[id(getattr(trainer, name, None))] = StrategyView
        for config in getattr(trainer, "lr_scheduler_configs", ()):  # also those of no known class
            scene.own_kinds[id(config.scheduler)] = SchedulerView

    def bind(self, module: nn.Module, shadow: nn.Module) -> None:
        """Say which copy of which module is measured on."""
        self._scene.bind(module, shadow)

    def keep(self, keep: Callable[[Any], Any]) -> None:
        """Say by what is kept what data sets and networks hold that a step gets from it."""
        self._scene.keep = keep

    def renew(self) -> None:
        """A loss begins: forget what was set, so that each meets the trainer as it is."""
        object.__setattr__(self, "_stage", "train")
        self._own.clear()
        self._scene.views.clear()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # so that it passes for a trainer
        return type(self._trainer)

    @property
    def logger(self) -> Silent | None:
        """A logger that does nothing; None where the run has none."""
        loggers = self.loggers
        return loggers[0] if loggers else None

    @property
    def loggers(self) -> list[Silent]:
        """As many as the run has."""
        return [Silent(logger) for logger in self._trainer.loggers]

    @property
    def log_dir(self) -> Any:
        """Where the run logs."""
        if self._trainer.world_size == 1:
            return self._trainer.log_dir
        # The trainer would wait for the other processes, which compute other losses
        for logger in self._trainer.loggers:
            return getattr(logger, "log_dir", None) or logger.save_dir
        return self._trainer.default_root_dir

    @property
    def optimizers(self) -> list[ReadView]:
        """The optimizers' settings and state."""
        return [self._scene.view(optimizer, "optimizers") for optimizer in self._trainer.optimizers]

    @property
    def schedulers(self) -> list[ReadView]:
        """The learning rate schedulers, to read."""
        return [
            self._scene.view(config.scheduler, "lr_schedulers") for config in self._trainer.lr_scheduler_configs
        ]

    @property
    def profiler(self) -> Silent:
        """A profiler that does nothing."""
        return Silent()

    @property
    def progress_bar_callback(self) -> Silent | None:
        """A progress bar that does nothing; None where the run has none."""
        bar = self._trainer.progress_bar_callback
        return None if bar is None else Silent(bar)

    @property
    def datamodule(self) -> Any:
        """A shallow copy: what is set on it is known to one loss alone."""
        if "datamodule" not in self._own:
            self._own["datamodule"] = copy.copy(self._trainer.datamodule)
        return self._own["datamodule"]

    @property
    def model(self) -> Any:
        """The copy that is measured on."""
        return self._scene.shadow

    lightning_module = model

    @property
    def state(self) -> Any:
        """The run's, in this stage."""
        state = copy.copy(self._trainer.state)
        if getattr(state, "stage", None) is not None:
            state.stage = type(state.stage)(self._stage)
        return state

    def print(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._own:
            return self._own[name]
        if name in _OF_STAGES:
            return name in _STAGES[self._stage]
        return viewed(getattr(self._trainer, name), name, self._scene)

    def __setattr__(self, name: str, value: Any) -> None:
        self._own[name] = value

    def __deepcopy__(self, _: Any) -> "TrainerView":
        return self


def _nothing(*_: Any, **__: Any) -> None:
    return None
