"""Tensors: their kind and shape."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_stiffness.arguments.told import shown


def real_tensor(
    argument: str, value: Any, axes: str, *, whole: bool = False, like: tuple[str, Tensor] | None = None
) -> Tensor:
    """A tensor of floating-point numbers with these axes.

    Args:
        argument: its name.
        value: what came.
        axes: their names, such as ``"n m"``, those of one length alike: ``"c c"``; ``"n …"`` for one or more.
        whole: integers are taken too, and truth values.
        like: name and value of another argument that has the same shape.

    Raises:
        ValueError: for anything else; the message says how a near miss becomes what is wanted.

    Example:
        >>> real_tensor("matrix", torch.eye(2), "c c").shape
        torch.Size([2, 2])
    """
    form = f"[{', '.join(axes.split())}]"
    tensor = _dense(argument, value, f"a tensor {form}")
    if not _has_axes(tensor, axes.split()):
        raise ValueError(f"expected {argument} of shape {form}, got {list(tensor.shape)}")
    if tensor.is_complex():
        raise ValueError(f"expected {argument} to be real numbers, got {tensor.dtype}")
    if not (whole or tensor.is_floating_point()):
        raise ValueError(
            f"expected {argument} to be floating-point numbers, got {tensor.dtype}: call .double() on it"
        )
    return tensor if like is None else _as(argument, tensor, like)


def mask_tensor(argument: str, value: Any, like: tuple[str, Tensor]) -> Tensor:
    """A tensor of True and False with the shape of another argument.

    Raises:
        ValueError: for anything else: ``~`` of integers, for one, would be other integers.

    Example:
        >>> mask_tensor("pairs", torch.eye(2) > 0, ("stiffness", torch.ones(2, 2))).sum()
        tensor(2)
    """
    tensor = _dense(argument, value, "a tensor [n, m] of True and False")
    if tensor.dtype != torch.bool:
        raise ValueError(f"expected {argument} to hold True and False, got {tensor.dtype}: call .bool() on it")
    return _as(argument, tensor, like)


def label_tensor(argument: str, value: Any, length: int, *, each: str, classes: int | None = None) -> Tensor:
    """The class of each of some examples, as int64.

    Args:
        argument: its name.
        value: what came.
        length: number of the examples ``n``.
        each: what an example is here, for the message.
        classes: their number; None for any.

    Raises:
        ValueError: for anything but ``n`` integers from 0 on.

    Example:
        >>> label_tensor("labels", torch.tensor([0, 2], dtype=torch.uint8), 2, each="row")
        tensor([0, 2])
    """
    tensor = _dense(argument, value, "a tensor of integers [n]")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(
            f"expected {argument} to be integers, the class of each {each}, got {tensor.dtype}: where they are "
            "classes, call .long() on them"
        )
    if tensor.shape != (length,):
        raise ValueError(f"expected {argument} of shape [{length}], one for each {each}, got {list(tensor.shape)}")
    tensor = tensor.long()
    if length and not (int(tensor.min()) >= 0 and (classes is None or int(tensor.max()) < classes)):
        wanted = "to be integers from 0" if classes is None else f"in [0, {classes})"
        number = "" if classes is None else ", and pass their number as num_classes"
        raise ValueError(
            f"expected {argument} {wanted}, got values from {int(tensor.min())} to {int(tensor.max())}: number the "
            f"classes 0, 1, 2, …{number}"
        )
    return tensor


def _dense(argument: str, value: Any, form: str) -> Tensor:
    if not isinstance(value, Tensor):
        way_out = ""
        if isinstance(value, list | tuple | np.ndarray):
            way_out = f": pass torch.as_tensor({argument})"
        elif isinstance(getattr(value, "values", None), Tensor):  # as of a GradientGram
            way_out = ": pass its .values"
        raise ValueError(f"expected {argument} to be {form}, got {shown(value)}{way_out}")
    if value.layout != torch.strided:
        raise ValueError(f"expected {argument} to be {form}, got one of {value.layout}: call .to_dense() on it")
    return value


def _has_axes(tensor: Tensor, axes: Sequence[str]) -> bool:
    if axes[-1] == "…":
        return tensor.ndim >= len(axes) - 1
    lengths: dict[str, int] = {}
    return tensor.ndim == len(axes) and all(
        lengths.setdefault(axis, length) == length for axis, length in zip(axes, tensor.shape, strict=True)
    )


def _as(argument: str, tensor: Tensor, like: tuple[str, Tensor]) -> Tensor:
    name, other = like
    if tensor.shape != other.shape:
        raise ValueError(
            f"expected {argument} of shape {list(other.shape)} as {name} has, got {list(tensor.shape)}"
        )
    return tensor
