"""How to measure: the choices shared by the callback and ``measure_stiffness``, checked when made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_stiffness.functional import cosine_stiffness, sign_stiffness
from lightning_stiffness.functional.distance import Distance, find_distance
from lightning_stiffness.functional.superclasses import superclass_levels
from lightning_stiffness.gram import Layers, ParameterFilter, StepSize, check_budget, check_engine

MEASURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cos": cosine_stiffness,
    "sign": sign_stiffness,
}
"""Name → stiffness of every pair from Gram and norms; the names that ``measures=`` takes."""

STEPS = ("sgd", "optimizer")
"""Whose step on one example is told to help or hurt another."""
StepFn = Callable[[Any, nn.Module], Mapping[str, StepSize]]
"""``step(optimizers, module)`` → parameter name → step size."""


@dataclass(frozen=True)
class Settings:
    """What to compute from the gradients, and how to get them.

    Raises:
        ValueError: for a value that is not one of the allowed ones; the message lists those.

    Example:
        >>> Settings(measures=["cos"]).measures
        ('cos',)
    """

    measures: Sequence[str] = ("cos", "sign")
    distance: Distance = "cosine"
    distance_layer: str | None = None
    bins: int = 20
    superclasses: Sequence[int] | Sequence[Sequence[int]] | None = None
    class_names: Sequence[str] | None = None
    parameters: ParameterFilter = None
    engine: str = "auto"
    memory_budget: int | None = None
    superclass_names: Sequence[str] | Sequence[Sequence[str]] | None = None
    resamples: int = 200
    diagnostics: bool = True
    per_layer: Layers = False
    step: StepFn | str = "sgd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", one_of("measures", self.measures, MEASURES))
        find_distance(self.distance)
        check_engine(self.engine)
        if self.bins < 1:
            raise ValueError(f"expected at least one bin, got bins={self.bins}")
        check_budget(self.memory_budget)
        if not callable(self.step) and self.step not in STEPS:
            raise ValueError(
                f"expected step to be one of {list(STEPS)}, or a function step(optimizers, module) -> parameter "
                f"name -> step size, got {self.step!r}"
            )
        if self.per_layer is not None and not isinstance(self.per_layer, bool):
            given = self.per_layer
            layers = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
            if not layers or not all(isinstance(layer, str) for layer in layers):
                raise ValueError(
                    f"expected per_layer to be True, False or names of submodules, got {self.per_layer!r}"
                )
            object.__setattr__(self, "per_layer", layers)
        if self.resamples < 0 or self.resamples == 1:
            raise ValueError(f"expected resamples of at least 2, or 0 for no intervals, got {self.resamples}")
        if self.levels and self.class_names is not None:
            classes, groups = len(self.class_names), len(self.levels[0])
            if classes != groups:
                raise ValueError(
                    f"expected superclasses to give one group for each of the {classes} class_names, got {groups}"
                )
        _check_names(self.level_names, self.levels)

    @property
    def levels(self) -> list[list[int]]:
        """Group of each class, level by level; empty where there are no groups."""
        given = self.superclasses
        return [] if given is None else [groups.tolist() for groups in superclass_levels(given, None)]

    @property
    def level_names(self) -> list[list[str]]:
        """Names of the groups, level by level; empty where none were given."""
        names = self.superclass_names
        if names is None or not len(names):
            return []
        if isinstance(names, str):
            raise ValueError(f"expected superclass_names to be a list of names, got {names!r}")
        single = isinstance(names[0], str)
        return [list(map(str, level)) for level in ([names] if single else names)]

    def plain(self) -> dict[str, Any]:
        """The settings as plain values, to keep beside a result."""
        name = self.distance if isinstance(self.distance, str) else _name(self.distance)
        wanted = self.parameters
        return {
            "measures": list(self.measures),
            "distance": name,
            "distance_layer": self.distance_layer,
            "bins": self.bins,
            "parameters": None if wanted is None else _name(wanted) if callable(wanted) else list(wanted),
            "engine": self.engine,
            "memory_budget": self.memory_budget,
            "resamples": self.resamples,
            "per_layer": self.per_layer,
            "step": self.step if isinstance(self.step, str) else _name(self.step),
        }


def one_of(argument: str, names: Sequence[str] | str, allowed: dict[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple, each checked against the allowed ones.

    Raises:
        ValueError: for an unknown name, none, or one given twice.

    Example:
        >>> one_of("splits", "train", ("train", "val"))
        ('train',)
    """
    listed = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in listed if name not in allowed]
    if unknown or not listed or len(set(listed)) != len(listed):
        got = ", ".join(map(repr, listed)) or "none"
        raise ValueError(f"expected {argument} to be one or more of {list(allowed)}, each once, got {got}")
    return listed


def _check_names(names: list[list[str]], levels: list[list[int]]) -> None:
    if len(names) > len(levels):
        raise ValueError(
            f"expected superclass_names for the {len(levels)} levels of superclasses, got {len(names)}"
        )
    for number, (named, groups) in enumerate(zip(names, levels, strict=False), start=1):
        if len(named) <= max(groups, default=-1):
            raise ValueError(
                f"expected superclass_names to name the groups 0 to {max(groups)} of level {number}, got "
                f"{len(named)} names"
            )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
