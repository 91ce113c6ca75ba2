"""The probe of one split as it was chosen: its batches on the CPU, and as a set of examples on their device."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import Examples
from lightning_stiffness.gram.batch import Batch, map_leaves
from lightning_stiffness.probeset import AUTO, ProbeSet, probe_fields, unwanted


@dataclass(frozen=True)
class Probe:
    """The probe of one split, on the CPU as the collate function returned it."""

    batches: tuple[Batch, ...]
    """All examples, in one batch where the loader makes its batches of single examples."""
    sizes: tuple[int, ...]
    """Examples in each batch."""
    singles: list[Batch] | None
    """One batch per example, where a batch cannot be cut into examples."""
    indices: Tensor
    """Position of each example in the split's dataset, ``[n]``; -1 where its key is no index."""
    identity: Tensor
    """Number ``[n]`` that two examples share only if they are the same item of the same dataset."""
    combined: bool = False
    """Whether an example is made of one from each of several loaders."""

    def __len__(self) -> int:
        return sum(self.sizes)

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
            moved = tuple(transfer(copied(batch)) for batch in self.batches)
            examples = Examples(moved, self.sizes)
        else:
            moved = tuple(transfer(copied(single)) for single in self.singles)
            examples = Examples(moved, (1,) * len(moved), moved)
        each = [
            _fields(batch, size, label_fn, input_fn, self.combined)
            for batch, size in zip(examples.batches, examples.sizes, strict=True)
        ]
        fields = (_stacked([one[0] for one in each]), _stacked([one[1] for one in each]))
        return ProbeSet(examples, *fields, self.identity, self.indices, unwanted(label_fn, input_fn))


def copied(batch: Batch) -> Batch:
    """The batch with its tensors copied: transfer hooks may change them in place."""
    return map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else copy.copy(leaf), batch)


def _fields(
    batch: Batch, size: int, label_fn: FieldFn | str | None, input_fn: FieldFn | str | None, combined: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Labels and inputs; where several loaders are combined, from the first part that has them."""
    if not combined:
        return probe_fields(batch, size, labels=label_fn, inputs=input_fn)
    parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
    found: list[Tensor | None] = []
    for which, function in enumerate((label_fn, input_fn)):
        candidates = parts if function == AUTO else [batch]
        arguments = ({"labels": function, "inputs": None}, {"labels": None, "inputs": function})[which]
        each = (probe_fields(candidate, size, **arguments)[which] for candidate in candidates)
        found.append(next((entry for entry in each if entry is not None), None))
    return found[0], found[1]


def _stacked(entries: Sequence[Tensor | None]) -> Tensor | None:
    present = [entry for entry in entries if entry is not None]
    if len(present) < len(entries) or any(entry.shape[1:] != present[0].shape[1:] for entry in present):
        return None
    return torch.cat(present)
