"""Stiffness: does a step on one example help the others? Shown while a network trains.

Public names load on first use, so that ``lightning_stiffness.functional`` needs torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_stiffness.callback import StiffnessCallback as StiffnessCallback
    from lightning_stiffness.gram import GradientGram as GradientGram
    from lightning_stiffness.gram import gradient_gram as gradient_gram
    from lightning_stiffness.gram.class_means import class_gradient_sums as class_gradient_sums
    from lightning_stiffness.history import StiffnessHistory as StiffnessHistory
    from lightning_stiffness.measure import measure_stiffness as measure_stiffness
    from lightning_stiffness.metrics import ClassStiffness as ClassStiffness
    from lightning_stiffness.metrics import DistanceStiffness as DistanceStiffness
    from lightning_stiffness.result import StiffnessResult as StiffnessResult

__version__ = "0.1.0"

_HOMES = {
    "ClassStiffness": "metrics",
    "DistanceStiffness": "metrics",
    "GradientGram": "gram",
    "StiffnessCallback": "callback",
    "StiffnessHistory": "history",
    "StiffnessResult": "result",
    "class_gradient_sums": "gram.class_means",
    "gradient_gram": "gram",
    "measure_stiffness": "measure",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
