"""Random numbers from the least to the largest in turn: what is seldom drawn is drawn for sure."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.drawing import DROPPING, draws
from lightning_stiffness.gram.noise import LEVELS

MANY, ENTRIES = 1000, 1 << 20
"""Times that a call draws, of which the numbers at all levels are taken, and the numbers that these may be
together."""

_ROOM = 1 << 23
"""Numbers that are kept of all calls."""


class Levels:
    """Numbers that the calls of a loss draw, sorted: those at any level between the least and the largest.

    The levels are as many that each of up to 50 integers is met for all but sure.
    """

    def __init__(self) -> None:
        self._drawn: list[tuple[Any, Tensor]] = []
        self._room = _ROOM

    def at(self, level: int) -> "_Level":
        """Have all calls draw the numbers at one level: the first one for the least, the last for the largest."""
        return _Level(self, level)

    def taken(self, place: int, function: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor | None:
        """All numbers of one call ``[k, …]``, in order along the first axis; None where there is no telling.

        Args:
            place: which of all calls that draw it is.
            function: what is called.
            args: with which arguments.
            kwargs: by name.
            out: what it drew; written to again where it draws in place.
        """
        if place < len(self._drawn):
            known, numbers = self._drawn[place]
            return numbers if known == function and numbers.shape[1:] == out.shape else None
        count = min(MANY, max(1, min(ENTRIES, self._room) // out.numel()))
        numbers = torch.stack([function(*args, **kwargs).detach().clone() for _ in range(count)])
        if not numbers.is_complex():  # which have no order
            numbers = numbers.sort(0).values
        self._room -= numbers.numel()
        self._drawn.append((function, numbers))
        return numbers


class _Level(TorchFunctionMode):
    def __init__(self, levels: Levels, level: int) -> None:
        super().__init__()
        self.levels, self.level, self.place = levels, level, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        if function in DROPPING or not draws(function, args, kwargs, out):
            return out
        with torch.no_grad():
            own = out.clone()
            numbers = self.levels.taken(self.place, function, args, kwargs, out)
            self.place += 1
            if numbers is not None:
                own = numbers[round(self.level * (len(numbers) - 1) / (LEVELS - 1))]
            return out.copy_(own)
