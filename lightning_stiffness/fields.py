"""Where a batch keeps its labels and its inputs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.arguments import shown
from lightning_stiffness.gram.batch import Batch, leaves

LABEL_NAMES = ("label", "labels", "y", "target", "targets", "class", "classes")
INPUT_NAMES = ("x", "image", "images", "img", "pixel_values", "input", "inputs", "input_values", "features", "data")

FieldFn = Callable[[Batch], Tensor]
"""A function from a collated batch to a tensor with one entry per example."""

LEFT_OUT = {"label_fn": "False", "input_fn": "False", "labels": "None", "inputs": "None"}
"""Argument → the value that leaves its part out. In the callback None is the default: found in the batch."""


def find_labels(batch: Batch, size: int) -> Tensor | None:
    """The class labels of a batch, where its usual places hold them.

    Looked for: entries named ``label``, ``labels``, ``y``, ``target``, ``targets``, ``class`` of a mapping or
    an object, else the second entry of a pair ``(x, y)``. Labels are integers ``[n]`` or ``[n, 1]``, or
    floating-point values that are all 0 or 1 (binary classification).

    Args:
        batch: what a collate function returns.
        size: its number of examples ``n``.

    Returns:
        Labels ``[n]`` as int64; None where there are none (regression, language modelling).

    Example:
        >>> find_labels((torch.zeros(2, 3), torch.tensor([4, 7])), 2).tolist()
        [4, 7]
    """
    for candidate in _candidates(batch, LABEL_NAMES, position=1):
        if candidate.ndim == 2 and candidate.shape[1] == 1:
            candidate = candidate[:, 0]
        if candidate.shape != (size,) or candidate.is_complex():
            continue
        binary = candidate.dtype == torch.bool or bool(((candidate == 0) | (candidate == 1)).all())
        if not candidate.is_floating_point() or binary:
            return candidate.detach().cpu().long()
    return None


def find_inputs(batch: Batch, size: int) -> Tensor | None:
    """The inputs of a batch between which a distance makes sense, where its usual places hold them.

    Looked for: entries named ``x``, ``image``, ``pixel_values``, ``inputs``, ``features``, …, else the first
    entry of a tuple, else the first tensor. Integers count as inputs only where they are images (uint8):
    the distance of token ids says nothing.

    Args:
        batch: what a collate function returns.
        size: its number of examples ``n``.

    Returns:
        Inputs ``[n, …]`` on the CPU; None where there are none.

    Example:
        >>> find_inputs({"input_ids": torch.zeros(2, 5, dtype=torch.long)}, 2) is None
        True
    """
    for candidate in _candidates(batch, INPUT_NAMES, position=0):
        numeric = candidate.is_floating_point() or candidate.dtype == torch.uint8
        if candidate.ndim >= 2 and len(candidate) == size and numeric:
            return candidate.detach().cpu()
    return None


def apply_field(function: FieldFn, name: str, batch: Batch, size: int) -> Tensor:
    """The tensor that a caller's function takes from a batch, with its length checked.

    Args:
        function: the caller's.
        name: the argument that it was given as, for messages.
        batch: what a collate function returns.
        size: its number of examples ``n``.

    Returns:
        A tensor ``[n, …]`` on the CPU.

    Raises:
        ValueError: if it returns no tensor with one entry per example.

    Example:
        >>> apply_field(lambda batch: batch["kind"], "label_fn", {"kind": torch.tensor([1, 0])}, 2).tolist()
        [1, 0]
    """
    given = function(batch)
    try:
        result = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected {name}(batch) to return one entry for each of the {size} examples, as a tensor, got "
            f"{shown(given)}"
        ) from error
    if result.ndim == 0 or len(result) != size:
        raise ValueError(
            f"expected {name}(batch) to return one entry for each of the {size} examples, got shape "
            f"{list(result.shape)}"
        )
    return result.detach().cpu()


def check_labels(labels: Tensor, size: int, source: str) -> Tensor:
    """Labels given by the caller, as int64 ``[n]``.

    Args:
        labels: what the caller's function returned.
        size: number of examples ``n``.
        source: the argument that it was given as, a key of :data:`LEFT_OUT`.

    Raises:
        ValueError: if they are not integers, one per example.

    Example:
        >>> check_labels(torch.tensor([[1], [2]]), 2, "labels").tolist()
        [1, 2]
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (size,):
        raise ValueError(f"expected {source} to give labels [{size}], one per example, got {list(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"expected {source} to give integer labels, got {labels.dtype}: class-wise stiffness needs a class "
            f"for each example; round or bin the values, or leave the classes out with {source}={LEFT_OUT[source]}"
        )
    return labels.detach().cpu().long()


def _candidates(batch: Batch, names: tuple[str, ...], position: int) -> list[Tensor]:
    """Tensors of a batch, the likeliest first."""
    found: list[Any] = []
    if isinstance(batch, Mapping):
        found += [batch[name] for name in names if name in batch]
    elif isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        found += [batch[position]] if len(batch) > position else []
    else:
        found += [getattr(batch, name) for name in names if hasattr(batch, name)]
    if position == 0:  # any tensor may be an input, but not any tensor a label
        found += [leaf for _, leaf in leaves(batch)]
    return [entry for entry in found if isinstance(entry, Tensor)]
