"""A batch held against its parts, where a call makes numbers of all examples together."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_stiffness.gram.alone import AGAIN
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
from lightning_stiffness.gram.coupling import COUPLED
from lightning_stiffness.gram.draws import DRAWS
from lightning_stiffness.gram.familiar import DOUBTED, note_seen, place_of, was_seen
from lightning_stiffness.gram.injected import OTHERS, depends_on_what_is_told
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.reasons import (
    ALONG,
    APART,
    BENT,
    BY_SIZE,
    DECIDED,
    NO_MEAN,
    NO_SUM,
    NO_TELLING,
    NOT_OF_PARTS,
)
from lightning_stiffness.gram.reduction import Reduction
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.shown import Shown
from lightning_stiffness.gram.tail import AGAINST, UNSEEN
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

TOLD = "told"
"""What was seen of calls, beside which, of numbers that Python is given."""

PARTS = "parts"
"""What was seen of calls, beside which."""

REFUSED = "refused"
"""The same of what was not right once."""


def refuse_mixing(measurement: "Measurement", collector: "Collector") -> None:
    """Look whether losses are others in parts of a batch, or gradients.

    Gradients, and the losses of all single examples, are looked at where a call that makes values of all examples
    together is not the one that ends in the loss. It is done once for the same calls, and where there is a loss for
    each example now and then again; those of a few single ones each time, and of all where they may decide together
    what is computed, where a batch makes other calls than an example, and where something was wrong before.

    Args:
        measurement: what is measured.
        collector: has the batches in which a call made values of all examples together; they are taken from it.

    Raises:
        EngineRefusal: if they are.
    """
    shown = collector.shown
    mixed, shown.mixed = shown.mixed, []
    problem, alone, reduction = measurement.problem, measurement.alone, measurement.reduction
    _refuse_by_calls(measurement, shown)
    if shown.drew and not problem.noise.drawn:  # by a generator of its own, or one that is put back
        raise EngineRefusal(DRAWS)
    # half precision rounds as it likes, and other numbers are drawn for a part
    if problem.noise.drawn or measurement.reference.is_reduced():
        return
    if mixed and shown.told and _is_decided(measurement, [one.piece for one in mixed]):
        mixed = [one._replace(decides=True, closer=True) for one in mixed]
    if alone.sure:  # that each row is its own example's, and the loss their mean; not what Python decides by
        for mixed_one in mixed:
            if mixed_one.decides:
                _look_at_all(measurement, mixed_one.piece, mixed_one.loss)
        return
    if not mixed:
        return
    key = _key(measurement), frozenset(one.why for one in mixed)  # for what was not so before
    # where it makes other calls for a batch, these may be others for each
    known = was_seen(key) and not (was_seen((REFUSED, key[0])) or shown.unseen or shown.other_calls)
    soon, looked = bool(alone.turn % AGAIN or not alone.turn), False
    first = (alone.turn if soon else alone.turn // AGAIN) % len(mixed)
    for piece, losses, closer, decides, written, bends, _ in mixed[first:] + mixed[:first]:
        place, one = (piece.offset + piece.start, piece.size), losses.numel() != piece.size
        closer = closer and not (known and looked)  # later one at a time, as the pieces are alike
        if known and decides:
            _look_at_all(measurement, piece, losses)
        if known and soon and closer and not decides:
            looked = True
            for more in range(1 + written):
                _look_at_few(measurement, piece, losses, alone.turn + more, bends=bends)
        unknown = one and reduction.form is None and not reduction.weighted
        later = known and (soon or (one and not (closer or reduction.weighted)))
        if later or place in measurement.taken_apart or (unknown and not closer):
            continue
        looked = looked or closer
        measurement.taken_apart.add(place)
        found = _apart(measurement, collector, piece, losses, closer=closer, every=not known)
        if found is not None:
            _refuse(measurement, piece, *found)
        if closer:
            turns = range(DOUBTED * alone.turn, DOUBTED * (alone.turn + 1))
            measurement.doubted |= {place[0] + place_of(turn, piece.size) for turn in turns}
    if sum(size for _, size in measurement.taken_apart) >= len(measurement.every):
        note_seen(key)


def _is_decided(measurement: "Measurement", pieces: list[Piece]) -> bool:
    """Whether plain numbers that Python was given decide on losses: on that of one example, which is asked once of
    the same calls, or on some in a batch, where the one in many that they do may not have come before."""
    problem, every, place = measurement.problem, measurement.every, measurement.reference.position
    key, others = (TOLD, _key(measurement)), list(OTHERS)
    if was_seen(key):  # later by one other number each time
        others = [OTHERS[measurement.alone.turn % len(OTHERS)]]
    else:
        pieces = [Piece(every, 0, place, 1, every.one(place)), *pieces]
    if any(depends_on_what_is_told(problem, piece, others) for piece in pieces):
        return True
    note_seen(key)
    return False


def _key(measurement: "Measurement") -> Hashable:
    """What tells that losses were found to be those of parts: the calls, and the examples, as others may be of a
    kind that was not among them."""
    return PARTS, measurement.known_by()


def _refuse_by_calls(measurement: "Measurement", shown: Shown) -> None:
    """Refuse what calls say of the examples, whatever their values."""
    if shown.along:
        raise EngineRefusal(ALONG.format(", ".join(f"'{name}'" for name in sorted(shown.along))))
    if shown.by_size and measurement.reduction.form != "sum":
        raise EngineRefusal(BY_SIZE)
    if measurement.alone.sure is None:
        if shown.coupled:
            raise EngineRefusal(COUPLED)
        if shown.against and measurement.reduction.scalar:
            raise EngineRefusal(AGAINST.format(", ".join(sorted(shown.against))))
        if shown.unseen and measurement.reduction.form == "sum":
            raise EngineRefusal(AGAINST.format(UNSEEN))
    if shown.other_calls and measurement.reduction.weighted:
        raise EngineRefusal(NO_TELLING)


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


def _look_at_few(measurement: "Measurement", piece: Piece, losses: Tensor, turn: int, *, bends: bool) -> None:
    """Refuse a batch in which some examples have other losses than alone, of a few whose turn it is; or other ones
    among few of the others, as what affects them may not have come before; or other gradients, where a function of
    the user's own may bend them."""
    problem, reduction, size = measurement.problem, measurement.reduction, piece.size
    parts, each = pieces_of(size, turn), losses.numel() == size
    if not each and (reduction.weighted or reduction.weights is not None or reduction.form not in ("mean", "sum")):
        return
    if each:
        count = max(FEW, size // PART)
        few = {place_of(one, size) for one in range(count * turn, count * (turn + 1))}
        parts = [*one_by_one(sorted(few)), *parts]
    of, factors, why = _against(reduction, piece, losses, parts)
    _refuse(measurement, piece, most_apart(problem, piece, losses, of, factors), why)
    if bends:
        parts = halves_of(size, turn)
        factors = _factors(reduction, piece, parts)
        _refuse(measurement, piece, gradients_apart(problem, piece, losses, parts, factors, measurement.room), BENT)


def _look_at_all(measurement: "Measurement", piece: Piece, losses: Tensor) -> None:
    """Refuse a batch for which something else was computed than for one of its examples alone."""
    problem, reduction, singles = measurement.problem, measurement.reduction, one_by_one(range(piece.size))
    each, parts = losses.numel() == piece.size, parts_of(piece.size)
    mean = reduction.form == "mean" and reduction.weights is None
    if each or mean or (reduction.form == "sum" and not reduction.weighted):
        of, factors, why = _against(reduction, piece, losses, singles)
        _refuse(measurement, piece, most_apart(problem, piece, losses, of, factors), why)
        if not (each or mean):
            factors = _factors(reduction, piece, parts)
            bent = gradients_apart(problem, piece, losses, parts, factors, measurement.room)
            _refuse(measurement, piece, bent, BENT)
    elif reduction.weighted:
        _refuse(measurement, piece, (0, 1.0), DECIDED)
    elif is_made_of_parts(problem, piece, parts, measurement.room) is False:
        _refuse(measurement, piece, (0, 1.0), NOT_OF_PARTS)


def _refuse(measurement: "Measurement", piece: Piece, worst: tuple[int, float] | None, why: str) -> None:
    """Refuse the examples, and remember the one that is otherwise, if there is one. As values decide, what was seen
    of these calls does not count, nor what will be."""
    if worst is not None:
        note_seen((REFUSED, _key(measurement)))
        measurement.alone.refute([piece.offset + piece.start + worst[0]])
        raise EngineRefusal(why.format(worst[1]))


def _apart(
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
