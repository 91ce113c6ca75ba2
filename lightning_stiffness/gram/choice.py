"""Which parameters of a module are measured."""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from lightning_stiffness.arguments import entries, function, network, shown

ParameterFilter = Iterable[str] | Callable[[str, nn.Parameter], bool] | None
"""Which parameters to differentiate: names or glob patterns, a predicate, or None for all trainable."""


def select_parameters(module: nn.Module, wanted: ParameterFilter = None) -> dict[str, nn.Parameter]:
    """The trainable parameters of a module, each once, narrowed to the wanted ones.

    Args:
        module: any module.
        wanted: names or glob patterns as in ``named_parameters`` (a submodule's name stands for all its
            parameters), a function ``(name, parameter) -> bool``, or None for all.

    Returns:
        Name → parameter, in the order of ``named_parameters``.

    Raises:
        ValueError: as :func:`checked_filter`, and if there is none, a pattern fits none, or one is not
            initialised, holds a NaN or an infinity; the message names the parameter.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> list(select_parameters(net, ["0", "*.bias"]))
        ['0.weight', '0.bias', '1.bias']
    """
    trainable = {name: p for name, p in network(module).named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(
            f"{type(module).__name__} has no trainable parameter, so no gradient and no stiffness: "
            "set requires_grad=True on the parameters to measure"
        )
    choose = checked_filter(wanted)
    if callable(choose):
        chosen = {name: p for name, p in trainable.items() if choose(name, p)}
    else:
        chosen = trainable if choose is None else _matching(trainable, choose)
    if not chosen:
        raise ValueError(f"parameters= left no parameter to measure; the trainable ones are {_some(trainable)}")
    for name, parameter in chosen.items():
        _check_parameter(name, parameter)
    _check_finite(chosen)
    return chosen


def checked_filter(wanted: Any) -> list[str] | Callable[..., Any] | None:
    """Which parameters are asked for, with names as a list: an iterator can be read only once.

    Raises:
        ValueError: for anything but names, a function of a name and a parameter, or None.

    Example:
        >>> checked_filter({"head", "body.*"})
        ['body.*', 'head']
    """
    form = "names or patterns as in named_parameters(), a function of a name and a parameter, or None for all"
    if wanted is None:
        return None
    if callable(wanted) and not isinstance(wanted, nn.Module | type):
        return function("parameters", wanted, ("name", "parameter"), form)
    # Which parameters are chosen does not depend on the order.
    listed = [wanted] if isinstance(wanted, str) else sorted(wanted, key=str) if isinstance(wanted, set) else wanted
    found = entries("parameters", listed, form)
    for entry in found:
        if not isinstance(entry, str):
            raise ValueError(f"expected parameters to be {form}, got {shown(entry)} among them")
    return found


def _matching(trainable: dict[str, nn.Parameter], patterns: list[str]) -> dict[str, nn.Parameter]:
    def fits(name: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")

    for pattern in patterns:
        if not any(fits(name, pattern) for name in trainable):
            raise ValueError(f"parameters={pattern!r} fits no trainable parameter; there are {_some(trainable)}")
    return {n: p for n, p in trainable.items() if any(fits(n, pattern) for pattern in patterns)}


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, UninitializedParameter):
        raise ValueError(f"parameter {name!r} is lazy and not initialised yet: run the module on one batch first")
    if not (parameter.is_floating_point() or parameter.is_complex()):
        raise ValueError(f"parameter {name!r} has dtype {parameter.dtype}, which has no gradient")


def _check_finite(parameters: dict[str, nn.Parameter]) -> None:
    """Look for NaN and infinities: in the sums, which is several times faster, and closer where a sum has one."""
    kinds: dict[Any, list[str]] = {}
    for name, parameter in parameters.items():
        kinds.setdefault((parameter.device, parameter.dtype), []).append(name)
    for names in kinds.values():
        sums = torch.stack([parameters[name].detach().sum() for name in names])
        for name, finite in zip(names, torch.isfinite(sums).tolist(), strict=True):
            if not finite and not bool(torch.isfinite(parameters[name].detach()).all()):
                raise ValueError(
                    f"parameter {name!r} holds NaN or infinite values, so every gradient would too: "
                    "the training has diverged, or the checkpoint is damaged"
                )


def _some(names: Iterable[str], most: int = 12) -> str:
    listed = list(names)
    rest = f", … ({len(listed)} in all)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
