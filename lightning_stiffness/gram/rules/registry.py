"""The register of rules: torch function → per-example gradients of its parameters."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from lightning_stiffness.gram.parts import Dense, Part
from lightning_stiffness.gram.uses import Operand, Use

Parts = list[tuple[Operand, Part]]
"""Operand → its part of the gradient, for the operands whose gradient is wanted."""

Rule = Callable[..., Parts]
"""``rule(use, *args, **kwargs)`` with the arguments of the call, :class:`Operand` in the place of tensors."""


class NoRule(Exception):
    """A rule does not cover this call; the general one does."""


RULES: dict[Any, Rule] = {}
VALUELESS: set[Any] = set()
FACTORED: set[Any] = set()


def rule(*functions: Any, values: bool = True, factored: bool = False) -> Callable[[Rule], Rule]:
    """Enter a rule for torch functions.

    Args:
        functions: as a ``TorchFunctionMode`` sees them.
        values: whether the rule reads the inputs' values; they are not kept if it does not.
        factored: whether it holds the gradients of matrices as factors, views of what the pass holds anyway.
    """

    def enter(function: Rule) -> Rule:
        for entry in functions:
            RULES[entry] = function
            if not values:
                VALUELESS.add(entry)
            if factored:
                FACTORED.add(entry)
        return function

    return enter


def reduced(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``[n, *broadcast shape]`` summed to ``[n, *shape]``: the way back of broadcasting."""
    extra = gradient.ndim - 1 - len(shape)
    axes = list(range(1, 1 + extra))
    axes += [1 + extra + i for i, k in enumerate(shape) if k == 1 and gradient.shape[1 + extra + i] != 1]
    axes = [axis for axis in axes if gradient.shape[axis] != 1]
    if axes:
        gradient = gradient.sum(axes, keepdim=True)
    return gradient.reshape(len(gradient), *shape)


def dense(operand: Operand, gradient: Tensor) -> tuple[Operand, Part]:
    """A part from the gradient ``[n, *shape]`` itself."""
    return operand, Dense(gradient, operand.shape[0] if operand.shape else 1)


def wanted(*candidates: Any) -> Iterable[Operand]:
    """Those of the arguments that are operands whose gradient is wanted."""
    return (c for c in candidates if isinstance(c, Operand) and c.wanted)


def data(operand: Any) -> Operand:
    """The argument, if it is a tensor of which every example has its own.

    Raises:
        NoRule: if it is not.
    """
    if not isinstance(operand, Operand) or operand.layout is None:
        raise NoRule
    return operand


def shared(operand: Any) -> Operand:
    """The argument, if it is a tensor that all examples share.

    Raises:
        NoRule: if it is not.
    """
    if not isinstance(operand, Operand) or operand.layout is not None:
        raise NoRule
    return operand


def real(use: Use) -> Tensor:
    """The gradient of a use's only output; rules are not asked where it is zero.

    Raises:
        NoRule: if there are several outputs, or it is complex.
    """
    if len(use.edges) != 1:
        raise NoRule
    gradient = use.gradient()
    assert gradient is not None
    if gradient.is_complex():
        raise NoRule
    return gradient
