"""What a module copied for a measurement sees of its trainer: values, and nothing to act on."""

from typing import Any

from torch import Tensor


class Silent:
    """Takes any call, attribute or item and does nothing: the logger of a measurement.

    Example:
        >>> Silent().experiment.add_scalar("loss", 1.0) is None
        False
        >>> bool(Silent())
        False
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> "Silent":  # noqa: D102
        return self

    def __getitem__(self, _: Any) -> "Silent":
        return self

    def __iter__(self) -> Any:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __deepcopy__(self, _: Any) -> "Silent":
        return self


class OptimizerView:
    """The settings of an optimizer (learning rate, …), to read."""

    def __init__(self, optimizer: Any) -> None:
        self.param_groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        self.defaults = dict(getattr(optimizer, "defaults", {}))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a measurement of stiffness only reads an optimizer's settings, it has no {name!r}")


class TrainerView:
    """A trainer to read from: numbers, flags, strings, metrics; loggers are silent, optimizers settings only.

    Anything else raises, with a way out: a training step that acts on its trainer would change the run.
    """

    def __init__(self, trainer: Any) -> None:
        object.__setattr__(self, "_trainer", trainer)

    @property
    def logger(self) -> Silent:
        """A logger that does nothing."""
        return Silent()

    @property
    def loggers(self) -> list[Silent]:
        """The same, as a list."""
        return [Silent()]

    @property
    def optimizers(self) -> list[OptimizerView]:
        """The optimizers' settings."""
        return [OptimizerView(optimizer) for optimizer in self._trainer.optimizers]

    @property
    def lr_scheduler_configs(self) -> list[Any]:
        """No schedulers: stepping one would change the run."""
        return []

    @property
    def profiler(self) -> Silent:
        """A profiler that does nothing."""
        return Silent()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._trainer, name)
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if isinstance(value, Tensor):
            return value.detach().clone()
        if isinstance(value, dict):
            return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in value.items()}
        if name in _READABLE:
            return value
        raise AttributeError(
            f"training_step uses trainer.{name}, which a measurement of stiffness cannot give: it would act on "
            "the run. Pass StiffnessCallback(loss_fn=...), or define stiffness_loss(self, batch) on the module"
        )

    def __setattr__(self, name: str, _: Any) -> None:
        raise AttributeError(f"a measurement of stiffness cannot set trainer.{name}")

    def __deepcopy__(self, _: Any) -> "TrainerView":
        return self


_READABLE = frozenset({"state", "datamodule", "precision", "log_dir", "default_root_dir", "device_ids"})
