"""Classes in equal numbers: labels of a dataset, and which examples to take."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset


def stratified(labels: Tensor, size: int) -> Tensor:
    """Positions of ``size`` examples with the classes in equal numbers, as far as there are enough of each.

    Args:
        labels: class of each candidate ``[k]``, in random order.
        size: how many to choose, at most ``k``.

    Returns:
        Positions ``[size]``, ascending.

    Example:
        >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 4).tolist()
        [0, 1, 4, 5]
    """
    _, inverse = labels.unique(return_inverse=True)
    # How many of its class stand before each candidate: the first of every class, then the second, …
    order = torch.argsort(inverse, stable=True)
    counts = torch.bincount(inverse)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - starts[inverse[order]]
    return torch.argsort(rank, stable=True)[:size].sort().values


def dataset_labels(dataset: Any) -> Tensor | None:
    """The labels of a whole dataset without loading its examples, where it keeps them at hand.

    Returns:
        Integer labels ``[N]``; None where they would have to be read from the examples.

    Example:
        >>> dataset_labels(Subset(TensorDataset(torch.zeros(3, 2), torch.tensor([5, 6, 7])), [2, 0])).tolist()
        [7, 5]
    """
    if isinstance(dataset, Subset):
        inner = dataset_labels(dataset.dataset)
        return None if inner is None else inner[torch.as_tensor(list(dataset.indices), dtype=torch.long)]
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_labels(part) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    if isinstance(dataset, TensorDataset):
        # the class is where find_labels looks for it; behind it there may be an index or a weight
        found = (_as_labels(tensor, len(dataset)) for tensor in dataset.tensors[1:])
        return next((labels for labels in found if labels is not None), None)
    for name in ("targets", "labels", "y"):
        found = _as_labels(getattr(dataset, name, None), len(dataset))
        if found is not None:
            return found
    return None


def labels_of_batches(batches: Sequence[Any], label: Callable[[Any], Tensor | None]) -> Tensor | None:
    """The labels of batches, one after the other; None where one of them has none."""
    found = []
    for batch in batches:
        labels = label(batch)
        if labels is None:
            return None
        found.append(labels)
    return torch.cat(found)


def _as_labels(values: Any, length: int) -> Tensor | None:
    if values is None or callable(values):
        return None
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None  # such as names: the examples themselves will tell
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    integral = not (labels.is_floating_point() or labels.is_complex())
    return labels.cpu().long() if labels.shape == (length,) and integral else None
