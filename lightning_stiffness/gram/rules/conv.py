"""Convolutions and transposed convolutions in one, two and three axes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.parts import Convolution
from lightning_stiffness.gram.rules.registry import NoRule, Parts, data, dense, real, rule, shared
from lightning_stiffness.gram.uses import Operand, Use


@rule(F.conv1d, F.conv2d, F.conv3d, factored=True)
def convolution(
    use: Use,
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Parts:
    """y = x ∗ W + b, with dW the correlation of x and d, and db = Σ d."""
    d = real(use)
    axes = len(weight.shape) - 2
    d, parts = _images(d, axes), Parts()
    if weight.wanted:
        shared(weight)
        x = _images(data(input).canonical(), axes)
        spread = _each(dilation, axes)
        if padding == "same":  # what an even reach leaves over goes to the far end
            total = [spread[i] * (weight.shape[2 + i] - 1) for i in range(axes)]
            sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            x = torch.unflatten(F.pad(x.flatten(0, 1), sides), 0, x.shape[:2])
        around = (0,) * axes if isinstance(padding, str) else _each(padding, axes)
        parts.append(
            (weight, Convolution(x, d, weight.shape, _each(stride, axes), around, spread, groups, use.room))
        )
    if bias is not None and bias.wanted:
        parts.append(dense(bias, _channel_sums(d)))
    return parts


@rule(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, factored=True)
def transposed_convolution(
    use: Use,
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Parts:
    """The transpose of a convolution: for dW, x and d change places."""
    d = real(use)
    axes = len(weight.shape) - 2
    d, parts = _images(d, axes), Parts()
    if weight.wanted:
        shared(weight)
        x = _images(data(input).canonical(), axes)
        geometry = _each(stride, axes), _each(padding, axes), _each(dilation, axes)
        parts.append((weight, Convolution(d, x, weight.shape, *geometry, groups, use.room)))
    if bias is not None and bias.wanted:
        parts.append(dense(bias, _channel_sums(d)))
    return parts


def _images(tensor: Tensor, axes: int) -> Tensor:
    """``[n, k, C, *space]`` with ``k`` images an example; without that axis where a call takes a single image."""
    if tensor.ndim == axes + 2:
        return tensor.unsqueeze(1)
    if tensor.ndim != axes + 3:
        raise NoRule
    return tensor


def _each(value: Any, axes: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    values = tuple(int(v) for v in value)
    return values * axes if len(values) == 1 else values


def _channel_sums(d: Tensor) -> Tensor:
    sums = d.flatten(3).sum(3)
    return sums[:, 0] if sums.shape[1] == 1 else sums.sum(1)


for _module in (torch,):  # the same functions under their other name
    for _name in ("conv1d", "conv2d", "conv3d"):
        rule(getattr(_module, _name), factored=True)(convolution)
    for _name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        rule(getattr(_module, _name), factored=True)(transposed_convolution)
