"""The classes of a probe, numbered from 0 over all its splits, with names and groups."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_stiffness.functional.superclasses import superclass_tensor
from lightning_stiffness.probeset import ProbeSet
from lightning_stiffness.settings import Settings


@dataclass(frozen=True)
class Classes:
    """The classes of all splits, numbered from 0."""

    names: list[str]
    labels: dict[str, Tensor]
    levels: list[Tensor]
    """Group of each class, level by level."""


def find_classes(probe: dict[str, ProbeSet], settings: Settings, notes: list[str]) -> Classes | None:
    """The classes over all splits, or None where some split has none, with a note unless none are wanted."""
    without = [split for split, part in probe.items() if part.labels is None]
    if any("labels" in part.unwanted for part in probe.values()):
        return None
    if without:
        notes.append(
            f"no class labels in the {' and '.join(without)} batches, so class-wise stiffness is left out; "
            "pass a function batch -> integer labels [n] (label_fn= in the callback, labels= in "
            "measure_stiffness) to have it"
        )
        return None
    labels = {split: part.labels for split, part in probe.items() if part.labels is not None}
    present = torch.cat(list(labels.values())).unique()
    levels = settings.levels
    given = settings.class_names if settings.class_names is not None else levels[0] if levels else None
    if given is not None:
        count = len(given)
        if int(present.min()) < 0 or int(present.max()) >= count:
            what = "class_names" if settings.class_names is not None else "superclasses"
            raise ValueError(
                f"expected {what} to have an entry for every class, but labels run from {int(present.min())} to "
                f"{int(present.max())} and {what} has {count} "
                f"{'entry' if count == 1 else 'entries'}"
            )
        names = list(map(str, settings.class_names or range(count)))
    else:
        # Labels may be any integers: number the classes that occur.
        names = [str(int(label)) for label in present]
        labels = {split: torch.searchsorted(present, own) for split, own in labels.items()}
    if len(present) < 2:
        notes.append(
            f"all examples of the probe are of one class ({names[int(next(iter(labels.values()))[0])]}), so "
            "between-class stiffness is NaN"
        )
    return Classes(names, labels, [superclass_tensor(groups, len(names)) for groups in levels])
