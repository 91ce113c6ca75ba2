"""Calls that make values of several examples together."""

from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.uses import flat

_RANKING: frozenset[Any] = frozenset(
    {
        *(torch.cummax, torch.cummin, torch.cumprod, torch.logcumsumexp),
        *(Tensor.cummax, Tensor.cummin, Tensor.cumprod, Tensor.logcumsumexp),
        *(torch.sort, torch.argsort, torch.msort, torch.unique, torch.bincount, torch.cumsum, torch.searchsorted),
        *(Tensor.sort, Tensor.argsort, Tensor.msort, Tensor.unique, Tensor.bincount, Tensor.cumsum),
        *(Tensor.tolist, Tensor.numpy, Tensor.__array__),
    }
)
"""What gives examples a rank, or all of their values to Python, though it may grow with them."""


def mixes(call: Call | None, function: Any, args: Any, kwargs: Any, out: Any, n: int) -> bool:
    """Whether a call makes values of several examples together: its result has not as many parts as they are,
    though what it takes has; or it ranks them.

    Args:
        call: the same for one example, unless it is of another function; None where that has no more calls.
        function: what was called for ``n``.
        args: with which arguments.
        kwargs: by name.
        out: the result.
        n: number of examples.

    Example:
        >>> one, many = torch.ones(1, 3), torch.ones(4, 3)
        >>> mixes(Call(torch.mean, (one,), {}, one.mean()), torch.mean, (many,), {}, many.mean(), 4)
        True
        >>> mixes(Call(torch.exp, (one,), {}, one.exp()), torch.exp, (many,), {}, many.exp(), 4)
        False
    """
    if function in _RANKING:
        return True
    if call is None or call.function != function:
        return False
    outs = (out,) if isinstance(out, Tensor) else out if isinstance(out, tuple | list) else ()
    of_one = call.out if isinstance(call.out, tuple | list) else (call.out,)
    for many, one in zip(outs, of_one, strict=False):
        if isinstance(many, Tensor) and isinstance(one, Tensor):
            if grown_axis(one.shape, many.shape, n) is not None:
                continue
            if many.shape != one.shape:
                return True
            given = zip(flat((call.args, call.kwargs)), flat((args, kwargs)), strict=False)
            return any(isinstance(b, Tensor) and isinstance(a, Tensor) and a.shape != b.shape for a, b in given)
    return False
