"""Both of Lightning's namespaces: ``pytorch_lightning`` and ``lightning.pytorch``."""

import importlib
from types import ModuleType
from typing import Any


def namespaces() -> list[ModuleType]:
    """The Lightning packages that are installed, in a fixed order.

    The two are separate copies of the same classes: a callback that is to pass the type checks of both, such
    as those of LightningCLI, has to derive from both.
    """
    found = []
    for name in ("pytorch_lightning", "lightning.pytorch"):
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError as error:  # noqa: PERF203
            if error.name is None or error.name.split(".")[0] != name.split(".")[0]:
                raise  # installed, and broken: its own message says how
    if not found:
        raise ModuleNotFoundError(
            "StiffnessCallback needs PyTorch Lightning: pip install pytorch-lightning (or lightning); "
            "measure_stiffness works without it"
        )
    return found


def classes(path: str) -> tuple[type[Any], ...]:
    """A class by its path inside Lightning, such as ``"callbacks.Callback"``, from every namespace."""
    result = []
    for namespace in namespaces():
        place: Any = namespace
        *modules, name = path.split(".")
        if modules:
            place = importlib.import_module(f"{namespace.__name__}.{'.'.join(modules)}")
        result.append(getattr(place, name))
    return tuple(result)


def misconfiguration(trainer: Any, message: str) -> Exception:
    """Lightning's own ``MisconfigurationException``, of the namespace that the trainer comes from."""
    error: Exception = _beside(trainer, "utilities.exceptions").MisconfigurationException(message)
    return error


def misconfigurations() -> tuple[type[Any], ...]:
    """That exception's class, from every namespace."""
    return classes("utilities.exceptions.MisconfigurationException")


def inform(trainer: Any, message: str) -> None:
    """A line from Lightning's own logger, on one process, where the trainer writes its own."""
    _beside(trainer, "utilities.rank_zero").rank_zero_info(message)


def _beside(trainer: Any, module: str) -> ModuleType:
    """A module of the namespace that a trainer comes from."""
    package = type(trainer).__module__.split(".trainer")[0]
    known = {namespace.__name__: namespace for namespace in namespaces()}
    name = package if package in known else next(iter(known))
    return importlib.import_module(f"{name}.{module}")
