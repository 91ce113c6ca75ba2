"""One small file for each family of torch functions; a rule enters the register by its decorator."""

from typing import Any

from lightning_stiffness.gram.rules import broadcast, conv, embedding, linear, norm
from lightning_stiffness.gram.rules.general import general
from lightning_stiffness.gram.rules.registry import FACTORED, RULES, VALUELESS, NoRule, Parts, rule
from lightning_stiffness.gram.uses import StaleOperand, Use

__all__ = [
    "RULES",
    "NoRule",
    "Parts",
    "broadcast",
    "conv",
    "embedding",
    "is_factored",
    "linear",
    "norm",
    "parts_of",
    "rule",
    "valueless",
]


def parts_of(use: Use) -> Parts:
    """Per-example gradients of the parameters in a use, by the rule of its function or the general one.

    Raises:
        StaleOperand: if an input no longer holds what the call saw.
    """
    function = RULES.get(use.function)
    if function is not None:
        if len(use.edges) == 1 and use.gradients[0] is None:
            return []  # the loss does not depend on its only output
        try:
            return function(use, *use.args, **use.kwargs)
        except NoRule:
            pass
        except TypeError as error:  # an argument that the rule does not know
            if "argument" not in str(error):
                raise
    if any(operand.value is None for operand in use.operands()):
        raise StaleOperand("the values of its inputs were not kept")
    return general(use)


def valueless(function: Any) -> bool:
    """Whether the rule of a function reads no input values."""
    return _among(function, VALUELESS)


def is_factored(function: Any) -> bool:
    """Whether the rule of a function holds the gradients of matrices as factors."""
    return _among(function, FACTORED)


def _among(function: Any, functions: set[Any]) -> bool:
    try:
        return function in functions
    except TypeError:
        return False
