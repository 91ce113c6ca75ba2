"""Batch and instance norms of a single example, whose gradient torch takes for that of another layout."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

NORMS = ("batch_norm", "native_batch_norm", "instance_norm")

_LOCK = threading.Lock()
_INSIDE: list[dict[str, Callable[..., Any]]] = []
"""Of every measurement that is going on: torch's own functions."""


@contextmanager
def sound_norms() -> Iterator[None]:
    """Inside, norms give one example the gradient that it has.

    With a batch of one, the strides of a gradient that comes back transposed, as through ``flatten(2).transpose(1,
    2)`` and what follows entry by entry, are those of channels that lie last too. On the processor torch's norm in
    evaluation mode then reads input and gradient in different orders (seen in torch 2.13; off by as much as the
    gradient itself). To select the one example hands on a gradient that lies as the output does, and saves nothing
    for the backward pass: an activation checkpoint, which goes through the forward pass anew, counts what is saved.

    Torch's functions are exchanged, wherever they are called from, and put back: with a mode that sees all calls a
    measurement would take half as long again.

    Example:
        >>> norm, x = torch.nn.BatchNorm2d(4).eval(), torch.randn(1, 4, 3, 3, requires_grad=True)
        >>> w = torch.randn(1, 3, 3, 4)
        >>> with sound_norms():
        ...     loss = (norm(x).permute(0, 2, 3, 1) * w).sum()
        >>> scale = (norm.running_var + norm.eps).rsqrt()
        >>> torch.allclose(torch.autograd.grad(loss, x)[0], (w * scale).permute(0, 3, 1, 2))
        True
    """
    with _LOCK:
        own = _INSIDE[0] if _INSIDE else {name: getattr(torch, name) for name in NORMS}
        if not _INSIDE:
            for name, function in own.items():
                setattr(torch, name, _sound(function))
        _INSIDE.append(own)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE.pop()
            if not _INSIDE:
                for name, function in own.items():
                    setattr(torch, name, function)


def _sound(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def norm(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        return (_selected(out[0]), *out[1:]) if isinstance(out, tuple) else _selected(out)

    return norm


def _selected(out: Any) -> Any:
    if not isinstance(out, Tensor) or out.ndim < 3 or len(out) != 1 or not out.requires_grad:
        return out
    with torch._C.DisableTorchFunction():  # modes too: it is no call of the module's
        return out.select(0, 0).unsqueeze(0)
