"""Optimizers and learning rate schedulers to read from: what is set on them is known to one loss alone."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_stiffness.refusal import UnusableTrainer
from lightning_stiffness.trainer_view.plain import own
from lightning_stiffness.trainer_view.values import ReadView, Scene


class OptimizerView(ReadView):
    """The settings of an optimizer (learning rate, …) and its state, for the parameters of the copy.

    Both are copies: a step that sets a learning rate reads it again, and the run's own stays what it is.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> view = OptimizerView(torch.optim.SGD([weight], lr=0.1), "optimizers", Scene())
        >>> view.param_groups[0]["lr"], isinstance(view, torch.optim.SGD)
        (0.1, True)
    """

    def __init__(self, target: Any, path: str, scene: Scene) -> None:
        super().__init__(target, path, scene)
        groups = [
            {name: self._twins(value) if name == "params" else own(value) for name, value in group.items()}
            for group in target.param_groups
        ]
        object.__setattr__(self, "param_groups", groups)
        object.__setattr__(self, "defaults", own(dict(getattr(target, "defaults", {}))))
        object.__setattr__(self, "state", _State(target.state, scene))

    def _twins(self, parameters: Any) -> list[Any]:
        found = [(p, self._scene.twin(p)) for p in parameters]
        return [p.detach().clone() if twin is None else twin for p, twin in found]

    @property
    def optimizer(self) -> "OptimizerView":
        """The optimizer within Lightning's wrapper: the same settings."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """A copy of the run's."""
        return own(self._target.state_dict())  # type: ignore[no-any-return]

    def zero_grad(self, *_: Any, **__: Any) -> None:
        """Nothing: gradients are no part of a measurement."""

    def __getattr__(self, name: str) -> Any:
        if callable(getattr(type(self._target), name, None)):
            raise UnusableTrainer(
                f"a measurement of stiffness only reads an optimizer's settings and state, it has no {name!r}"
            )
        return super().__getattr__(name)


class _State(Mapping[Any, Any]):
    """Parameter of the copy → what an optimizer keeps for the one in training, copied when it is asked for."""

    def __init__(self, state: Any, scene: Scene) -> None:
        self._held: dict[Any, Any] = {}
        for key, entry in state.items():
            twin = scene.twin(key)
            self._held[key if twin is None else twin] = entry
        self._copies: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        if key not in self._copies:
            # without an entry it is empty, as in the optimizer
            self._copies[key] = own(self._held.get(key, {}))
        return self._copies[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._held

    def get(self, key: Any, default: Any = None) -> Any:
        """The entry of a parameter; the default where it has none."""
        return self[key] if key in self._held else default

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


class SchedulerView(ReadView):
    """A learning rate scheduler to read from; a step of it does nothing."""

    @property
    def optimizer(self) -> Any:
        """Its optimizer, to read from."""
        return self._scene.view(self._target.optimizer, f"{self._path}.optimizer")

    def get_last_lr(self) -> list[float]:
        """The learning rates."""
        return [_number(rate) for rate in self._target.get_last_lr()]

    def get_lr(self) -> list[float]:
        """The learning rates as the scheduler computes them; some set further settings of the optimizer by that."""
        twin = copy.copy(self._target)
        twin.optimizer = self.optimizer
        return [_number(rate) for rate in twin.get_lr()]

    def state_dict(self) -> dict[str, Any]:
        """A copy of the run's."""
        return own(self._target.state_dict())  # type: ignore[no-any-return]

    def step(self, *_: Any, **__: Any) -> None:
        """Nothing: the training's own steps are the only ones."""


def _number(rate: Any) -> Any:
    return float(rate) if isinstance(rate, Tensor) else rate


KINDS: list[tuple[type, type[ReadView]]] = [
    (Optimizer, OptimizerView),
    (LRScheduler, SchedulerView),
    (ReduceLROnPlateau, SchedulerView),
]
"""Class → the view of its instances."""
