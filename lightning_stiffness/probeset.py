"""The examples that stiffness is measured on, with their classes, inputs and identities."""

from dataclasses import dataclass

from torch import Tensor

from lightning_stiffness.fields import FieldFn, apply_field, check_labels, find_inputs, find_labels
from lightning_stiffness.gram import Examples
from lightning_stiffness.gram.batch import Batch

AUTO = "auto"


@dataclass(frozen=True)
class ProbeSet:
    """The examples of one split that stiffness is measured on."""

    examples: Examples
    labels: Tensor | None = None
    """Classes ``[n]`` as the dataset numbers them; None where it has none."""
    inputs: Tensor | None = None
    """Inputs ``[n, …]`` between which distances are taken; None where they have none."""
    identity: Tensor | None = None
    """What tells an example from another across splits, ``[n]``; None: no example is in two splits."""
    indices: Tensor | None = None
    """Position of each example in its dataset ``[n]``; None where there is none."""


def probe_of_batch(
    batch: Batch, *, labels: FieldFn | str | None = AUTO, inputs: FieldFn | str | None = AUTO
) -> ProbeSet:
    """A probe set of the examples of one batch; arguments and errors as in :func:`measure_stiffness`."""
    examples = Examples.of(batch)
    return ProbeSet(examples, *probe_fields(batch, len(examples), labels=labels, inputs=inputs))


def probe_fields(
    batch: Batch, size: int, *, labels: FieldFn | str | None, inputs: FieldFn | str | None
) -> tuple[Tensor | None, Tensor | None]:
    """Labels and inputs of a batch, found or taken by the caller's functions."""
    found_labels, found_inputs = None, None
    if labels == AUTO:
        found_labels = find_labels(batch, size)
    elif callable(labels):
        found_labels = check_labels(apply_field(labels, "label_fn", batch, size), size, "label_fn")
    elif labels is not None:
        raise ValueError(f"expected a function batch -> labels [n], 'auto' or None, got {labels!r}")
    if inputs == AUTO:
        found_inputs = find_inputs(batch, size)
    elif callable(inputs):
        found_inputs = apply_field(inputs, "input_fn", batch, size)
    elif inputs is not None:
        raise ValueError(f"expected a function batch -> inputs [n, …], 'auto' or None, got {inputs!r}")
    return found_labels, found_inputs


def same_examples(a: ProbeSet, b: ProbeSet) -> Tensor | None:
    """Pairs of an example with itself between two sets, ``[n, m]``; None where there can be none."""
    if a.identity is None or b.identity is None:
        return None
    return a.identity[:, None] == b.identity[None, :]
