"""The probes of a run: which of its loaders, and how much of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from lightning_stiffness.compat import misconfiguration
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.probe import Probe, build_probe


def choose_probes(
    trainer: Any,
    splits: Sequence[str],
    size: int | None,
    *,
    seed: int,
    label_fn: FieldFn | str | None,
    dataloaders: Mapping[str, Any],
    indices: Mapping[str, Sequence[int]],
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
        say: takes a message to the user.

    Returns:
        Split → probe.

    Raises:
        MisconfigurationException: if there is no data at all.
        ValueError: as :func:`build_probe`.
    """
    probes = {}
    for split in splits:
        loader, limit = _chosen(trainer, split, say) if split not in dataloaders else (dataloaders[split], None)
        if isinstance(loader, Dataset):
            loader = DataLoader(loader)
        if loader is None or loader == []:
            say(
                f"the run has no {split} data, so stiffness is measured without it"
                + (": pass val_dataloaders to fit, or splits=('train',)" if split == "val" else "")
            )
            continue
        known = indices.get(split)
        probes[split] = build_probe(loader, split, size, seed=seed, label_fn=label_fn, limit=limit, indices=known)
    if not probes:
        raise misconfiguration(trainer, f"there is no data to measure stiffness on: splits={tuple(splits)}")
    return probes


def _chosen(trainer: Any, split: str, say: Callable[[str], None]) -> tuple[Any, int | None]:
    """The run's own loader, and how many of its batches the run reads at most."""
    training = split == "train"
    loader = trainer.train_dataloader if training else trainer.val_dataloaders
    several = isinstance(loader, dict | list | tuple)
    # Validation loaders are read one after the other, training loaders together unless the user says otherwise
    combined = getattr(trainer.fit_loop, "_combined_loader", None)
    if several and loader and (not training or getattr(combined, "_mode", "") == "sequential"):
        kind = "training" if training else "validation"
        if len(loader) > 1:
            say(
                f"stiffness is measured on the first of the {len(loader)} {kind} loaders: pass "
                f"dataloaders={{{split!r}: ...}} to measure on another"
            )
        loader = next(iter(loader.values())) if isinstance(loader, dict) else loader[0]
    if trainer.overfit_batches <= 0:
        return loader, None
    # A run that overfits a few batches reads no other example
    batches = trainer.num_training_batches if training else (trainer.num_val_batches or [0])[0]
    return loader, int(batches)
