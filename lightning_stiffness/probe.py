"""The fixed, stratified probe: which examples of a dataset stiffness is measured on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_stiffness.chosen import Probe
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import Examples
from lightning_stiffness.gram.batch import Batch, batch_size, leaves, take
from lightning_stiffness.gram.state import seeded
from lightning_stiffness.probeset import AUTO, probe_fields
from lightning_stiffness.rows import has_rows, order_of_rows
from lightning_stiffness.sources import Key, Stream, Table, batched, source_of
from lightning_stiffness.strata import dataset_labels, labels_of_batches, stratified
from lightning_stiffness.surroundings import kept_surroundings

DEFAULT_SIZE = 500
"""Examples of each split where the caller names no number, as in the paper for 10 classes."""


def build_probe(
    loader: Any,
    split: str,
    size: int | None,
    *,
    seed: int,
    label_fn: FieldFn | str | None = AUTO,
    limit: int | None = None,
    indices: Sequence[int] | None = None,
) -> Probe:
    """Choose examples of a loader's dataset, the classes in equal numbers, and collate them.

    The loader itself is never iterated: that would change the order of the training data. Examples come from
    ``dataset[i]`` through the loader's own ``collate_fn``, those of a stream from a copy of the stream; the
    random state of the run is kept. From several loaders together, in a list or a mapping, come examples that
    hold one of each, as the training step sees them.

    Args:
        loader: a ``DataLoader``, an iterable of batches, or a list or mapping of such.
        split: ``"train"`` or ``"val"``, for messages.
        size: number of examples; None for 500, or all there are.
        seed: decides which examples, and the random augmentations in ``dataset[i]``.
        label_fn: function from a batch to labels; ``"auto"``: found in the dataset or the batch; None: none.
        limit: only the first so many batches, where the run itself never reads further.
        indices: positions of the examples, where they are known from an earlier part of the run.

    Returns:
        The probe.

    Raises:
        ValueError: for an empty dataset, one smaller than ``size``, or a stream that cannot be copied.
    """
    with seeded(seed), kept_surroundings(*_sources(loader)):
        if isinstance(loader, dict | list | tuple):
            return _combined(loader, split, size, seed, label_fn, limit)
        if limit is not None and not batched(loader):
            limit *= int(loader.batch_size or 1)
        source = source_of(loader, split, limit)
        if batched(loader):
            return _of_batches(source, loader, split, size, seed)
        if indices is not None and isinstance(source, Table) and len(indices) > 1:
            known = set(source.keys) if not isinstance(source.keys, range) else source.keys
            if all(index in known for index in indices):
                return _collated(loader, source, source.read(indices), indices)
        return _of_examples(source, loader, split, size, seed, label_fn)


def _sources(loader: Any) -> list[Any]:
    """What gives a loader's examples: data sets, also those within others, and the collate function."""
    if isinstance(loader, dict | list | tuple):
        loaders = loader.values() if isinstance(loader, dict) else loader
        return [source for one in loaders for source in _sources(one)]
    waiting, found = [getattr(loader, "dataset", loader)], [getattr(loader, "collate_fn", None)]
    while waiting:
        source = waiting.pop()
        if source is not None and not any(source is known for known in found):
            found.append(source)
            inner = getattr(source, "datasets", None)
            waiting += [getattr(source, "dataset", None), *(inner if isinstance(inner, list | tuple) else ())]
    return found


def _of_examples(
    source: Table | Stream, loader: Any, split: str, size: int | None, seed: int, label_fn: FieldFn | str | None
) -> Probe:
    """A probe of examples that the loader would put into batches."""
    keys: Sequence[Key]
    labels = None
    if isinstance(source, Table):
        wanted = _wanted(size, len(source.keys), split)
        order = torch.randperm(len(source.keys), generator=torch.Generator().manual_seed(seed)).tolist()
        keys = [source.keys[i] for i in order]
        numbered = hasattr(source.dataset, "__len__") and all(isinstance(key, int) for key in keys)
        known = dataset_labels(source.dataset) if numbered and label_fn == AUTO else None
        if known is not None:
            first = stratified(known[torch.tensor(keys)], wanted).tolist()
            others = sorted(set(range(len(keys))) - set(first))
            keys, samples = _present(source, [keys[i] for i in (*first, *others)], wanted)
            _wanted(size, len(samples), split)
            return _collated(loader, source, samples, keys)
        # Only the examples themselves can tell their class: look at twice as many as are needed.
        keys, samples = _present(source, keys, 2 * wanted)
        wanted = min(wanted, _wanted(size, len(samples), split))
    else:
        read = source.read(2 * (size or DEFAULT_SIZE))
        keys, samples = _there(range(len(read)), read)
        wanted = _wanted(size, len(samples), split)
    if label_fn is not None:
        labels = labels_of_batches(
            samples,
            lambda sample: probe_fields(loader.collate_fn([sample]), 1, labels=label_fn, inputs=None)[0],
        )
    places = list(range(wanted)) if labels is None else stratified(labels, wanted).tolist()
    return _collated(loader, source, [samples[i] for i in places], [keys[i] for i in places])


