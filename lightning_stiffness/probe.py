"""The fixed, stratified probe: which examples of a dataset stiffness is measured on, and their batches."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import Examples
from lightning_stiffness.gram.batch import Batch, batch_size, map_leaves
from lightning_stiffness.gram.state import kept_random_state
from lightning_stiffness.probeset import AUTO, ProbeSet, probe_fields

DEFAULT_SIZE = 500
"""Examples of each split where the caller names no number, as in the paper for 10 classes."""


@dataclass(frozen=True)
class Probe:
    """The probe of one split, on the CPU as the collate function returned it."""

    batch: Batch
    """All examples in one batch."""
    singles: list[Batch] | None
    """One batch per example, where the batch cannot be cut into examples."""
    size: int
    indices: Tensor
    """Position of each example in the split's dataset, ``[n]``."""
    identity: Tensor
    """Number ``[n]`` that two examples share only if they are the same item of the same dataset."""

    def to_set(self, transfer: Any, label_fn: FieldFn | str | None, input_fn: FieldFn | str | None) -> ProbeSet:
        """The examples on their device, with labels and inputs.

        Args:
            transfer: function from a batch to the batch on the module's device.
            label_fn: function from a batch to labels, ``"auto"`` or None.
            input_fn: function from a batch to inputs, ``"auto"`` or None.

        Returns:
            What ``measure_probe`` takes.
        """
        if self.singles is None:
            batch = transfer(copied(self.batch))
            examples = Examples((batch,), (self.size,))
            fields = probe_fields(batch, self.size, labels=label_fn, inputs=input_fn)
        else:
            moved = tuple(transfer(copied(single)) for single in self.singles)
            examples = Examples(moved, (1,) * self.size, moved)
            each = [probe_fields(single, 1, labels=label_fn, inputs=input_fn) for single in moved]
            fields = (_stacked([one[0] for one in each]), _stacked([one[1] for one in each]))
        return ProbeSet(examples, *fields, self.identity, self.indices)


def build_probe(
    loader: Any, split: str, size: int | None, *, seed: int, label_fn: FieldFn | str | None = AUTO
) -> Probe:
    """Choose examples of a loader's dataset, the classes in equal numbers, and collate them.

    The loader itself is never iterated: that would change the order of the training data. Examples come from
    ``dataset[i]`` through the loader's own ``collate_fn``; the random state of the run is kept.

    Args:
        loader: a ``DataLoader`` over a map-style dataset.
        split: ``"train"`` or ``"val"``, for messages.
        size: number of examples; None for 500, or all there are.
        seed: decides which examples, and the random augmentations in ``dataset[i]``.
        label_fn: function from a batch to labels; ``"auto"``: found in the dataset or the batch; None: none.

    Returns:
        The probe.

    Raises:
        ValueError: for an empty dataset, one smaller than ``size``, or one without random access.
    """
    original = _dataset(loader, split)
    dataset = _private(original)
    available = len(dataset)
    if available == 0:
        raise ValueError(f"expected examples in the {split} dataset to measure stiffness on, got an empty dataset")
    if size is not None and size > available:
        raise ValueError(
            f"expected probe_size of at most {available}, the number of examples in the {split} dataset, "
            f"got {size}: pass StiffnessCallback(probe_size={available}) or less, or none to take what is there"
        )
    wanted = size if size is not None else min(DEFAULT_SIZE, available)
    if wanted < 2:
        raise ValueError(f"expected at least 2 examples in the {split} dataset to compare, got {available}")
    with seeded(seed):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(available, generator=generator)
        labels = dataset_labels(dataset) if label_fn == AUTO else None
        if labels is not None:
            chosen = order[stratified(labels[order], wanted)]
            samples = _fetch(dataset, chosen.tolist())
        else:  # only the examples themselves can tell their class: look at twice as many as are needed
            candidates = order[: 2 * wanted]
            samples = _fetch(dataset, candidates.tolist())
            labels = _labels_of_samples(samples, loader.collate_fn, label_fn)
            places = torch.arange(wanted) if labels is None else stratified(labels, wanted)
            chosen, samples = candidates[places], [samples[i] for i in places.tolist()]
        batch = loader.collate_fn(samples)
        singles = None if _can_be_cut(batch, wanted) else [loader.collate_fn([sample]) for sample in samples]
    identity = torch.tensor([_identity(original, int(i)) for i in chosen])
    return Probe(batch, singles, wanted, chosen, identity)


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
        return _as_labels(dataset.tensors[-1], len(dataset)) if len(dataset.tensors) > 1 else None
    for name in ("targets", "labels", "y"):
        found = _as_labels(getattr(dataset, name, None), len(dataset))
        if found is not None:
            return found
    return None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random state from a seed inside, what it was before outside.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0):
        ...     _ = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    with kept_random_state():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the state that user code draws from
        torch.manual_seed(seed)
        yield


def copied(batch: Batch) -> Batch:
    """The batch with its tensors copied: transfer hooks may change them in place."""
    return map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else copy.copy(leaf), batch)


def _dataset(loader: Any, split: str) -> Any:
    dataset = getattr(loader, "dataset", None)
    if (
        not isinstance(loader, DataLoader)
        or isinstance(dataset, IterableDataset)
        or not hasattr(dataset, "__len__")
    ):
        what = type(dataset).__name__ if isinstance(loader, DataLoader) else type(loader).__name__
        raise ValueError(
            f"expected the {split} data to be a DataLoader over a dataset with __getitem__ and __len__, got "
            f"{what}: stiffness is measured on examples fetched by index, so that the order of training data "
            "stays as it is"
        )
    return dataset


def _private(dataset: Any) -> Any:
    """A shallow copy: file handles and counters that ``dataset[i]`` sets stay away from the run's own."""
    own = copy.copy(dataset)
    for name in ("dataset", "datasets"):
        inner = getattr(own, name, None)
        if isinstance(inner, list | tuple):
            setattr(own, name, [_private(part) for part in inner])
        elif inner is not None and hasattr(inner, "__getitem__"):
            setattr(own, name, _private(inner))
    return own


def _fetch(dataset: Any, indices: list[int]) -> list[Any]:
    if callable(getattr(dataset, "__getitems__", None)):
        return list(dataset.__getitems__(indices))
    return [dataset[i] for i in indices]


def _can_be_cut(batch: Batch, size: int) -> bool:
    try:
        return batch_size(batch) == size
    except ValueError:
        return False


def _labels_of_samples(samples: Sequence[Any], collate: Any, label_fn: FieldFn | str | None) -> Tensor | None:
    if label_fn is None:
        return None
    labels = []
    for sample in samples:
        label, _ = probe_fields(collate([sample]), 1, labels=label_fn, inputs=None)
        if label is None:
            return None
        labels.append(label)
    return torch.cat(labels)


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


def _identity(dataset: Any, index: int) -> int:
    """The same number for the same item of the same dataset, also through a Subset or a ConcatDataset."""
    while isinstance(dataset, Subset | ConcatDataset):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = int(np.searchsorted(dataset.cumulative_sizes, index, side="right"))
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
    return hash((id(dataset), index)) % 2**62


def _stacked(entries: Sequence[Tensor | None]) -> Tensor | None:
    present = [entry for entry in entries if entry is not None]
    if len(present) < len(entries) or any(entry.shape != present[0].shape for entry in present):
        return None
    return torch.cat(present)
