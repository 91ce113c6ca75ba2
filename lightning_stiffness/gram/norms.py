"""Batch and instance norms of a single example, whose gradient torch takes for that of another layout."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NORMS: frozenset[Any] = frozenset({F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm})


class SoundNorms(TorchFunctionMode):
    """Norms that give one example the gradient that it has.

    With a batch of one, the strides of a gradient that comes back transposed, as through ``flatten(2).transpose(1,
    2)`` and what follows entry by entry, are those of channels that lie last too. On the processor torch's norm in
    evaluation mode then reads input and gradient in different orders (seen in torch 2.13; off by as much as the
    gradient itself). A copy by index hands on a gradient that lies as the output does.

    Example:
        >>> norm, x = nn.BatchNorm2d(4).eval(), torch.randn(1, 4, 3, 3, requires_grad=True)
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
        if function not in NORMS or not isinstance(out, Tensor) or out.ndim < 3 or len(out) != 1:
            return out
        return (
            out.index_select(0, torch.zeros(1, dtype=torch.long, device=out.device)) if out.requires_grad else out
        )

    @staticmethod
    def needed(parts: Iterable[nn.Module]) -> bool:
        """Whether one of them is such a norm, or keeps what such a norm does."""
        return any(
            isinstance(part, nn.modules.batchnorm._NormBase) or "running_mean" in part._buffers for part in parts
        )
