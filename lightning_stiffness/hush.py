"""Metrics of a copy that keep silent, until a loss turns out to depend on them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

HUSH = "_stiffness_hush"
"""Where a copy keeps its :class:`Hush`."""


class Hush:
    """Whether the metrics of one copy are silent: they cost time, and many refuse a batch of one example.

    A silent metric's value is NaN, so that a loss that depends on it shows it; then they speak.
    """

    def __init__(self) -> None:
        self.silent = True

    def over(self, metric: nn.Module, value: Callable[[], Any]) -> None:
        """Put a metric, or a collection of them, under the hush.

        Args:
            metric: the metric; changed.
            value: what it returns while it is silent.
        """
        original = {name: getattr(metric, name) for name in ("forward", "compute", "update")}

        def in_place_of(name: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if self.silent:
                    return None if name == "update" else value()
                return original[name](*args, **kwargs)

            return call

        for name in original:
            metric.__dict__[name] = in_place_of(name)

    def heard(self, loss: Any) -> bool:
        """Let the metrics speak if a loss is NaN for want of them; whether it is to be computed again."""
        if self.silent and isinstance(loss, torch.Tensor) and bool(loss.detach().isnan().any()):
            self.silent = False
            return True
        return False
