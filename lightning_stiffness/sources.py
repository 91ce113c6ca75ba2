"""Where examples come from: a loader's dataset, read without the loader and without a trace in either."""

import copy
import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from lightning_stiffness.reach import is_users

Key = Any
"""What ``dataset[key]`` takes: mostly an index."""

_MOST_KEYS = 1_000_000
"""Keys read from a sampler that may be endless."""
_REPEATS = 10_000
"""Keys without a new one, or as many as there are examples, after which a sampler has given all it will."""


@dataclass(frozen=True)
class Table:
    """A dataset with random access, and those of its keys that the run uses."""

    dataset: Any
    """A private shallow copy."""
    original: Any
    keys: Sequence[Key]

    def read(self, keys: Sequence[Key]) -> list[Any]:
        """The items under these keys."""
        if callable(getattr(self.dataset, "__getitems__", None)):
            return list(self.dataset.__getitems__(list(keys)))
        return [self.dataset[key] for key in keys]

    def identity(self, key: Key) -> int:
        """The same number for the same item of the same dataset, also through a Subset or a ConcatDataset."""
        return _identity(self.original, key)


@dataclass(frozen=True)
class Stream:
    """Items that can only be read one after the other, from a copy of what the run itself reads."""

    items: Iterable[Any]
    original: Any

    def read(self, count: int) -> list[Any]:
        """The first items."""
        return list(itertools.islice(iter(self.items), count))

    def identity(self, key: Key) -> int:
        """The same number for the same position in the same stream."""
        return _identity(self.original, key)


def source_of(loader: Any, split: str, limit: int | None = None) -> Table | Stream:
    """What a loader reads from. Neither the loader nor its samplers are iterated: that would change the order
    of the training data.

    Args:
        loader: a ``DataLoader``, or any iterable of batches.
        split: ``"train"`` or ``"val"``, for messages.
        limit: only the first so many items, where the run itself never reads further.

    Returns:
        A table where there is random access, else a stream.

    Raises:
        ValueError: for a stream that cannot be copied.
    """
    if not isinstance(loader, DataLoader):
        return Stream(_limited(_own_copy(loader, split), limit), loader)
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return Stream(_limited(_own_copy(dataset, split), limit), dataset)
    keys = _sampled_keys(loader, split)
    if not hasattr(dataset, "__len__") and keys is None:
        raise ValueError(
            f"expected the {split} dataset to have __len__ or a sampler that lists its keys, got "
            f"{type(dataset).__name__} without: examples to measure stiffness on could not be chosen"
        )
    return Table(private(dataset), dataset, (range(len(dataset)) if keys is None else keys)[:limit])


def batched(loader: Any) -> bool:
    """Whether a loader's items are whole batches already: automatic batching is off, or it is no DataLoader."""
    return not isinstance(loader, DataLoader) or loader.batch_sampler is None


def private(dataset: Any) -> Any:
    """A shallow copy: file handles and counters that ``dataset[i]`` sets stay away from the run's own.

    The data set itself where it cannot be copied, as one that holds an open HDF5 file.
    """
    try:
        own = copy.copy(dataset)
    except Exception:  # whatever a class of the user's raises
        return dataset
    for name in ("dataset", "datasets"):
        inner = vars(own).get(name) if hasattr(own, "__dict__") else None  # no property, nor what is handed on
        if isinstance(inner, list | tuple) and all(map(_is_dataset, inner)):
            setattr(own, name, [private(part) for part in inner])
        elif _is_dataset(inner):
            setattr(own, name, private(inner))
    return own


def _is_dataset(value: Any) -> bool:
    """Whether a value is a data set rather than the data: a copy of an array would be one of all it holds."""
    return isinstance(value, Dataset) or (hasattr(value, "__getitem__") and is_users(type(value).__module__))


