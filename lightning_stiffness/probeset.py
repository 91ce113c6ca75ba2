"""The examples that stiffness is measured on, with their classes, inputs and identities."""

from dataclasses import dataclass

from torch import Tensor

from lightning_stiffness.arguments import function
from lightning_stiffness.fields import LEFT_OUT, FieldFn, apply_field, check_labels, find_inputs, find_labels
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
    unwanted: frozenset[str] = frozenset()
    """``"labels"`` and ``"inputs"``, where the caller wants none: that they are left out needs no message."""


def probe_of_batch(
    batch: Batch, *, labels: FieldFn | str | None = AUTO, inputs: FieldFn | str | None = AUTO
) -> ProbeSet:
    """A probe set of the examples of one batch; arguments and errors as in :func:`measure_stiffness`."""
    examples = Examples.of(batch)
    names = ("labels", "inputs")
    fields = probe_fields(batch, len(examples), labels=labels, inputs=inputs, names=names)
    return ProbeSet(examples, *fields, unwanted=unwanted(labels, inputs))


def unwanted(labels: FieldFn | str | None, inputs: FieldFn | str | None) -> frozenset[str]:
    """What the caller wants none of.

    Example:
        >>> unwanted(None, "auto")
        frozenset({'labels'})
    """
    return frozenset(name for name, given in (("labels", labels), ("inputs", inputs)) if given is None)


def probe_fields(
    batch: Batch,
    size: int,
    *,
    labels: FieldFn | str | None,
    inputs: FieldFn | str | None,
    names: tuple[str, str] = ("label_fn", "input_fn"),
) -> tuple[Tensor | None, Tensor | None]:
    """Labels and inputs of a batch, found or taken by the caller's functions.

    Args:
        batch: what a collate function returns.
        size: its number of examples.
        labels: function from a batch to labels; ``"auto"``: found in the batch; None: none.
        inputs: the same for inputs.
        names: the arguments that the two were given as, for messages.
    """
    of_labels, of_inputs = names
    found_labels, found_inputs = None, None
    # Not "labels == AUTO": an array by mistake in this place compares entry by entry.
    if isinstance(labels, str) and labels == AUTO:
        found_labels = find_labels(batch, size)
    elif labels is not None:
        own = checked_field(of_labels, labels)
        found_labels = check_labels(apply_field(own, of_labels, batch, size), size, of_labels)
    if isinstance(inputs, str) and inputs == AUTO:
        found_inputs = find_inputs(batch, size)
    elif inputs is not None:
        found_inputs = apply_field(checked_field(of_inputs, inputs), of_inputs, batch, size)
    return found_labels, found_inputs


def checked_field(argument: str, value: object) -> FieldFn:
    """A function of a batch that gives its labels or its inputs.

    Args:
        argument: the argument that it was given as, a key of :data:`lightning_stiffness.fields.LEFT_OUT`.
        value: what came.

    Raises:
        ValueError: for anything else; the message says how to leave labels or inputs out.
    """
    of_labels = argument in ("label_fn", "labels")
    what, example = ("integer classes [n]", "batch[1]") if of_labels else ("tensors [n, …]", "batch[0].flatten(1)")
    form = (
        f"a function of a batch that returns {what}, such as {argument}=lambda batch: {example}, or "
        f"{LEFT_OUT[argument]} to leave {'classes' if of_labels else 'distances'} out"
    )
    return function(argument, value, ("batch",), form)


def chosen_field(argument: str, value: object) -> FieldFn | str | None:
    """What ``label_fn`` or ``input_fn`` of the callback means: None there is to find them, False to do without."""
    if value is None:
        return AUTO
    return None if value is False else checked_field(argument, value)


def same_examples(a: ProbeSet, b: ProbeSet) -> Tensor | None:
    """Pairs of an example with itself between two sets, ``[n, m]``; None where there can be none."""
    if a.identity is None or b.identity is None:
        return None
    return a.identity[:, None] == b.identity[None, :]
