"""Calls that treat the examples of a batch one by one, whatever their values are."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.calls import VIEWS, Call
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.uses import flat

_ALWAYS: frozenset[Any] = frozenset(
    {
        *(F.linear, torch.conv1d, torch.conv2d, torch.conv3d, F.conv1d, F.conv2d, F.conv3d),
        *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, F.group_norm, F.layer_norm),
        *(F.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.leaky_relu, F.softplus, F.softsign),
        *(F.hardtanh, F.hardswish, F.hardsigmoid, F.tanh, F.sigmoid, F.logsigmoid),
        *(torch.relu, torch.tanh, torch.sigmoid, torch.exp, torch.square, torch.relu_),
        *(Tensor.relu, Tensor.tanh, Tensor.sigmoid, Tensor.exp, Tensor.square, Tensor.relu_),
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
        *(Tensor.float, Tensor.double, Tensor.long, Tensor.clone, torch.clone, Tensor.contiguous, Tensor.detach),
    }
)

_BETWEEN_EQUALS: frozenset[Any] = frozenset(
    {
        *(torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__),
        *(torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, torch.neg, Tensor.neg, Tensor.__neg__),
        *(torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__),
        *(torch.div, Tensor.div, Tensor.__truediv__, torch.pow, Tensor.pow, Tensor.__pow__, torch.abs, Tensor.abs),
    }
)
"""Those that let a tensor of another shape count for all of a batch, or for all positions."""

ERRORS: frozenset[Any] = frozenset(
    {
        *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
        *(F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
    }
)
"""Losses that do the same."""

LOSSES: frozenset[Any] = frozenset({F.cross_entropy, F.nll_loss, F.multi_margin_loss})
"""Losses by labels."""

MEANS, SUMS = frozenset({torch.mean, Tensor.mean}), frozenset({torch.sum, Tensor.sum})

_OVER_AXES: frozenset[Any] = frozenset(
    {
        *(*MEANS, *SUMS, torch.log_softmax, Tensor.log_softmax, F.log_softmax),
        *(torch.softmax, Tensor.softmax, F.softmax),
    }
)


def is_rowwise(call: Call, taken: set[int], constant: set[int]) -> bool:
    """Whether a call leaves the rows of a batch to themselves.

    Args:
        call: of one example.
        taken: what goes into linear layers, by :func:`taken_by_linear`.
        constant: identities of the tensors that are the same for all examples.
    """
    function, tensors = call.function, given_to(call)
    if not tensors or not call.args or call.args[0] is not tensors[0]:  # its input is in a list, or has no place
        return False
    if function in _ALWAYS or function in (F.batch_norm, F.dropout):
        # Weights made of a batch, as of similarities, would put its examples along another axis
        return all(id(one) in constant for one in tensors[1:]) and _is_plain(call, tensors[0])
    if (function in ERRORS or function in LOSSES) and (call.kwargs.get("reduction") != "none" or is_old(call)):
        return False
    if function in ERRORS or function in _BETWEEN_EQUALS:
        return isinstance(call.out, Tensor) and all(one.shape == call.out.shape for one in tensors)
    if function in LOSSES:
        return True
    if function in (torch.flatten, Tensor.flatten):
        return _number(call, "start_dim", 1) >= 1
    if function in VIEWS:
        return _keeps_rows(call, tensors[0], taken)
    if function in _OVER_AXES:
        axis = _number(call, "dim", 1)
        return axis >= 1 or (axis < 0 and tensors[0].ndim + axis >= 1)
    return False


def _is_plain(call: Call, given: Tensor) -> bool:
    """Whether a layer is not told to look at all examples together."""
    if call.function is F.layer_norm:
        shape = call.args[1] if len(call.args) > 1 else call.kwargs.get("normalized_shape", given.shape)
        return len(shape) < given.ndim
    return call.function not in (F.batch_norm, F.dropout) or call.kwargs.get("training") is False


def given_to(call: Call) -> list[Tensor]:
    """The tensors that a call takes, but for those in lists."""
    return [one for one in (*call.args, *call.kwargs.values()) if isinstance(one, Tensor)]


def is_old(call: Call) -> bool:
    """Whether a loss is told how to reduce in the way that is no longer documented."""
    return (call.kwargs.get("size_average"), call.kwargs.get("reduce")) != (None, None)


def _number(call: Call, name: str, place: int) -> int:
    """An argument that is one axis; 0 for none, or several."""
    given = call.args[place] if len(call.args) > place else call.kwargs.get(name)
    return given if type(given) is int else 0


def _keeps_rows(call: Call, given: Tensor, taken: set[int]) -> bool:
    """Whether one row becomes one row, in a batch too: all other lengths are written out; or all but the last are,
    and a linear layer takes the result, which no row of another length fits."""
    sizes, out = flat(call.args[1:]), call.out
    if call.kwargs or not sizes or any(type(size) is not int for size in sizes) or not given.ndim or not out.ndim:
        return False
    if not len(given) == len(out) == 1 or sizes[0] not in (-1, 1) or out.ndim < 2:
        return False
    return -1 not in sizes[1:] or (-1 not in sizes[1:-1] and id(out) in taken)


def taken_by_linear(reference: Reference) -> set[int]:
    """Identities of what goes into linear layers."""
    return {id(call.args[0]) for call in reference.calls if call.function is F.linear and call.args}
