"""Numbers that Python is given as plain ones, of which can't be seen what becomes of them: others are put in their
place, to see whether the loss depends on them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.asking import READING
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.deciding import Asked, made_of_parameters
from lightning_stiffness.gram.problem import Problem
from lightning_stiffness.gram.reference import eager
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.uses import tensors_in

OTHERS = (1e6, 1), (-1e6, 100), (0.0, -1), (1e-6, 10), (1.7, 3)
"""What numbers are multiplied with, and what is added to integers, each time: whatever they are compared with lies
between two of the results, or is the very next integer; the last ones change the last digits. Integers stay small,
and are not negative where they were not: Python may count up or down to them, or make so many of something."""

MORE = 10
"""A loss that makes so many times the calls with other numbers depends on them, as where it counts up to them."""


def is_plain(log: Sequence[Call], asked: Asked) -> bool:
    """Whether a call gives Python plain numbers that come of the module's parameters.

    Args:
        log: the calls for one example, in order.
        asked: the call among them.
    """
    if asked.call.function not in READING or asked.branches:
        return False
    return asked.comes_of(made_of_parameters(asked.before(log)))


class _TooMany(Exception):
    """More calls than a loss makes that does not depend on the numbers."""


class _Injecting(TorchFunctionMode):
    """Gives Python other numbers than those that come of parameters and an example.

    Args:
        factor: what to multiply them with, and whether truth values are turned; None: they stay.
        step: what to add to integers.
        most: calls after which to stop; None: never.
    """

    def __init__(self, factor: float | None = None, step: int = 0, most: int | None = None):
        super().__init__()
        self.factor, self.step, self.most, self.calls = factor, step, most, 0
        self._made: dict[int, tuple[Tensor, bool]] = {}
        """What is made of parameters, and whether of nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        self.calls += 1
        if self.most is not None and self.calls > self.most:
            raise _TooMany
        own = any(one.requires_grad or id(one) in self._made for one in given)
        alone = own and all(self._is_of_parameters(one) for one in given)
        if own and not alone and func in READING and self.factor is not None:
            args = (_others(args[0].detach(), self.factor, self.step), *args[1:])
        out = func(*args, **kwargs)
        if own:
            self._made.update((id(one), (one, alone)) for one in tensors_in(out))
        return out

    def _is_of_parameters(self, one: Tensor) -> bool:
        """Whether no example plays a part in it."""
        found = self._made.get(id(one))
        return isinstance(one, nn.Parameter) if found is None else found[1]


def _others(numbers: Tensor, factor: float, step: int) -> Tensor:
    """Other numbers of the same kind."""
    if numbers.dtype == torch.bool:
        return ~numbers
    if numbers.is_floating_point() or numbers.is_complex():
        return numbers * factor
    return torch.where(numbers < 0, numbers + step, (numbers + step).clamp(min=0))


def depends_on_what_is_told(problem: Problem, piece: Piece, others: Iterable[tuple[float, int]] = OTHERS) -> bool:
    """Whether losses are others where Python is given other numbers, as where one is left out by its value
    (``if float(loss) > 10``). To write them to a log changes nothing.

    Args:
        problem: module and loss.
        piece: of which examples, together.
        others: what numbers are multiplied with, and what is added to integers.
    """

    def told(injecting: _Injecting) -> Tensor:
        given, position = problem.given(piece.batch), piece.offset + piece.start
        with problem.kept(), eager(), injecting:
            if piece.size == 1:
                return problem.example_loss(given, position).detach()
            problem.noise.seed(position, 1)
            return problem.loss_fn(problem.module, given).detach()

    try:
        known = told(plain := _Injecting())
        found = [told(_Injecting(factor, step, MORE * plain.calls)) for factor, step in others]
        return not all(_is_like(one, known) for one in found)
    except Exception:  # as where it raises an error of its own by them
        return True


def _is_like(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one - other).abs() <= 1e-6 * other.abs())).all())
