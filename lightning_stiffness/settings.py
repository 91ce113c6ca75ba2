"""How to measure: the choices shared by the callback and ``measure_stiffness``, checked when made."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from lightning_stiffness import arguments
from lightning_stiffness.functional import cosine_stiffness, sign_stiffness
from lightning_stiffness.functional.distance import Distance, find_distance
from lightning_stiffness.functional.superclasses import superclass_levels
from lightning_stiffness.gram import Layers, ParameterFilter, StepSize, check_engine
from lightning_stiffness.gram.choice import checked_filter
from lightning_stiffness.gram.layers import checked_layers

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
        keep = partial(object.__setattr__, self)
        keep("measures", one_of("measures", self.measures, MEASURES))
        find_distance(self.distance)
        if self.distance_layer is not None and not isinstance(self.distance_layer, str):
            got = arguments.shown(self.distance_layer)
            raise ValueError(f"expected distance_layer to be the name of a submodule, or None, got {got}")
        keep("bins", arguments.whole("bins", self.bins, 1))
        check_engine(self.engine)
        keep("memory_budget", arguments.budget(self.memory_budget))
        keep("parameters", checked_filter(self.parameters))
        self._check_step()
        keep("per_layer", checked_layers(self.per_layer))
        keep("resamples", arguments.whole("resamples", self.resamples))
        if self.resamples < 0 or self.resamples == 1:
            raise ValueError(f"expected resamples of at least 2, or 0 for no intervals, got {self.resamples}")
        keep("diagnostics", arguments.switch("diagnostics", self.diagnostics))
        self._keep_classes(keep)

    def _check_step(self) -> None:
        form = f"one of {list(STEPS)}, or a function step(optimizers, module) -> parameter name -> step size"
        if not (isinstance(self.step, str) and self.step in STEPS):
            arguments.function("step", self.step, ("optimizers", "module"), form)

    def _keep_classes(self, keep: Callable[[str, Any], None]) -> None:
        if self.superclasses is not None:
            keep("superclasses", arguments.groups("superclasses", self.superclasses))
        if self.superclass_names is not None:
            keep("superclass_names", arguments.group_names("superclass_names", self.superclass_names))
        given: Any = self.class_names
        named = list(given) if isinstance(given, Iterator) else given  # which can be read only once
        if self.levels and isinstance(named, Sized) and len(named) != len(self.levels[0]):
            raise ValueError(
                f"expected superclasses to give one group for each of the {len(named)} class_names, got "
                f"{len(self.levels[0])}"
            )
        if named is not None:
            form = "a list of names, entry a for label a, such as ['cat', 'dog']"
            keep("class_names", arguments.names("class_names", named, form))
        _check_names(self.level_names, self.levels)

    @property
    def levels(self) -> list[list[int]]:
        """Group of each class, level by level; empty where there are no groups."""
        given = self.superclasses
        return [] if given is None else [groups.tolist() for groups in superclass_levels(given, None)]

    @property
    def level_names(self) -> list[list[str]]:
        """Names of the groups, level by level; empty where none were given."""
        names: Any = self.superclass_names
        if not names:
            return []
        return [names] if isinstance(names[0], str) else names

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
    form = f"one or more of {list(allowed)}, each once"
    listed = [names] if isinstance(names, str) else arguments.entries(argument, names, form)
    known = all(isinstance(name, str) and name in allowed for name in listed)
    if not known or not listed or len(set(listed)) != len(listed):
        got = ", ".join(map(arguments.shown, listed)) or "none"
        raise ValueError(f"expected {argument} to be {form}, got {got}")
    return tuple(listed)


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
