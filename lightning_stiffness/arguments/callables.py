"""Functions and modules, as far as they tell what they take."""

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from lightning_stiffness.arguments.told import shown
from lightning_stiffness.arguments.values import whole

LOSS = 'loss_fn=lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1], reduction="none")'
"""A loss as it is wanted, to paste."""


def network(value: Any) -> nn.Module:
    """A module whose gradients are wanted.

    Raises:
        ValueError: for anything else, such as its class or its ``forward``.
    """
    if not isinstance(value, nn.Module):
        raise ValueError(f"expected module to be a torch.nn.Module, got {shown(value)}")
    return value


def function(argument: str, value: Any, takes: Sequence[str], form: str) -> Callable[..., Any]:
    """A function that can be called with these arguments, as far as it tells.

    Args:
        argument: its name.
        value: what came.
        takes: what it is called with, by position.
        form: what is expected, in words.

    Raises:
        ValueError: for what cannot be called, or not with as many arguments.
    """
    if not callable(value):
        raise ValueError(f"expected {argument} to be {form}, got {shown(value)}")
    called: Callable[..., Any] = value
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # some that are built in do not tell
        return called
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise ValueError(
            f"expected {argument} to be {form}, called as {argument}({', '.join(takes)}), got {shown(value)}, "
            f"which takes ({', '.join(signature.parameters)})"
        ) from error
    return called


def batches(argument: str, value: Any) -> int | Callable[[int], bool] | None:
    """At which numbers of batches something happens: every so many, where a function says so, or (None) never.

    Raises:
        ValueError: for anything else.
    """
    if value is None or isinstance(value, Integral):
        return None if value is None else whole(argument, value, 1)
    return function(argument, value, ("step",), "a whole number, or a function of the number of batches trained")


def loss(value: Any) -> Callable[..., Any]:
    """A loss of a module and a batch.

    Raises:
        ValueError: for anything else, such as a loss of outputs and targets; the message shows how to wrap it.
    """
    form = "a function of a module and a batch that returns losses [n], their mean or sum"
    inner = value
    while isinstance(inner, functools.partial):
        inner = inner.func
    of_outputs = isinstance(inner, nn.Module) or (isinstance(inner, type) and issubclass(inner, nn.Module))
    # Their own losses would be called with a module for the outputs, which fails in the middle of a run.
    if of_outputs or (getattr(inner, "__module__", None) or "").split(".")[0] in ("torch", "torchmetrics"):
        raise ValueError(
            f"expected loss_fn to be {form}, got {shown(inner)}, which takes outputs and targets: wrap it, as in "
            f"{LOSS}"
        )
    if not callable(value):
        raise ValueError(f"expected loss_fn to be {form}, got {shown(value)}: pass a function such as {LOSS}")
    return function("loss_fn", value, ("module", "batch"), form)
