"""Parameters without the gradients of a training step, and the functions that are hooked to these."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def bare(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, parameters have no ``.grad``, nothing is hooked to their gradients, nor runs once these are added up.

    What clips, scales or records the gradient of a batch, or takes the optimizer's step with it, belongs to the
    step and not to the loss, whose gradients are wanted; and it is not to see those that are taken to measure. To a
    ``.grad`` that is there a loss that goes backward by itself would add its own.

    Example:
        >>> import torch
        >>> weight = nn.Parameter(torch.ones(1))
        >>> _ = weight.register_hook(lambda gradient: 2 * gradient)
        >>> with bare([weight]):
        ...     inside = torch.autograd.grad(weight.sum(), weight)[0].item()
        >>> inside, torch.autograd.grad(weight.sum(), weight)[0].item()
        (1.0, 2.0)
    """
    parameters = [*parameters]
    unknown = [parameter for parameter in parameters if parameter._backward_hooks is None]
    # The registries stay the same ones, as the handles by which hooks are removed know them
    registries: list[dict[Any, Any]] = [
        hooks
        for parameter in parameters
        for hooks in (parameter._backward_hooks, parameter._post_accumulate_grad_hooks)
        if hooks
    ]
    hooked = [hooks.copy() for hooks in registries]
    gradients = [(parameter, grad) for parameter in parameters if (grad := parameter.grad) is not None]
    for hooks in registries:
        hooks.clear()
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for hooks, before in zip(registries, hooked, strict=True):
            hooks.clear()
            hooks.update(before)
        for parameter in unknown:
            unhook(parameter)
        for parameter, grad in gradients:
            parameter.grad = grad


def unhook(parameter: nn.Parameter) -> None:
    """Remove what is hooked to a parameter's gradient, as by a forward pass that does so each time."""
    if parameter._backward_hooks:
        parameter._backward_hooks.clear()