def _present(source: Table, keys: Sequence[Key], count: int) -> tuple[Sequence[Key], list[Any]]:
    """The first ``count`` examples that are there, and their keys. Data sets give None for a broken file, which
    the collate function leaves out."""
    found, samples = _there(keys[:count], source.read(keys[:count]))
    for key in keys[count:]:
        if len(samples) == count:
            break
        more, read = _there([key], source.read([key]))
        found, samples = [*found, *more], [*samples, *read]
    return found, samples


def _there(keys: Sequence[Key], samples: list[Any]) -> tuple[Sequence[Key], list[Any]]:
    if not any(sample is None for sample in samples):
        return keys, samples
    kept = [(key, sample) for key, sample in zip(keys, samples, strict=True) if sample is not None]
    return [key for key, _ in kept], [sample for _, sample in kept]


def _collated(loader: Any, source: Table | Stream, samples: list[Any], keys: Sequence[Key]) -> Probe:
    batch, size = loader.collate_fn(samples), len(samples)
    first = loader.collate_fn(samples[:1])
    # A list with one entry per example, such as images of several sizes, has no axis of examples: with fewer
    # examples it has fewer leaves.
    entries = len(list(leaves(batch))) - len(list(leaves(first)))
    singles = None
    if entries or _examples_in(batch) != size or not has_rows(batch, size, first):
        singles = [loader.collate_fn([sample]) for sample in samples]
    else:
        order = order_of_rows(batch, size, lambda k: loader.collate_fn([samples[k]]))
        keys = [keys[k] for k in order]
    return Probe((batch,), (size,), singles, *_places(source, keys))


def _of_batches(source: Table | Stream, loader: Any, split: str, size: int | None, seed: int) -> Probe:
    """A probe of whole batches, where the loader's items are such; an item without a batch axis is an example."""
    if isinstance(source, Table):
        order = torch.randperm(len(source.keys), generator=torch.Generator().manual_seed(seed)).tolist()
        keys: Any = (source.keys[i] for i in order)
        items = ((key, source.read([key])[0]) for key in keys)
    else:
        items = enumerate(source.items)
    enough = size or DEFAULT_SIZE
    batches: list[Batch] = []
    sizes: list[int] = []
    keys = []
    for key, item in items:
        batch = loader.collate_fn(item) if isinstance(loader, DataLoader) else item
        found = 1 if _is_single(batch) else _examples_in(batch) or 1
        rest = enough - sum(sizes)
        if found > rest:
            batch, found = take(batch, slice(0, rest), found), rest
        batches.append(batch)
        sizes.append(found)
        keys += [(key, i) for i in range(found)]
        if sum(sizes) == enough:
            break
    _wanted(size, sum(sizes), split)
    singles = batches if set(sizes) == {1} else None
    return Probe(tuple(batches), tuple(sizes), singles, *_places(source, keys))


def _combined(
    loaders: Any, split: str, size: int | None, seed: int, label_fn: FieldFn | str | None, limit: int | None
) -> Probe:
    """Examples that hold one of each loader."""
    named = list(loaders.items()) if isinstance(loaders, dict) else list(enumerate(loaders))
    if not named:
        raise ValueError(f"expected {split} loaders to measure stiffness on, got an empty {type(loaders).__name__}")
    label = label_fn if label_fn == AUTO else None  # a caller's function takes the batch of all loaders
    parts = [build_probe(part, split, size, seed=seed, label_fn=label, limit=limit) for _, part in named]
    least = min(len(part) for part in parts)

    def together(batches: Sequence[Batch]) -> Batch:
        if isinstance(loaders, dict):
            return dict(zip((name for name, _ in named), batches, strict=True))
        return type(loaders)(batches)

    first = parts[0]
    if all(len(part.batches) == 1 and part.singles is None for part in parts):
        batch = together([take(p.batches[0], slice(0, least), len(p)) for p in parts])
        return Probe((batch,), (least,), None, first.indices[:least], first.identity[:least], combined=True)
    examples = [Examples(p.batches, p.sizes, p.singles) for p in parts]
    singles = [together([part.one(i) for part in examples]) for i in range(least)]
    ones = (1,) * least
    return Probe(tuple(singles), ones, singles, first.indices[:least], first.identity[:least], combined=True)


def _wanted(size: int | None, available: int, split: str) -> int:
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
    return wanted


def _examples_in(batch: Batch) -> int | None:
    """Number of examples in a batch; None where it has no axis of examples."""
    try:
        return batch_size(batch)
    except ValueError:
        return None


def _is_single(item: Any) -> bool:
    """Whether what a loader without batching gives is one example: an image ``[3, h, w]`` with a plain label."""
    alone = [
        leaf.ndim == 0 if isinstance(leaf, Tensor) else isinstance(leaf, int | float) for _, leaf in leaves(item)
    ]
    return 2 * sum(alone) >= len(alone)


def _places(source: Table | Stream, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
    indices = torch.tensor([key if isinstance(key, int) else -1 for key in keys])
    return indices, torch.tensor([_identity(source, key) for key in keys])


def _identity(source: Table | Stream, key: Key) -> int:
    if isinstance(key, tuple):  # position in a batch
        return hash((source.identity(key[0]), key[1])) % 2**62
    return source.identity(key)
