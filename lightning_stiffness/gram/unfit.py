"""Modules whose gradients cannot be measured, recognised and named: broken, or quantised; and doubtful Grams."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram.measurement import WEIGHTED
from lightning_stiffness.gram.problem import LossError
from lightning_stiffness.gram.result import GradientGram


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


UNRELATED = (
    "every gradient is exactly 0: the loss does not depend on the parameters that are measured, as when it is "
    "detached or computed under no_grad; or it is itself exactly 0, as that of one example alone may be where a "
    "loss compares examples with each other"
)
"""Why no example has a gradient, where none is infinite or NaN."""

WEIGHTED_VALUES = (
    "the loss of a batch is no plain mean or sum of the examples' losses: values and norms are right up to a "
    "positive factor for each example, cosines and signs as they are; for the rest let loss_fn return the losses "
    "[n], or take engine='loop'"
)
"""What whoever takes more than cosines and signs has to know."""


def doubts(module: nn.Module, gram: GradientGram) -> list[str]:
    """What is to be told with a Gram that may not be what was meant."""
    nothing = not bool(gram.norms.any()) and not bool(gram.other_norms.any())
    weighted = gram.plan is not None and WEIGHTED in gram.plan.notes
    told = [UNRELATED] * nothing + [WEIGHTED_VALUES] * weighted
    return [f"stiffness of {type(module).__name__}: {one}" for one in told]


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
