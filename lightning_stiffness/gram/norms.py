"""Batch and instance norms of a single example, whose gradient torch takes for that of another layout."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NORMS: frozenset[Any] = frozenset(
    {F.batch_norm, torch.batch_norm, torch.native_batch_norm, F.instance_norm, torch.instance_norm}
)


class SoundNorms(TorchFunctionMode):
    """Norms that give one example the gradient that it has.

    With a batch of one, the strides of a gradient that comes back transposed, as through ``flatten(2).transpose(1,
    2)`` and what follows entry by entry, are those of channels that lie last too. On the processor torch's norm in
    evaluation mode then reads input and gradient in different orders (seen in torch 2.13; off by as much as the
    gradient itself). To select the one example hands on a gradient that lies as the output does, and saves nothing
    for the backward pass: an activation checkpoint, which goes through the forward pass anew, counts what is saved.

    Example:
        >>> norm, x = torch.nn.BatchNorm2d(4).eval(), torch.randn(1, 4, 3, 3, requires_grad=True)
        >>> w = torch.randn(1, 3, 3, 4)
        >>> with SoundNorms():
        ...     loss = (norm(x).permute(0, 2, 3, 1) * w).sum()
        >>> scale = (norm.running_var + norm.eps).rsqrt()
        >>> torch.allclose(torch.autograd.grad(loss, x)[0], (w * scale).permute(0, 3, 1, 2))
        True
    """

    supports_higher_order_operators = True  # torch.cond and its like

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if function not in NORMS:
            return out
        return (_selected(out[0]), *out[1:]) if isinstance(out, tuple) else _selected(out)


def _selected(out: Any) -> Any:
    if not isinstance(out, Tensor) or out.ndim < 3 or len(out) != 1 or not out.requires_grad:
        return out
    return out.select(0, 0).unsqueeze(0)
