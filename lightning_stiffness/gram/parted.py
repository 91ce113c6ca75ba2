"""Looks at a batch beside its parts: at losses, at gradients, at those of some examples or of all."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_stiffness.gram.apart import (
    halves_of,
    most_apart,
    of_a_sum,
    one_by_one,
    parts_of,
    pieces_of,
    shares_of,
    uneven,
)
from lightning_stiffness.gram.bent import gradients_apart, is_made_of_parts
from lightning_stiffness.gram.familiar import note_seen, place_of, was_seen
from lightning_stiffness.gram.precise import converted, in_double
from lightning_stiffness.gram.problem import EngineRefusal, Examples
from lightning_stiffness.gram.reasons import APART, BENT, DECIDED, NO_MEAN, NO_SUM, NOT_OF_PARTS
from lightning_stiffness.gram.reduction import Reduction
from lightning_stiffness.gram.reference import eager, traced
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.weighing import NO_WEIGHTS, unlike_weights

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.collect import Collector
    from lightning_stiffness.gram.measurement import Measurement

FEW = 8
"""Examples whose losses alone are looked at each time where calls make values of all of them, at least."""

PART = 32
"""Of a large batch it is one of so many."""

MOST_FITTED = 64
"""Single gradients at most of which that of a batch is made: of more, some are likely to be sums of others."""

PARTS = "parts"
"""What was seen of calls, beside which."""

IN_DOUBLE = "in double"
"""The same of what computes in half precision, and whether it does so on a copy in float64 too."""

REFUSED = "refused"
"""The same of what was not right once."""


def key_of(measurement: "Measurement") -> Hashable:
    """What tells that losses were found to be those of parts: the calls, and the examples, as others may be of a
    kind that was not among them."""
    return PARTS, measurement.known_by()


def _against(
    reduction: Reduction, piece: Piece, losses: Tensor, parts: list[slice]
) -> tuple[list[slice], list[float], str]:
    """What the losses of a batch are held against: parts of it, what the loss of each is multiplied with, where
    that of the batch is one number; and what to say if they differ."""
    if losses.numel() == piece.size:
        return parts, [1.0] * len(parts), APART
    if reduction.form == "sum":
        return *of_a_sum(parts), NO_SUM
    return parts, _factors(reduction, piece, parts), NO_MEAN


def _factors(reduction: Reduction, piece: Piece, parts: list[slice]) -> list[float]:
    """What the gradients of parts are multiplied with, so that their sum is that of the batch."""
    return shares_of(parts, piece.size) if reduction.form == "mean" else [1.0] * len(parts)


def look_at_few(
    measurement: "Measurement", piece: Piece, losses: Tensor, turn: int, *, bends: bool, told: bool
) -> None:
    """Refuse a batch in which some examples have other losses than alone, of a few whose turn it is; or other ones
    among few of the others, as what affects them may not have come before; or other gradients, where a function of
    the user's own may bend them. Of a mean or a sum few are looked at alone where Python is told numbers."""
    problem, reduction, size = measurement.problem, measurement.reduction, piece.size
    parts, each = pieces_of(size, turn), losses.numel() == size
    if not (each or reduction.plain):
        return
    if each:
        count = max(FEW, size // PART)
        few = {place_of(one, size) for one in range(count * turn, count * (turn + 1))}
        parts = [*one_by_one(sorted(few)), *parts]
    elif told:
        parts = [*one_by_one(range(size)[parts.pop(turn // 2 % len(parts))]), *parts]
    of, factors, why = _against(reduction, piece, losses, parts)
    refuse(measurement, piece, most_apart(problem, piece, losses, of, factors), why)
    if bends:
        parts = halves_of(size, turn)
        factors = _factors(reduction, piece, parts)
        refuse(measurement, piece, gradients_apart(problem, piece, losses, parts, factors, measurement.room), BENT)


def look_at_all(measurement: "Measurement", piece: Piece, losses: Tensor) -> None:
    """Refuse a batch for which something else was computed than for one of its examples alone."""
    problem, reduction, singles = measurement.problem, measurement.reduction, one_by_one(range(piece.size))
    each, parts = losses.numel() == piece.size, parts_of(piece.size)
    if each or reduction.plain:
        of, factors, why = _against(reduction, piece, losses, singles)
        refuse(measurement, piece, most_apart(problem, piece, losses, of, factors), why)
        if why == NO_SUM:
            factors = _factors(reduction, piece, parts)
            bent = gradients_apart(problem, piece, losses, parts, factors, measurement.room)
            refuse(measurement, piece, bent, BENT)
    elif reduction.weighted:
        refuse(measurement, piece, (0, 1.0), DECIDED)
    elif is_made_of_parts(problem, piece, parts, measurement.room) is False:
        refuse(measurement, piece, (0, 1.0), NOT_OF_PARTS)


def stays_half(measurement: "Measurement") -> bool:
    """Whether what computes in half precision does so on a copy in float64 too, as what is converted to it; an
    autocast leaves float64 as it is."""
    key, place = (IN_DOUBLE, key_of(measurement)), measurement.reference.position
    for half in (False, True):
        if was_seen((key, half)):
            return half
    try:
        own = in_double(measurement.problem, list(measurement.problem.parameters))
        with own.kept(), eager():
            reference, _ = traced(own, Examples.of(converted(measurement.every.one(place))), 0)
    except Exception:  # a module that can't be copied, or does not run in float64
        return True
    half = reference.is_reduced()
    note_seen((key, half))
    return half


def refuse(measurement: "Measurement", piece: Piece, worst: tuple[int, float] | None, why: str) -> None:
    """Refuse the examples, and remember the one that is otherwise, if there is one. As values decide, what was seen
    of these calls does not count, nor what will be."""
    if worst is not None:
        note_seen((REFUSED, key_of(measurement)))
        measurement.alone.refute([piece.offset + piece.start + worst[0]])
        raise EngineRefusal(why.format(worst[1]))


def look_closely(
    measurement: "Measurement", collector: "Collector", piece: Piece, losses: Tensor, *, closer: bool, every: bool
) -> tuple[tuple[int, float], str] | None:
    """The example that is otherwise in parts of a batch, and by how much; and what to say of it. None if none is.

    Args:
        measurement: what is measured; it learns that a mean is a weighted one.
        collector: collects gradients.
        piece: the batch.
        losses: of its examples, or one number.
        closer: whether gradients are to be looked at too.
        every: whether the losses of all single examples are, where gradients are.
    """
    problem, reduction, one = measurement.problem, measurement.reduction, losses.numel() != piece.size
    singles, parts = one_by_one(range(piece.size)), parts_of(piece.size)
    few, added = singles if closer and every else parts, one and reduction.form == "sum"
    if one and reduction.form is None:
        of = few if len(few) <= MOST_FITTED else parts
        if closer and is_made_of_parts(problem, piece, of, measurement.room) is False:
            return (0, 1.0), NOT_OF_PARTS
    else:
        of, by, why = _against(reduction, piece, losses, few)
        worst = None if added and few is parts else most_apart(problem, piece, losses, of, by)
        # where more than the loss is made of all examples, it need not be their weights that makes the difference
        rescued = one and not added and len(few) <= MOST_FITTED
        if worst is not None and not (rescued and is_made_of_parts(problem, piece, few, measurement.room)):
            return worst, why
        if worst is not None:
            reduction.could_be_mean = False  # the examples compared before weigh as much as all do
        elif closer:
            factors = _factors(reduction, piece, parts)
            bent = gradients_apart(problem, piece, losses, parts, factors, measurement.room)
            if bent is not None:
                return bent, BENT
    uneven_weights = (
        unlike_weights(measurement, collector, piece, uneven(piece.size)) if reduction.weighted else None
    )
    return None if uneven_weights is None else (uneven_weights, NO_WEIGHTS)
