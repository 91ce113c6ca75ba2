"""The gradients of a batch's loss by what the uses of parameters gave."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.uses import Use

HIDDEN_HOOKS = (
    "it looks at the node of a tensor (grad_fn), to which functions may be hooked that change gradients where no "
    "call shows it"
)

_ROUNDING = {torch.float64: 1e-9, torch.complex128: 1e-9}
"""What a gradient may be off by, relative to the largest, by precision; else 1e-4."""


def gradients(loss: Tensor, uses: list[Use], *, keep: bool = False) -> tuple[Tensor | None, ...]:
    """Those of the uses' outputs, one after the other.

    Args:
        loss: a number.
        uses: of its forward pass.
        keep: whether the graph is wanted once more.

    Raises:
        EngineRefusal: if the backward pass fails.
    """
    edges = [edge for use in uses for edge in use.edges]
    if not edges:
        return ()
    try:
        found = torch.autograd.grad(loss, [one.edge for one in edges], allow_unused=True, retain_graph=keep)
    except Exception as error:
        raise EngineRefusal(f"its backward pass failed: {type(error).__name__}: {error}") from error
    return tuple([edge.seen(gradient) for edge, gradient in zip(edges, found, strict=True)])


def grow(found: Sequence[Tensor | None], larger: Sequence[Tensor | None], factor: int) -> bool:
    """Whether gradients grow with the loss, unlike those that a hook clips.

    In a mean over ``n`` examples each has an ``n``-th of the gradient that it has alone. Where what is hooked to
    gradients leaves them to be ``n`` times as large for ``n`` times the loss, it does the same to both.

    Args:
        found: gradients of a loss.
        larger: of the loss times a factor.
        factor: the number of examples.

    Example:
        >>> grow([torch.tensor([0.1, 1.0])], [torch.tensor([0.3, 3.0])], 3)
        True
        >>> grow([torch.tensor([0.1, 1.0])], [torch.tensor([0.3, 2.0])], 3)
        False
    """
    for small, large in zip(found, larger, strict=True):
        if small is None or large is None:
            if small is not large:
                return False
            continue
        finite = small.isfinite() & large.isfinite()
        off = torch.where(finite, large - factor * small, 0).abs()
        size = torch.where(finite, large, 0).abs()
        if off.numel() and float(off.amax()) > _ROUNDING.get(off.dtype, 1e-4) * float(size.amax()):
            return False
    return True
