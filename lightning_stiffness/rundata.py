"""The probes of a run: which of its loaders, and how much of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_stiffness.arguments import probe_size, shown
from lightning_stiffness.chosen import Probe
from lightning_stiffness.compat import misconfiguration
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.probe import build_probe

SOURCES = "a DataLoader, a dataset, an iterable of batches, or a list or mapping of such loaders"
"""What ``dataloaders`` takes for a split."""


def choose_probes(
    trainer: Any,
    splits: Sequence[str],
    size: int | None,
    *,
    seed: int,
    label_fn: FieldFn | str | None,
    dataloaders: Mapping[str, Any],
    indices: Mapping[str, Sequence[int]],
    own_loss: bool,
    say: Callable[[str], None],
) -> dict[str, Probe]:
    """A probe of every split that the run has data for.

    Args:
        trainer: the run.
        splits: ``"train"``, ``"val"`` or both.
        size: examples of each; None for 500, or all there are.
        seed: decides which.
        label_fn: function from a batch to labels, ``"auto"`` or None.
        dataloaders: split → loader or dataset to use instead of the run's own.
        indices: split → positions of the examples, where a resumed run has chosen them.
        own_loss: whether the loss is other than that of ``training_step``.
        say: takes a message to the user.

    Returns:
        Split → probe.

    Raises:
        MisconfigurationException: if there is no data at all.
        ValueError: as :func:`build_probe`, for a size less than 2, and for a source that gives no examples.
    """
    probe_size(size)
    probes = {}
    for split in splits:
        named = checked_source(split, dataloaders[split]) if split in dataloaders else None
        loader, limit = _chosen(trainer, split, say) if named is None else (_loaders(named), None)
        if isinstance(loader, Dataset):
            loader = DataLoader(loader, batch_size=None)  # the trainer reads its items as batches
        if loader is None or loader == []:
            say(
                f"the run has no {split} data, so stiffness is measured without it"
                + (": pass val_dataloaders to fit, or splits=('train',)" if split == "val" else "")
            )
            continue
        known = indices.get(split)
        probes[split] = build_probe(loader, split, size, seed=seed, label_fn=label_fn, limit=limit, indices=known)
    if len(probes) > 1 and not own_loss and probes["train"].combined:
        built = [_form(probe.batches[0]) for probe in probes.values()]
        if built[0] != built[1]:
            del probes["val"]
            say(
                f"validation batches ({built[1]}) are built otherwise than those of the training loaders together "
                f"({built[0]}), and training_step takes the latter, so stiffness is measured on training data "
                "alone: pass loss_fn=, or define stiffness_loss(self, batch), for a loss that takes both"
            )
    if not probes:
        raise misconfiguration(trainer, f"there is no data to measure stiffness on: splits={tuple(splits)}")
    return probes


def checked_source(split: str, source: Any, *, within: bool = False) -> Any:
    """What the caller names to choose the examples of a split from.

    Args:
        split: ``"train"`` or ``"val"``.
        source: what came.
        within: whether it is one of several loaders.

    Raises:
        ValueError: for what gives no examples, or does not tell whether its items are examples or batches. An empty
            data set is another error, when the examples are chosen.
    """
    several = isinstance(source, Mapping | list | tuple)
    among = " among several" if within else ""
    readable = (
        isinstance(source, DataLoader | Dataset) or hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    )
    if not readable or isinstance(source, str | bytes | type | Tensor | np.ndarray) or (several and not source):
        got = f"an empty {type(source).__name__}" if several else shown(source)
        pair = ": pair it with labels in a TensorDataset" if isinstance(source, Tensor | np.ndarray) else ""
        raise ValueError(f"expected dataloaders[{split!r}] to be {SOURCES}, got {got}{among}{pair}")
    # A data set of another library, such as Hugging Face's, gives examples where an iterable is to give batches
    if hasattr(source, "__getitem__") and not (several or isinstance(source, DataLoader | Dataset)):
        raise ValueError(
            f"expected dataloaders[{split!r}] to be {SOURCES}, got {shown(source)}{among}, which is "
            "no torch.utils.data.Dataset and does not tell whether it holds examples or batches: pass "
            "DataLoader(examples, batch_size=..., collate_fn=...), or DataLoader(batches, batch_size=None)"
        )
    if several:
        for part in source.values() if isinstance(source, Mapping) else source:
            checked_source(split, part, within=True)
    return source


def _loaders(source: Any) -> Any:
    """Data sets as loaders of their examples, also among several."""
    if isinstance(source, Mapping):
        return {name: _loaders(part) for name, part in source.items()}
    if isinstance(source, list | tuple):
        parts = [_loaders(part) for part in source]
        return tuple(parts) if isinstance(source, tuple) else parts
    return DataLoader(source) if isinstance(source, Dataset) else source


def _form(batch: Batch) -> str:
    """How a batch is built, in words: its outer containers and what they hold."""
    if isinstance(batch, dict):
        return f"dict of {', '.join(f'{key!r}: {_form(value)}' for key, value in batch.items())}"
    if isinstance(batch, list | tuple):
        return f"{len(batch)} entries: {', '.join(_form(value) for value in batch)}"
    return type(batch).__name__


def _chosen(trainer: Any, split: str, say: Callable[[str], None]) -> tuple[Any, int | None]:
    """The run's own loader, and how many of its batches the run reads at most."""
    training = split == "train"
    loader = trainer.train_dataloader if training else trainer.val_dataloaders
    several = isinstance(loader, dict | list | tuple)
    # Training loaders are read together, validation loaders one after the other
    if several and loader and not training:
        if len(loader) > 1:
            say(
                f"stiffness is measured on the first of the {len(loader)} validation loaders: pass "
                "dataloaders={'val': ...} to measure on another"
            )
        loader = next(iter(loader.values())) if isinstance(loader, dict) else loader[0]
    if trainer.overfit_batches <= 0:
        return loader, None
    # A run that overfits a few batches reads no other example
    batches = trainer.num_training_batches if training else (trainer.num_val_batches or [0])[0]
    return loader, int(batches)
