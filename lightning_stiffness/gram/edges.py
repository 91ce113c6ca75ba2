"""Where in the graph the gradient of what a call gave is asked for."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node


class Edge:
    """Of one tensor.

    A tensor that is all of another one, seen otherwise, as what ``einsum`` gives, is asked for at that other one:
    where a view is changed in place, autograd writes the view's graph anew, without what was at its place.

    Args:
        edge: where.
        form: how the tensor lies in what is there: size, stride and offset; None if it is the same.
    """

    __slots__ = ("edge", "form")

    def __init__(self, edge: GradientEdge, form: tuple[Any, ...] | None = None):
        self.edge, self.form = edge, form

    @property
    def node(self) -> Node:
        """The node of the graph."""
        return self.edge.node

    def seen(self, gradient: Tensor | None) -> Tensor | None:
        """The gradient of the tensor, from that of what is there."""
        if gradient is None or self.form is None:
            return gradient
        return gradient.contiguous().as_strided(*self.form)


def edge_of(tensor: Tensor, given: Iterable[Tensor], *, changed: bool = False) -> Edge | None:
    """The edge of a tensor as a call gave it; None if it has no gradient.

    Args:
        tensor: the result.
        given: what the call took: a view of that is no other than itself.
        changed: whether the call has changed the tensor in place, and with it what it is a view of.

    Example:
        >>> import torch
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> out = (x * 2).t()
        >>> edge = edge_of(out, [x])
        >>> _ = out.mul_(5)
        >>> edge.seen(torch.autograd.grad(out[0].sum(), edge.edge)[0])
        tensor([[5., 5.],
                [0., 0.],
                [0., 0.]])
    """
    node = tensor.grad_fn
    if node is None:
        return None
    base = tensor._base if tensor._is_view() else None
    if base is None or base.numel() != tensor.numel() or not base.is_contiguous() or base.dtype != tensor.dtype:
        return Edge(GradientEdge(node, tensor.output_nr))
    behind = base.grad_fn
    own = changed or not any(one is base or one._base is base for one in given)
    if behind is None or not own or tensor.is_conj() or tensor.is_neg():
        return Edge(GradientEdge(node, tensor.output_nr))
    form = tensor.shape, tensor.stride(), tensor.storage_offset() - base.storage_offset()
    return Edge(GradientEdge(behind, base.output_nr), form)
