"""The gradients of a batch's loss by what the uses of parameters gave."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.edges import Edge
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.uses import Use

HIDDEN_HOOKS = (
    "it looks at the node of a tensor (grad_fn), to which functions may be hooked that change gradients where no "
    "call shows it"
)

_ROUNDING = {torch.float64: 1e-9, torch.complex128: 1e-9}
"""What a gradient may be off by, relative to the largest, by precision; else 1e-4."""


def gradients(
    loss: Tensor, uses: list[Use], *, keep: bool = False, hooked: bool = False
) -> tuple[Tensor | None, ...]:
    """Those of the uses' outputs, one after the other.

    Args:
        loss: a number.
        uses: of its forward pass.
        keep: whether the graph is wanted once more.
        hooked: whether functions are hooked to the gradients of tensors.

    Raises:
        EngineRefusal: if the backward pass fails.
    """
    edges = [edge for use in uses for edge in use.edges]
    if not edges:
        return ()
    try:
        found = at_edges(loss, edges, (), keep=keep, hooked=hooked)
    except Exception as error:
        raise EngineRefusal(f"its backward pass failed: {type(error).__name__}: {error}") from error
    return tuple([edge.seen(gradient) for edge, gradient in zip(edges, found, strict=True)])


def at_edges(
    loss: Tensor, edges: Sequence[Edge], further: Sequence[Tensor], *, keep: bool = False, hooked: bool = False
) -> tuple[Tensor | None, ...]:
    """The gradients that reach the nodes of some edges, and those by further tensors.

    Autograd hands out the gradient of a tensor as it was before what is hooked to it, where gradients behind it are
    asked for too, and else as it is afterwards. Wanted is what its call is given: the latter.

    Args:
        loss: a number.
        edges: where.
        further: leaves.
        keep: whether the graph is wanted once more.
        hooked: whether functions are hooked to the gradients of tensors.
    """
    met: dict[Node, Sequence[Tensor | None]] = {}

    def meet(node: Node, given: Sequence[Tensor | None]) -> None:
        met[node] = given

    nodes = {edge.node for edge in edges} if hooked else ()
    handles = [node.register_prehook(partial(meet, node)) for node in nodes]
    try:
        inputs: list[Any] = [*(edge.edge for edge in edges), *further]
        found = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=keep)
    finally:
        for handle in handles:
            handle.remove()
    reached = [
        met[edge.node][edge.edge.output_nr] if edge.node in met else gradient
        for edge, gradient in zip(edges, found, strict=False)
    ]
    return *reached, *found[len(edges) :]


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
