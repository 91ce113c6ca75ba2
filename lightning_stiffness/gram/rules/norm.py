"""Affine weights of normalisations: dw = Σ d x̂ and db = Σ d, x̂ the normalised input."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.rules.registry import NoRule, Parts, data, dense, real, rule, shared
from lightning_stiffness.gram.uses import Operand, Use


def _affine(
    normalised: Tensor | None, d: Tensor, weight: Operand | None, bias: Operand | None, channels: int | None
) -> Parts:
    """Sums over every axis that the weights lack: channels at axis ``channels``, or at the last axes."""
    parts = Parts()
    for operand, factor in ((weight, normalised), (bias, None)):
        if operand is None or not operand.wanted:
            continue
        shape = shared(operand).shape
        kept = [channels] if channels is not None else list(range(d.ndim - len(shape), d.ndim))
        summed = [axis for axis in range(1, d.ndim) if axis not in kept]
        values = d if factor is None else d * factor
        parts.append(dense(operand, values.sum(summed) if summed else values))
    return parts


@rule(F.layer_norm)
def layer_norm(
    use: Use,
    input: Operand,
    normalized_shape: Any,
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Parts:
    """Over the last axes."""
    d = real(use)
    x = data(input).canonical() if weight is not None and weight.wanted else None
    return _affine(None if x is None else F.layer_norm(x, normalized_shape, eps=eps), d, weight, bias, None)


@rule(*([F.rms_norm] if hasattr(F, "rms_norm") else []))
def rms_norm(
    use: Use, input: Operand, normalized_shape: Any, weight: Operand | None = None, eps: float | None = None
) -> Parts:
    """By the root mean square over the last axes."""
    d = real(use)
    return _affine(F.rms_norm(data(input).canonical(), normalized_shape, eps=eps), d, weight, None, None)


@rule(F.group_norm)
def group_norm(
    use: Use,
    input: Operand,
    num_groups: int,
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Parts:
    """Over groups of channels, axis 1 of every image."""
    d = real(use)
    x = data(input).canonical()
    normalised = F.group_norm(x.flatten(0, 1), num_groups, eps=eps).view(x.shape)
    return _affine(normalised, d, weight, bias, 2)


@rule(F.batch_norm)
def batch_norm(
    use: Use,
    input: Operand,
    running_mean: Operand | None,
    running_var: Operand | None,
    weight: Operand | None = None,
    bias: Operand | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Parts:
    """By the running statistics."""
    d = real(use)
    if training or running_mean is None or running_var is None:
        raise NoRule
    x = data(input).canonical()
    n, images, channels = x.shape[:3]
    parts = Parts()
    d = d.reshape(n, images, channels, -1)
    if weight is not None and weight.wanted:
        shared(weight)
        mean, deviation = running_mean.shared(), (running_var.shared() + eps).sqrt()
        centred = x.reshape(n, images, channels, -1) - mean[:, None]
        parts.append(dense(weight, centred.mul_(d).sum((1, 3)) / deviation))
    if bias is not None and bias.wanted:
        parts.append(dense(shared(bias), d.sum((1, 3))))
    return parts


@rule(F.instance_norm)
def instance_norm(
    use: Use,
    input: Operand,
    running_mean: Operand | None = None,
    running_var: Operand | None = None,
    weight: Operand | None = None,
    bias: Operand | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Parts:
    """Over the positions of every channel of every image."""
    d = real(use)
    if not use_input_stats:
        return batch_norm(use, input, running_mean, running_var, weight, bias, False, momentum, eps)
    x = data(input).canonical()
    normalised = F.instance_norm(x.flatten(0, 1), eps=eps).view(x.shape)
    return _affine(normalised, d, weight, bias, 2)


@rule(F.prelu, torch.prelu)
def prelu(use: Use, input: Operand, weight: Operand) -> Parts:
    """y = x where positive, w x elsewhere: dw = Σ d min(x, 0)."""
    d = real(use)
    if not weight.wanted or len(input.shape) < 1 or input.layout is None:
        raise NoRule
    values = d * data(input).canonical().clamp(max=0)
    if shared(weight).shape == (1,) or weight.shape == ():
        return [dense(weight, values.flatten(1).sum(1, keepdim=True))]
    if values.ndim < 3:
        raise NoRule
    summed = [axis for axis in range(1, values.ndim) if axis != 2]
    return [dense(weight, values.sum(summed))]
