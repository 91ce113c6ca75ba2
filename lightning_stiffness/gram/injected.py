"""Numbers that Python is given as plain ones, of which can't be seen what becomes of them: others are put in their
place, to see whether the loss depends on them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.deciding import Asked, made_of_parameters
from lightning_stiffness.gram.monotone import READING
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import eager
from lightning_stiffness.gram.uses import tensors_in

PLAIN = READING - {Tensor.item}
"""What gives plain numbers."""

FACTORS = 1e6, 0.0, -1e6
"""What they are multiplied with: whatever they are compared with lies between two of the results."""


def is_plain(log: Sequence[Call], asked: Asked) -> bool:
    """Whether a call gives Python plain numbers that come of the module's parameters.

    Args:
        log: the calls for one example, in order.
        asked: the call among them.
    """
    if asked.call.function not in PLAIN or asked.branches:
        return False
    return asked.comes_of(made_of_parameters(asked.before(log)))


class _Injecting(TorchFunctionMode):
    """Gives Python other numbers than those that come of parameters."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor
        self._made: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        own = any(one.requires_grad or id(one) in self._made for one in given)
        if own and func in PLAIN and args[0].is_floating_point():
            args = (args[0].detach() * self.factor, *args[1:])
        out = func(*args, **kwargs)
        if own:
            self._made.update((id(one), one) for one in tensors_in(out))
        return out


def depends_on_what_is_told(problem: Problem, examples: Examples, position: int) -> bool:
    """Whether an example's loss is another where Python is given other numbers, as where it is left out by its
    value (``if float(loss) > 10``). To write them to a log changes nothing.

    Args:
        problem: module and loss.
        examples: all of them.
        position: which one.
    """

    def told(factor: float) -> float:
        with problem.kept(), eager(), _Injecting(factor):
            loss = problem.example_loss(problem.given(examples.one(position)), position)
        return float(loss.detach())

    try:
        found = [told(factor) for factor in (1.0, *FACTORS)]
    except Exception:  # as where it raises an error of its own by them
        return True
    return not all(one == found[0] or abs(one - found[0]) <= 1e-6 * abs(found[0]) for one in found)
