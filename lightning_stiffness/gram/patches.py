"""The patches that a convolution sees of its input, and on a GPU the gradients of its weight as products with them.

A processor has these gradients soonest by a convolution with as many groups as there are examples. On a GPU those
are hundreds of small ones, and ``torch.nn.functional.unfold`` takes one image at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def patches_of(
    images: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    space: Sequence[int],
) -> Tensor:
    """What each position of the output sees.

    Args:
        images: ``[n, C, *space of the input]``.
        kernel: its lengths.
        stride: one for each axis of space.
        padding: likewise.
        dilation: likewise.
        space: of the output; positions beyond it are left out.

    Returns:
        ``[n, positions, C·kernel]``.

    Example:
        >>> patches_of(torch.arange(4.0).view(1, 1, 4), [2], [1], [0], [1], [3]).tolist()
        [[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]]
    """
    axes = len(kernel)
    found = pad(images, [p for around in reversed(padding) for p in (around, around)])
    for axis in range(axes):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        found = found.unfold(2 + axis, reach, stride[axis])[..., :: dilation[axis]]
    for axis in range(axes):
        found = found.narrow(2 + axis, 0, space[axis])
    # [n, C, *positions, *kernel] → [n, positions, C·kernel]
    return found.movedim(1, 1 + axes).reshape(len(images), -1, images.shape[1] * _product(kernel))


def from_patches(
    inputs: Tensor,
    gradient: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    room: int,
) -> Tensor:
    """Weight gradients ``[n, C_out · C_in/groups · kernel]`` of a convolution.

    Args:
        inputs: ``[n, k, C_in, *space]``, ``k`` images an example.
        gradient: ``[n, k, C_out, *space of the output]``.
        kernel: its lengths.
        stride: one for each axis of space.
        padding: likewise.
        dilation: likewise.
        groups: groups of channels.
        room: bytes for patches formed at a time.

    Example:
        >>> x, d = torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 3)
        >>> from_patches(x, d, [2], [1], [0], [1], groups=1, room=1000).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    space = gradient.shape[3:]
    of_each = inputs.shape[1] * inputs.shape[2] * _product(kernel) * space.numel() * inputs.element_size()
    step = max(1, room // max(1, of_each))
    found = []
    for low in range(0, len(inputs), step):
        x, d = inputs[low : low + step], gradient[low : low + step]
        patches = patches_of(x.flatten(0, 1), kernel, stride, padding, dilation, space)
        patches = torch.unflatten(patches, 2, (groups, -1)).transpose(1, 2)  # [n·k, groups, positions, C·kernel]
        product = torch.unflatten(d.flatten(3).flatten(0, 1), 1, (groups, -1)) @ patches
        found.append(torch.unflatten(product, 0, x.shape[:2]).sum(1) if x.shape[1] > 1 else product)
    return (found[0] if len(found) == 1 else torch.cat(found)).reshape(len(inputs), -1)


def _product(lengths: Sequence[int]) -> int:
    return torch.Size(lengths).numel()
