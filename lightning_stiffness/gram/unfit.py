"""Modules whose gradients cannot be measured, recognised and named: broken, or quantised."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram.problem import LossError


def check_layers(module: nn.Module) -> None:
    """Look for layers that cannot compute with what their parameters hold.

    Raises:
        ValueError: if a layer of torch holds integers for weights; the message names the parameter.
    """
    for place, owner in module.named_modules():
        if type(owner).__module__.startswith("torch.nn.modules."):
            for name, parameter in owner._parameters.items():
                if parameter is None or is_lazy(parameter):
                    continue
                if not (parameter.is_floating_point() or parameter.is_complex()):
                    path = ".".join(filter(None, (place, name)))
                    raise ValueError(
                        f"parameter {path!r} holds {parameter.dtype} values, with which {type(owner).__name__} "
                        "cannot compute: measure the module as it was before it was quantised"
                    )


def check_all_lost(module: nn.Module, norms: Tensor) -> None:
    """Where no example has a finite gradient, look for the reason in what the module holds, trained or not.

    Raises:
        ValueError: if a parameter or buffer holds a NaN; the message names it.
    """
    if bool(torch.isfinite(norms).any()):
        return
    for kind, held in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in held:
            if tensor.is_floating_point() and bool(torch.isnan(tensor.detach()).any()):
                raise ValueError(
                    f"{kind} {name!r} holds NaN, and no example has a finite gradient: the training has diverged, "
                    "or the checkpoint is damaged"
                )


@contextmanager
def guarded_against_quantised(module: nn.Module) -> Iterator[None]:
    """Inside, a quantised layer that stands between a trained parameter and the loss raises an error.

    Torch gives no gradient through it, and says so in a warning only.
    """
    with_hooks = []
    for name, owner in module.named_modules():
        if ".quantized." in f"{type(owner).__module__}.":
            with_hooks.append(owner.register_forward_pre_hook(_refusal(name, owner), with_kwargs=True))
    try:
        yield
    finally:
        for handle in with_hooks:
            handle.remove()


def _refusal(name: str, owner: nn.Module) -> Any:
    def refuse(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(isinstance(t, Tensor) and t.requires_grad for t in (*args, *kwargs.values())):
            raise LossError(
                f"submodule {name!r} ({type(owner).__name__}) holds quantised weights, through which no gradient "
                "reaches the parameters before it: measure the module as it was before it was quantised"
            )

    return refuse
