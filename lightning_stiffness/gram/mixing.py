"""Calls that make values of several examples together."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.uses import flat

_ALONG_ONE: dict[Any, int | None] = {
    **dict.fromkeys((torch.sort, torch.argsort, Tensor.sort, Tensor.argsort), -1),
    **dict.fromkeys((torch.cummax, torch.cummin, torch.cumprod, torch.logcumsumexp, torch.cumsum), None),
    **dict.fromkeys((Tensor.cummax, Tensor.cummin, Tensor.cumprod, Tensor.logcumsumexp, Tensor.cumsum), None),
}
"""What gives numbers a rank along one axis, or adds them up along it → which one where it is not said."""

RANKING: frozenset[Any] = frozenset(
    {
        *(*_ALONG_ONE, torch.msort, torch.unique, torch.bincount, torch.searchsorted),
        *(Tensor.msort, Tensor.unique, Tensor.bincount, Tensor.tolist, Tensor.numpy, Tensor.__array__),
        # functions of Python's, which may remember what they were given
        *(Tensor.apply_, Tensor.map_, Tensor.map2_),
    }
)
"""What gives examples a rank, or all of their values to Python, though it may grow with them."""


_OVER_AXIS: frozenset[Any] = frozenset(
    {
        *(
            torch.softmax,
            Tensor.softmax,
            F.softmax,
            torch.log_softmax,
            Tensor.log_softmax,
            F.log_softmax,
            F.softmin,
        ),
        *(torch.flip, Tensor.flip, torch.roll, Tensor.roll, F.normalize, torch.diff, Tensor.diff, F.gumbel_softmax),
    }
)
"""What makes values along an axis of all values along it."""

_SPATIAL: dict[Any, int] = {
    **dict.fromkeys((F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d, F.adaptive_max_pool1d, F.lp_pool1d), 1),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.lp_pool2d), 2),
    **dict.fromkeys((F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d), 3),
    **dict.fromkeys((torch.conv1d, F.conv1d, torch.conv_transpose1d, F.conv_transpose1d), 1),
    **dict.fromkeys((torch.conv2d, F.conv2d, torch.conv_transpose2d, F.conv_transpose2d, F.unfold), 2),
    **dict.fromkeys((torch.conv3d, F.conv3d, torch.conv_transpose3d, F.conv_transpose3d), 3),
    F.scaled_dot_product_attention: 2,
}
"""Function → how many of the last axes of its input it makes values of neighbours along."""

_ALONG = frozenset({*_OVER_AXIS, *_SPATIAL, F.layer_norm, F.group_norm})
"""All functions that are to be looked at."""


def along_examples(call: Call | None, function: Any, args: Any, kwargs: Any, n: int) -> bool:
    """Whether a call makes values of several examples together along the axis that these are on.

    Args:
        call: the same for one example; None where that has no more calls.
        function: what was called for ``n``.
        args: with which arguments.
        kwargs: by name.
        n: number of examples.

    Example:
        >>> one, many = torch.ones(1, 3), torch.ones(4, 3)
        >>> along_examples(Call(torch.softmax, (one, 0), {}, one), torch.softmax, (many, 0), {}, 4)
        True
        >>> along_examples(Call(torch.softmax, (one, 1), {}, one), torch.softmax, (many, 1), {}, 4)
        False
    """
    if function not in _ALONG or call is None or call.function != function:
        return False
    if not args or not isinstance(args[0], Tensor):
        return False
    one, many = call.args[0], args[0]
    axis = grown_axis(one.shape, many.shape, n) if isinstance(one, Tensor) else None
    if axis is None:
        return False
    if function is F.group_norm:
        return axis > 0
    if function is F.layer_norm:
        return axis >= many.ndim - len(args[1] if len(args) > 1 else kwargs.get("normalized_shape", ()))
    if function in _SPATIAL:
        return axis >= many.ndim - _SPATIAL[function] and _reach(function, args, kwargs, axis - many.ndim) != 1
    names = [kwargs[name] for name in ("dim", "dims") if kwargs.get(name) is not None]
    place = {F.normalize: 2, F.gumbel_softmax: 3, torch.roll: 2, Tensor.roll: 2, torch.diff: 2, Tensor.diff: 2}
    given = names or args[place.get(function, 1) :][:1]
    axes = [dim % many.ndim for dim in flat(tuple(given)) if type(dim) is int]
    return axis in axes


def _reach(function: Any, args: Any, kwargs: Any, axis: int) -> int:
    """How many neighbours a call looks at along an axis, counted from the last; 0: all of them, or who knows."""
    kernel = args[1] if len(args) > 1 else kwargs.get("kernel_size")
    if isinstance(kernel, Tensor):  # weights of a convolution
        return kernel.shape[axis] if function is not F.scaled_dot_product_attention else 0
    if "adaptive" in function.__name__:
        return 0
    if isinstance(kernel, tuple | list):
        return int(kernel[axis]) if -axis <= len(kernel) else 0
    return kernel if isinstance(kernel, int) else 0


def _ranks(call: Call | None, function: Any, args: Any, kwargs: Any, n: int) -> bool:
    """Whether it is the examples that a call gives a rank, and no axis of their own."""
    if function not in _ALONG_ONE or call is None or call.function != function or not args or not call.args:
        return True
    one, many = call.args[0], args[0]
    axis = grown_axis(one.shape, many.shape, n) if isinstance(one, Tensor) and isinstance(many, Tensor) else None
    dim = kwargs.get("dim", args[1] if len(args) > 1 else _ALONG_ONE[function])
    return axis is None or type(dim) is not int or dim % many.ndim == axis


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
    if function in RANKING:
        return _ranks(call, function, args, kwargs, n)
    if call is None or call.function != function:
        return False
    outs = (out,) if isinstance(out, Tensor) else out if isinstance(out, tuple | list) else ()
    of_one = call.out if isinstance(call.out, tuple | list) else (call.out,)
    if function is Tensor.__setitem__:  # which gives nothing: what it writes to is what it makes
        outs, of_one = args[:1], call.args[:1]
    for many, one in zip(outs, of_one, strict=False):
        if isinstance(many, Tensor) and isinstance(one, Tensor):
            if grown_axis(one.shape, many.shape, n) is not None:
                continue
            if many.shape != one.shape:
                return True
            given = zip(flat((call.args, call.kwargs)), flat((args, kwargs)), strict=False)
            return any(isinstance(b, Tensor) and isinstance(a, Tensor) and a.shape != b.shape for a, b in given)
    return False
