"""What a module copied for a measurement sees of its trainer: values, and nothing to act on."""

import copy
import types
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.refusal import UnusableTrainer

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.device, torch.dtype)
_LOGGER_TEXTS = frozenset({"name", "version", "save_dir", "log_dir", "root_dir"})


class Silent:
    """Takes any call, attribute or item and does nothing: the logger of a measurement.

    Example:
        >>> Silent().experiment.add_scalar("loss", 1.0) is None
        False
        >>> bool(Silent())
        False
    """

    def __init__(self, texts: Any = None) -> None:
        self._texts = texts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _LOGGER_TEXTS and self._texts is not None:
            value = getattr(self._texts, name)  # where a logger writes, to build file names from
            if isinstance(value, _PLAIN):
                return value
        return Silent()

    def __call__(self, *_: Any, **__: Any) -> "Silent":  # noqa: D102
        return self

    def __getitem__(self, _: Any) -> "Silent":
        return self

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def __deepcopy__(self, _: Any) -> "Silent":
        return self


class ReadView:
    """An object to read numbers, flags, strings, lengths and further such objects from; calling a method raises.

    Example:
        >>> view = ReadView([1.5, "a"], "loop")
        >>> len(view)
        2
    """

    def __init__(self, target: Any, path: str) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_path", path)

    @property
    def __class__(self) -> Any:  # so that a step finds a callback by isinstance
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return viewed(getattr(self._target, name), f"{self._path}.{name}")

    def __len__(self) -> int:
        return len(self._target)

    def __bool__(self) -> bool:
        return bool(self._target)

    def __setattr__(self, name: str, _: Any) -> None:
        raise UnusableTrainer(f"a measurement of stiffness cannot set trainer.{self._path}.{name}")

    def __deepcopy__(self, _: Any) -> "ReadView":
        return self


def viewed(value: Any, path: str) -> Any:
    """A value of the trainer's, such that nothing done with it reaches the run.

    Raises:
        UnusableTrainer: for a function or method: it would act on the run; for a module or parameter: its
            gradient would be missing.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor) and not value.requires_grad:
        return value.clone()
    if isinstance(value, dict):
        return {key: viewed(entry, path) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(viewed(entry, path) for entry in value)
    if isinstance(value, types.MethodType | types.FunctionType | types.BuiltinFunctionType | nn.Module | Tensor):
        raise UnusableTrainer(
            f"training_step uses trainer.{path}, which a measurement of stiffness cannot give: it would act on "
            "the run. Pass StiffnessCallback(loss_fn=...), or define stiffness_loss(self, batch) on the module"
        )
    return ReadView(value, path)


class OptimizerView:
    """The settings of an optimizer (learning rate, …), to read."""

    def __init__(self, optimizer: Any) -> None:
        self.param_groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        self.defaults = dict(getattr(optimizer, "defaults", {}))

    @property
    def optimizer(self) -> "OptimizerView":
        """The optimizer within Lightning's wrapper: the same settings."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise UnusableTrainer(f"a measurement of stiffness only reads an optimizer's settings, it has no {name!r}")


class SchedulerView(ReadView):
    """A learning rate scheduler to read from; a step of it does nothing."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler, "lr_schedulers")

    def get_last_lr(self) -> list[float]:
        """The learning rates."""
        return [float(rate) for rate in self._target.get_last_lr()]

    def step(self, *_: Any, **__: Any) -> None:
        """Nothing: the training's own steps are the only ones."""


class TrainerView:
    """A trainer to read from: numbers, flags, strings, metrics; loggers are silent, optimizers settings only.

    What would act on the run raises, with a way out. What is set on it is remembered for the measurement and
    not passed on.
    """

    def __init__(self, trainer: Any) -> None:
        object.__setattr__(self, "_trainer", trainer)
        object.__setattr__(self, "_own", {})

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
    def optimizers(self) -> list[OptimizerView]:
        """The optimizers' settings."""
        return [OptimizerView(optimizer) for optimizer in self._trainer.optimizers]

    @property
    def schedulers(self) -> list[SchedulerView]:
        """The learning rate schedulers, to read."""
        return [SchedulerView(config.scheduler) for config in self._trainer.lr_scheduler_configs]

    @property
    def profiler(self) -> Silent:
        """A profiler that does nothing."""
        return Silent()

    @property
    def datamodule(self) -> Any:
        """A shallow copy: what is set on it stays there."""
        return copy.copy(self._trainer.datamodule)

    @property
    def model(self) -> Any:
        """The copy that is measured on."""
        return self._own["lightning_module"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._own:
            return self._own[name]
        return viewed(getattr(self._trainer, name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._own[name] = value

    def __deepcopy__(self, _: Any) -> "TrainerView":
        return self
