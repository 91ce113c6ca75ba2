"""Errors that the user has to settle: raised at the start of a run even where measuring errors only warn."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from lightning_stiffness.gram.check import CoupledExamples
from lightning_stiffness.gram.loop import nodes_behind
from lightning_stiffness.gram.partition import BudgetError
from lightning_stiffness.gram.problem import LossError
from lightning_stiffness.gram.steps import StepError


class Refusal(Exception):
    """Mixed into an error that says what a module or a setting must be like to be measured."""


class UnusableStep(Refusal, TypeError):
    """``training_step`` gives no loss to measure by."""


class UnusableTrainer(Refusal, AttributeError):
    """``training_step`` acts on its trainer."""


class ReachesTraining(Refusal, RuntimeError):
    """The loss of the copy depends on, or changes, the module in training."""


class NotCopyable(Refusal, TypeError):
    """The module has a part that cannot be copied, or that is shared with every copy."""


THROUGH_SELF = (
    "Refer to the parameter as an attribute of self in training_step, or pass StiffnessCallback(loss_fn=...) "
    "with a function of the module that it is given"
)

REFUSALS = (Refusal, LossError, CoupledExamples, BudgetError, StepError)
"""Every error that says what the user has to settle."""


def check_leaves(loss: Tensor, live: dict[int, str], own: set[int], owner: str) -> None:
    """Every parameter that a loss depends on is one of the copy's."""
    for node in nodes_behind(loss):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            name = live.get(id(leaf))
            if name is not None:
                raise ReachesTraining(
                    f"the loss of {owner} depends on {name!r} of the module in training by a way that a copy of "
                    "it does not follow (a global variable, or an object that is not copied), so its gradient "
                    f"cannot be measured. {THROUGH_SELF}"
                )
            raise ReachesTraining(
                f"the loss of {owner} depends on a parameter {list(leaf.shape)} that is not among its "
                "named_parameters(), so its gradient would be left out. Register it on the module (as an "
                "attribute, in nn.ParameterList or nn.ModuleList), or detach it"
            )


def culprit(module: nn.Module, memo: dict[int, Any], error: Exception) -> str:
    """What stands in the way of a deep copy, by name: an attribute, and what it holds if that is the reason.

    Args:
        module: what cannot be copied.
        memo: the memo that the copy began with; one that a failed copy left would hold things half made.
        error: what the copy ended with.

    Returns:
        A name, a type and a reason.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> net.reader = [(i for i in range(3))]
        >>> print(culprit(net, {}, TypeError()))
        attribute reader of type list, for reader[0] of type generator (TypeError: ...)
    """
    within: list[Any] = [module]
    path, attribute, inner = "", "the module as a whole", ""
    while (found := _stuck(within, memo)) is not None:
        step, part, error = found
        path += step
        if isinstance(within[-1], nn.Module):
            kind = "submodule" if isinstance(part, nn.Module) else "attribute"
            attribute, inner = f"{kind} {path[1:]} of type {type(part).__name__}", ""
        else:
            inner = f", for {path[1:]} of type {type(part).__name__}"
        within.append(part)
    return f"{attribute}{inner} ({type(error).__name__}: {error})"


def _stuck(within: list[Any], memo: dict[int, Any]) -> tuple[str, Any, Exception] | None:
    """The first part of the last of nested things that cannot be copied, and why."""
    around = {id(thing): thing for thing in within}  # what leads back to these is not to blame
    for step, part in _parts(within[-1]):
        error = _failure(part, {**memo, **around})
        if error is not None:
            return step, part, error
    return None


def _failure(thing: Any, memo: dict[int, Any]) -> Exception | None:
    try:
        copy.deepcopy(thing, memo)
    except Exception as error:
        return error
    return None


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What a thing holds, by name."""
    if isinstance(thing, dict):
        yield from ((f"[{key!r}]", value) for key, value in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((f"[{i}]", value) for i, value in enumerate(thing))
    else:
        registries = ("_parameters", "_buffers", "_modules") if isinstance(thing, nn.Module) else ()
        entries = getattr(thing, "__dict__", {})
        yield from ((f".{name}", value) for name, value in entries.items() if name not in registries)
        for registry in registries:
            yield from ((f".{name}", value) for name, value in getattr(thing, registry).items())
