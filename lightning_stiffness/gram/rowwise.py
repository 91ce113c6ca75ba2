"""Calls that treat the examples of a batch one by one, whatever their values are."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram.batch import Batch, batch_size, is_per_example, leaves
from lightning_stiffness.gram.calls import Call, inplace
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
        *(
            Tensor.dim,
            Tensor.size,
            Tensor.numel,
            Tensor.is_floating_point,
            Tensor.float,
            Tensor.double,
            Tensor.long,
        ),
    }
)

_BETWEEN_EQUALS: frozenset[Any] = frozenset(
    {
        *(
            torch.add,
            Tensor.add,
            Tensor.add_,
            Tensor.__add__,
            Tensor.__iadd__,
            torch.sub,
            Tensor.sub,
            Tensor.__sub__,
        ),
        *(torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__),
    }
)
"""Those that let a tensor of another shape count for all of a batch, or for all positions."""

_ERRORS: frozenset[Any] = frozenset(
    {
        *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
        *(F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
    }
)
"""Losses that do the same."""

_LOSSES: frozenset[Any] = frozenset({F.cross_entropy, F.nll_loss, F.multi_margin_loss})

_OVER_AXES: frozenset[Any] = frozenset(
    {
        *(torch.mean, Tensor.mean, torch.sum, Tensor.sum, torch.log_softmax, Tensor.log_softmax, F.log_softmax),
        *(torch.softmax, Tensor.softmax, F.softmax),
    }
)


def is_rowwise(reference: Reference, module: nn.Module, batches: Iterable[Batch]) -> bool:
    """Whether everything that is called for an example leaves the rows of a batch to themselves, for sure.

    Then the gradients of one example in a batch tell of those of all. Most modules have something of which that is
    not sure, as a slice, whose numbers may be those of examples: of these, two are looked at. So they are where a
    batch holds anything but tensors with a row for each example, which Python may read; and where a tensor comes
    from none of the calls, as scripted code calls nothing that is seen.
    """
    before_loss, ending = reference.calls[:-1], reference.calls[-1:]  # which is made one number at the end
    if not ending or ending[0].function is not Tensor.reshape or not all(map(_is_rowwise, before_loss)):
        return False
    memory = set()
    for batch in batches:
        size = batch_size(batch)
        for _, leaf in leaves(batch):
            if not isinstance(leaf, Tensor) or not is_per_example(leaf, size):
                return False
            memory.add(leaf.untyped_storage().data_ptr())
    known = {id(one) for one in (*module.parameters(), *module.buffers())}
    for call in reference.calls:
        given = [one for one in flat((call.args, call.kwargs)) if isinstance(one, Tensor)]
        if inplace(call.function) and isinstance(call.out, Tensor):
            given[0] = call.out  # which is what it changed
        if any(id(one) not in known and one.untyped_storage().data_ptr() not in memory for one in given):
            return False
        known |= {id(one) for one in flat((call.out,)) if isinstance(one, Tensor)}
    return True


def _is_rowwise(call: Call) -> bool:
    function = call.function
    if function in _ALWAYS:
        return True
    tensors = [one for one in (*call.args, *call.kwargs.values()) if isinstance(one, Tensor)]
    if function in _ERRORS or function in _LOSSES:
        old = call.kwargs.get("size_average"), call.kwargs.get("reduce")
        if call.kwargs.get("reduction") != "none" or old != (None, None):
            return False
    if function in _ERRORS or function in _BETWEEN_EQUALS:
        return isinstance(call.out, Tensor) and all(one.shape == call.out.shape for one in tensors)
    if function in _LOSSES:
        return True
    if function is F.batch_norm:
        return call.kwargs.get("training") is False
    if function in (torch.flatten, Tensor.flatten):
        return _number(call, "start_dim", 1) >= 1
    if function in _OVER_AXES:
        axis = _number(call, "dim", 1)
        return axis >= 1 or (axis < 0 and tensors[0].ndim + axis >= 1)
    return False


def _number(call: Call, name: str, place: int) -> int:
    """An argument that is one axis; 0 for none, or several."""
    given = call.args[place] if len(call.args) > place else call.kwargs.get(name)
    return given if type(given) is int else 0
