"""A batch held against its parts, where a call makes numbers of all examples together."""

from typing import TYPE_CHECKING

from lightning_stiffness.gram.alone import AGAIN
from lightning_stiffness.gram.apart import is_of_draws
from lightning_stiffness.gram.coupling import COUPLED
from lightning_stiffness.gram.draws import DRAWS
from lightning_stiffness.gram.familiar import DOUBTED, note_seen, place_of, was_seen
from lightning_stiffness.gram.injected import OTHERS, depends_on_what_is_told
from lightning_stiffness.gram.parted import (
    REFUSED,
    key_of,
    look_at_all,
    look_at_few,
    look_closely,
    refuse,
    stays_half,
)
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.reasons import ALONG, BY_SIZE, CHOSEN, HALF, NO_TELLING
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.shown import Shown
from lightning_stiffness.gram.tail import AGAINST, UNSEEN

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.collect import Collector
    from lightning_stiffness.gram.measurement import Measurement

TOLD = "told"
"""What was seen of calls, beside which, of numbers that Python is given."""


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
    doubtful = [one for one in mixed if one.closer or one.decides]
    if mixed and problem.noise.drawn and is_of_draws(problem, mixed[0].piece):
        if doubtful:  # for other numbers are drawn for a part
            raise EngineRefusal(DRAWS)
        return
    if mixed and shown.told and _is_decided(measurement, [one.piece for one in mixed]):
        mixed = doubtful = [one._replace(decides=True, closer=True) for one in mixed]
    if measurement.reference.is_reduced():  # which rounds as it likes
        if not doubtful:
            return
        if reduction.form is None or stays_half(measurement):
            raise EngineRefusal(HALF)
    if alone.sure:  # that each row is its own example's, and the loss their mean; not what Python decides by
        for mixed_one in mixed:
            if mixed_one.decides:
                look_at_all(measurement, mixed_one.piece, mixed_one.loss)
        return
    if not mixed:
        return
    key = key_of(measurement), frozenset(one.why for one in mixed)  # for what was not so before
    # where it makes other calls for a batch, these may be others for each
    known = was_seen(key) and not (was_seen((REFUSED, key[0])) or shown.unseen or shown.other_calls)
    soon, looked = bool(alone.turn % AGAIN or not alone.turn), False
    first = (alone.turn if soon else alone.turn // AGAIN) % len(mixed)
    for piece, losses, closer, decides, written, bends, _ in mixed[first:] + mixed[:first]:
        place, one = (piece.offset + piece.start, piece.size), losses.numel() != piece.size
        closer = closer and not (known and looked)  # later one at a time, as the pieces are alike
        if known and decides:
            look_at_all(measurement, piece, losses)
        if known and closer and not decides and (soon or written):
            looked = True
            for more in range(1 + written):
                look_at_few(measurement, piece, losses, alone.turn + more, bends=bends, told=shown.told)
        unknown = one and reduction.form is None and not reduction.weighted
        later = known and (soon or (one and not (closer or reduction.weighted)))
        if later or place in measurement.taken_apart or (unknown and not closer):
            continue
        looked = looked or closer
        measurement.taken_apart.add(place)
        found = look_closely(measurement, collector, piece, losses, closer=closer, every=not known)
        if found is not None:
            refuse(measurement, piece, *found)
        if closer:
            turns = range(DOUBTED * alone.turn, DOUBTED * (alone.turn + 1))
            measurement.doubted |= {place[0] + place_of(turn, piece.size) for turn in turns}
    if sum(size for _, size in measurement.taken_apart) >= len(measurement.every):
        note_seen(key)


def _is_decided(measurement: "Measurement", pieces: list[Piece]) -> bool:
    """Whether plain numbers that Python was given decide on losses: on that of one example, which is asked once of
    the same calls, or on some in a batch, where the one in many that they do may not have come before."""
    problem, every, place = measurement.problem, measurement.every, measurement.reference.position
    key, others = (TOLD, key_of(measurement)), list(OTHERS)
    if was_seen(key):  # later by large numbers of both signs, and one other each time
        first, second, *rest = others
        others = [first, second, rest[measurement.alone.turn % len(rest)]]
    else:
        pieces = [Piece(every, 0, place, 1, every.one(place)), *pieces]
    if any(depends_on_what_is_told(problem, piece, others) for piece in pieces):
        return True
    note_seen(key)
    return False


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
    if shown.several and shown.chosen and measurement.reduction.weighted:
        raise EngineRefusal(CHOSEN)
    if shown.other_calls and measurement.reduction.weighted:
        raise EngineRefusal(NO_TELLING)
