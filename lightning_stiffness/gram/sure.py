"""What the loss of a batch is of its examples' losses, where the calls behind it leave no other way."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram.batch import Batch, is_per_example, leaves
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.problem import Examples
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.rowwise import (
    ERRORS,
    LOSSES,
    MEANS,
    SUMS,
    given_to,
    is_old,
    is_rowwise,
    taken_by_linear,
)

_IGNORING: frozenset[Any] = frozenset({F.cross_entropy, F.nll_loss})
"""Losses whose mean is one over the examples with labels that are not to be ignored."""

_WEIGHED_IN: frozenset[Any] = frozenset({F.binary_cross_entropy, F.binary_cross_entropy_with_logits})
"""Losses whose mean is one over all entries, whatever they weigh; that of others is divided by their weights."""

_COPYING: frozenset[Any] = frozenset({Tensor.clone, torch.clone, Tensor.contiguous, Tensor.detach, Tensor.long})
"""What gives labels as they are, in other memory."""

_QUIET: frozenset[Any] = frozenset(
    {
        *(Tensor.dim, Tensor.size, Tensor.numel, Tensor.__len__, Tensor.is_floating_point),
        torch._C._set_grad_enabled,  # as by torch.no_grad
        *(
            vars(torch._C.TensorBase)[name].__get__
            for name in ("shape", "ndim", "dtype", "device", "requires_grad")
        ),
    }
)
"""What gives Python something that is the same for every example."""


@dataclass(frozen=True)
class Sure:
    """What the loss of a batch is of those of its examples, whatever their values are."""

    form: str
    """``"each"`` where they are one for each example, ``"mean"`` or ``"sum"``."""
    weights: Tensor | None = None
    """``[n]``, float64: of all examples, in a mean in which they weigh otherwise than each other; else None."""

    def factor(self, start: int, size: int, place: int) -> float:
        """What becomes of an example's gradient in a batch.

        Args:
            start: position of the first example of the batch.
            size: how many it has.
            place: of the example in it.
        """
        if self.form != "mean":
            return 1.0
        if self.weights is None:
            return 1 / size
        weights = self.weights[start : start + size]
        return float(weights[place] / weights.sum())


def sure_form(reference: Reference, parts: Iterable[nn.Module], examples: Examples) -> Sure | None:
    """What the loss of a batch is of those of its examples, where that is sure whatever their values are.

    It is where everything that an example's loss comes from leaves the rows of a batch to themselves, up to the
    call that makes one number of them, if there is one. Then the gradients of one example in a batch tell of those
    of all. Most modules have something of which that is not sure, as a slice, whose numbers may be those of
    examples: of these, two are looked at. So they are where a batch holds anything but tensors with a row for each
    example, where Python is given values, which it may decide by; and where a tensor comes from none of the calls,
    as scripted code calls nothing that is seen.

    Args:
        reference: an example alone.
        parts: the module and its submodules; their parameters and buffers are the same for all examples.
        examples: all of them.

    Returns:
        None where it is not sure.
    """
    ending = reference.calls[-1:]  # which is made one number at the end
    if not ending or ending[0].function is not Tensor.reshape:
        return None
    held = _memory(examples)
    if held is None:
        return None
    if reference.changed_unseen:
        return None
    since = {id(one): -1 for part in parts for one in (*part._parameters.values(), *part._buffers.values())}
    for k, call in enumerate(reference.calls):
        for one in call.made:
            since.setdefault(id(one), k)
    loss: Tensor = ending[0].args[0]
    sure, needed = Sure("each") if loss.ndim else None, {_place(loss)}
    taken, constant = taken_by_linear(reference), {place for place, k in since.items() if k < 0}
    for k in reversed(range(len(reference.calls) - 1)):
        call = reference.calls[k]
        outs = call.made
        if not outs:
            if call.function not in _QUIET:
                return None
            continue
        if needed.isdisjoint(map(_place, outs)):  # as of an accuracy, of which the loss knows nothing
            continue
        if sure is None:
            sure = _total(call, constant, reference, examples)
            if sure is None:
                return None
        elif not is_rowwise(call, taken, constant):
            return None
        given = [*call.given]
        if inplace(call.function) and isinstance(call.out, Tensor):
            given[0] = call.out  # which is what it changed
        if any(since.get(id(one), k) >= k and _place(one) not in held for one in given):
            return None
        needed.update(map(_place, given))
    return sure


def are_alike(batches: Iterable[Batch]) -> bool:
    """Whether batches differ by nothing but how many examples they have, and their values."""
    kinds = [_kind(batch) for batch in batches]
    return all(kind == kinds[0] for kind in kinds)


def _kind(node: Any) -> tuple[Any, ...]:
    if isinstance(node, Tensor):
        return type(node), node.dtype, node.shape[1:]
    if isinstance(node, tuple | list):
        return type(node), *map(_kind, node)
    if isinstance(node, Mapping):
        return type(node), *((key, _kind(item)) for key, item in node.items())
    return type(node), *((path, _kind(leaf)) for path, leaf in leaves(node) if leaf is not node)


def _memory(examples: Examples) -> set[int] | None:
    """Where the tensors of the batches lie; None if they hold anything but a row for each example."""
    held: set[int] = set()
    for batch, size in zip(examples.batches, examples.sizes, strict=True):
        for _, leaf in leaves(batch):
            if not isinstance(leaf, Tensor) or not is_per_example(leaf, size):
                return None
            held.add(_place(leaf))
    return held


def _place(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # it has no memory of its own, as within vmap
        return -id(tensor)


def _total(call: Call, constant: set[int], reference: Reference, examples: Examples) -> Sure | None:
    """What a call makes of the examples that it is given, if it is their mean, or their sum.

    Args:
        call: of one example.
        constant: identities of the tensors that are the same for all examples.
        reference: the example.
        examples: all of them.
    """
    function, tensors = call.function, given_to(call)
    if function in MEANS or function in SUMS:
        whole = len(call.args) == 1 and call.kwargs.keys() <= {"dtype"}
        first = tensors[0].ndim == 1 and (*call.args[1:], *call.kwargs.items()) in ((0,), (("dim", 0),))
        return Sure("mean" if function in MEANS else "sum") if whole or first else None
    form = call.kwargs.get("reduction")
    if form not in ("mean", "sum") or is_old(call):
        return None
    if function in ERRORS:
        plain = function in _WEIGHED_IN or call.kwargs.get("weight") is None
        return Sure(form) if plain and all(one.shape == tensors[0].shape and one.ndim for one in tensors) else None
    if function in _IGNORING and form == "mean" and not tensors[1].is_floating_point():
        weight = call.kwargs.get("weight")
        if weight is not None and (id(weight) not in constant or weight.requires_grad or bool((weight < 0).any())):
            return None
        source = _source(tensors[1], reference)
        labels = None if source is None else _labels(source, reference.position, examples)
        return None if labels is None else _weighing(labels, weight, call.kwargs.get("ignore_index", -100))
    return Sure(form) if function in LOSSES and len(tensors) == 2 else None  # others weigh classes


def _source(tensor: Tensor, reference: Reference) -> Tensor | None:
    """What a tensor is a copy of; None where some of it was changed in place."""
    for call in reversed(reference.calls):
        if inplace(call.function) and any(one is tensor for one in (call.out, *call.args[:1])):
            return None
        if call.out is tensor and call.function in _COPYING and call.args:
            tensor = call.args[0]
    return tensor


def _labels(one: Tensor, position: int, examples: Examples) -> list[Tensor] | None:
    """Of all examples, in order; None where those of one are not as they are in its batch.

    Args:
        one: labels of one example.
        position: of the example.
        examples: all of them.
    """
    for batch, size in zip(examples.batches, examples.sizes, strict=True):
        if position < size:
            found = [path for path, leaf in leaves(batch) if _is_row(one, leaf[position : position + 1])]
            every = [leaf for batch in examples.batches for path, leaf in leaves(batch) if found[:1] == [path]]
            return every if len(every) == len(examples.batches) else None
        position -= size
    return None


def _is_row(one: Tensor, row: Tensor) -> bool:
    return one.data_ptr() == row.data_ptr() and one.numel() == row.numel() and one.dtype == row.dtype


def _weighing(labels: list[Tensor], weight: Tensor | None, ignored: int) -> Sure:
    """A mean over what is not to be ignored, where classes may have weights: an example weighs as much as all of it
    does together."""
    some = any(bool((leaf == ignored).any()) for leaf in labels)
    if weight is None and not some:
        return Sure("mean")
    weights = []
    for leaf in labels:
        leaf = leaf.cpu().long()
        counts = leaf != ignored
        of_each = counts.double() if weight is None else weight.cpu().double()[leaf.where(counts, 0)] * counts
        weights.append(of_each.flatten(1).sum(1) if leaf.ndim > 1 else of_each)
    return Sure("mean", torch.cat(weights))