def _sampled_keys(loader: DataLoader[Any], split: str) -> Sequence[Key] | None:
    """The keys that a loader's samplers can give; None for all of the dataset."""
    batches: Any = loader.batch_sampler
    sampler: Any = loader.sampler if batches is None else getattr(batches, "sampler", None)
    if batches is not None and not _plain_batches(batches):
        keys = _read_copy(batches, loader, split, batches=True)
    elif sampler is None or isinstance(sampler, SequentialSampler | RandomSampler | DistributedSampler):
        # A Lightning wrapper for several processes holds the user's own sampler as its dataset
        if not _wraps_sampler(sampler):
            return None
        keys = _read_copy(sampler.dataset._sampler, loader, split)
    elif isinstance(sampler, SubsetRandomSampler):
        keys = list(sampler.indices)
    elif isinstance(sampler, WeightedRandomSampler):
        keys = torch.as_tensor(sampler.weights).nonzero().flatten().tolist()
    else:
        keys = _read_copy(sampler, loader, split)
    if not all(isinstance(key, Hashable) for key in keys):
        return keys
    return list(dict.fromkeys(map(_plain_key, keys)))


def _plain_key(key: Key) -> Key:
    return int(key) if isinstance(key, torch.Tensor | np.integer) else key


def _plain_batches(batches: Any) -> bool:
    """Whether a batch sampler only groups what its ``sampler`` gives; Lightning's own wrappers do."""
    inner = getattr(batches, "_sampler", batches)  # Lightning's wrapper, for predicting
    return type(inner) is BatchSampler or type(inner).__module__.split(".")[0] in ("lightning", "pytorch_lightning")


def _wraps_sampler(sampler: Any) -> bool:
    return hasattr(getattr(sampler, "dataset", None), "_sampler")


def _read_copy(sampler: Any, loader: DataLoader[Any], split: str, *, batches: bool = False) -> list[Any]:
    """What a sampler would give next. Reading the sampler itself would move its random state on.

    One that never ends is read until it has given nothing new for a while.
    """
    own = _own_copy(sampler, split, {id(loader.dataset): loader.dataset})
    entries = (key for batch in own for key in batch) if batches else iter(own)
    size = len(loader.dataset) if hasattr(loader.dataset, "__len__") else _MOST_KEYS  # type: ignore[arg-type]
    keys: list[Any] = []
    known: set[Any] = set()
    new_at = 0
    for key in itertools.islice(entries, _MOST_KEYS):
        keys.append(key)
        if isinstance(key, Hashable) and _plain_key(key) not in known:
            known.add(_plain_key(key))
            new_at = len(keys)
        whole = len(known) == size and isinstance(_plain_key(key), int)
        if whole or (known and len(keys) - new_at > max(_REPEATS, size)):
            break
    return keys


def _own_copy(stream: Any, split: str, memo: dict[int, Any] | None = None) -> Any:
    try:
        own = copy.deepcopy(stream, memo)
        why = "its copy is itself" if own is stream else None
    except Exception as error:
        own, why = None, f"{type(error).__name__}: {error}"
    if why is not None:
        what = "drawn by a sampler" if memo else "a stream"
        raise ValueError(
            f"the {split} data ({type(stream).__name__}) is {what} that cannot be copied ({why}), and examples "
            "read from the run's own would be lost to the training. Name data to choose the examples from: "
            f"StiffnessCallback(dataloaders={{{split!r}: a DataLoader or a dataset}})"
        )
    return own


def _limited(stream: Iterable[Any], limit: int | None) -> Iterable[Any]:
    return stream if limit is None else itertools.islice(stream, limit)


def _identity(dataset: Any, key: Key) -> int:
    while isinstance(dataset, Subset | ConcatDataset):
        if isinstance(dataset, Subset):
            dataset, key = dataset.dataset, int(dataset.indices[key])
        else:
            part = int(np.searchsorted(dataset.cumulative_sizes, key, side="right"))
            key -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
    name = key if isinstance(key, Hashable) else repr(key)
    return hash((id(dataset), name)) % 2**62
