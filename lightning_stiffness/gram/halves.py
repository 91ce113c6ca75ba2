"""The losses of a batch held against those of its halves, where a call makes numbers of all examples together."""

from typing import TYPE_CHECKING

from lightning_stiffness.gram.alone import AGAIN
from lightning_stiffness.gram.apart import most_apart, uneven
from lightning_stiffness.gram.familiar import DOUBTED, note_seen, place_of, was_seen
from lightning_stiffness.gram.halved_gradients import gradients_apart, is_between
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.tail import AGAINST, UNSEEN
from lightning_stiffness.gram.weighing import NO_WEIGHTS, unlike_weights

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.collect import Collector
    from lightning_stiffness.gram.measurement import Measurement

HALVES = "halves"
"""What was seen of calls, beside which."""

APART = (
    "the loss of an example is another where its batch is smaller (by {:.1e} of it): the examples affect each "
    "other, as where those with the largest losses are chosen, or values are held against the batch's mean"
)

NO_MEAN = (
    "the loss of a batch is not the mean of those of its halves (by {:.1e} of it): the examples affect each other, "
    "as where values are held against the batch's mean"
)

ALONG = "the module takes examples for neighbours: {} is called along the axis that they are on"

NO_TELLING = (
    "for a batch it makes other calls than for one example, and the loss of a batch is no plain mean or sum: what "
    "weighs the examples can't be told from what these calls do to them"
)

BENT = (
    "the gradient of a batch is not that of its halves (by {:.1e} of it), though their losses are: some examples' "
    "gradients are stopped, or changed, by their place in the batch or their rank in it"
)


def refuse_mixing(measurement: "Measurement", collector: "Collector") -> None:
    """Look whether losses are others in half a batch, or gradients where a call that makes values of all examples
    together is not the one that ends in the loss: once for the same calls, and where there is one for each example
    now and then again.

    Args:
        measurement: what is measured.
        collector: has the batches in which a call made values of all examples together; they are taken from it.

    Raises:
        EngineRefusal: if they are.
    """
    shown = collector.shown
    mixed, shown.mixed = shown.mixed, []
    problem, alone = measurement.problem, measurement.alone
    if shown.along:
        raise EngineRefusal(ALONG.format(", ".join(f"'{name}'" for name in sorted(shown.along))))
    if shown.against and alone.sure is None and measurement.reduction.scalar:
        raise EngineRefusal(AGAINST.format(", ".join(sorted(shown.against))))
    if shown.unseen and alone.sure is None and measurement.reduction.form == "sum":
        raise EngineRefusal(AGAINST.format(UNSEEN))
    if shown.other_calls and measurement.reduction.weighted:
        raise EngineRefusal(NO_TELLING)
    # half precision rounds as it likes, and other numbers are drawn for a half
    if not mixed or alone.sure or problem.noise.drawn or measurement.reference.is_reduced():
        return
    key = HALVES, alone.named() or (type(problem.module), measurement.every.sizes)
    known, soon = was_seen(key) and not shown.unseen, bool(alone.turn % AGAIN or not alone.turn)
    reduction, looked = measurement.reduction, False
    for piece, losses, closer in mixed:
        place, one = (piece.offset + piece.start, piece.size), losses.numel() != piece.size
        if known and (soon or (one and not reduction.weighted)):
            continue
        if place in measurement.halved or (one and reduction.form != "mean" and not reduction.weighted):
            continue
        measurement.halved.add(place)
        if reduction.weighted:
            worst, why = unlike_weights(measurement, collector, piece, uneven(piece.size)), NO_WEIGHTS
        else:
            worst, why = most_apart(problem, piece, losses), NO_MEAN if one else APART
            if worst is not None and one and is_between(problem, piece, measurement.room):
                reduction.could_be_mean = False  # the examples compared before weigh as much as each other
                worst, why = unlike_weights(measurement, collector, piece, uneven(piece.size)), NO_WEIGHTS
            elif worst is None and closer and not looked:  # the pieces are alike
                looked = True
                worst, why = gradients_apart(problem, piece, losses, measurement.room), BENT
                turns = range(DOUBTED * alone.turn, DOUBTED * (alone.turn + 1))
                measurement.doubted |= {place[0] + place_of(turn, piece.size) for turn in turns}
        if worst is not None:
            alone.refute([place[0] + worst[0]])
            raise EngineRefusal(why.format(worst[1]))
    if sum(size for _, size in measurement.halved) >= len(measurement.every):
        note_seen(key)
