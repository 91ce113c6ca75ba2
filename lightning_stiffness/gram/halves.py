"""The losses of a batch held against those of its halves, where a call makes numbers of all examples together."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_stiffness.gram.alone import AGAIN
from lightning_stiffness.gram.batch import Batch, take
from lightning_stiffness.gram.check import TOLERANCE, TOLERANCE_DOUBLE
from lightning_stiffness.gram.familiar import note_seen, was_seen
from lightning_stiffness.gram.precise import converted, in_double
from lightning_stiffness.gram.problem import EngineRefusal, Problem
from lightning_stiffness.gram.reference import eager
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.state import kept_state
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

OF_MEANS = 0.03
"""What means may be off by, over what a single loss may: rounding averages out, and so do the losses of a few."""

ROUNDING = 1e-3
"""How much smaller a difference is in float64, that is rounding in float32."""
TINY = 1e-13
"""Losses of next to nothing are rounding in float64 too."""


def refuse_mixing(measurement: "Measurement", collector: "Collector") -> None:
    """Look whether losses are others in half a batch: once for the same calls, and where they are one for each
    example now and then again.

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
    # half precision rounds as it likes, and other numbers are drawn for a half
    if not mixed or alone.sure or problem.noise.drawn or measurement.reference.is_reduced():
        return
    key = HALVES, alone.named() or (type(problem.module), measurement.every.sizes)
    known, soon = was_seen(key) and not shown.unseen, bool(alone.turn % AGAIN or not alone.turn)
    reduction = measurement.reduction
    for piece, losses in mixed:
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
        if worst is not None:
            alone.refute([place[0] + worst[0]])
            raise EngineRefusal(why.format(worst[1]))
    if sum(size for _, size in measurement.halved) >= len(measurement.every):
        note_seen(key)


def most_apart(problem: Problem, piece: Piece, losses: Tensor) -> tuple[int, float] | None:
    """The example whose loss differs most between a batch and its halves, and by how much of the loss.

    One forward pass more, without gradients. A threshold that all examples decide together may show at none of the
    few that are taken alone. What differs in float32 is looked at again in float64: a small loss is the difference
    of large numbers.

    Args:
        problem: module and loss.
        piece: the batch.
        losses: of its examples; or their mean.

    Returns:
        The place in the batch (0 for a mean); None if none differs, or a half can't be taken.
    """
    with torch.no_grad():
        found = _apart(problem, piece, piece.batch, losses)
        if found is None or losses.dtype == torch.float64:
            return found and found[:2]
        try:
            double, batch = in_double(problem, list(problem.parameters)), converted(piece.batch)
            again = _apart(double, piece, batch, _loss(double, piece, batch))
        except Exception:  # a module that does not run in float64: the single examples have to do
            return None
    # A loss that is zero but for rounding differs there too, by as much less as float64 rounds less
    return again[:2] if again is not None and again[2] > ROUNDING * found[2] else None


def uneven(size: int) -> int:
    """About half of a batch, with no divisor in common.

    So no kind of example makes up the same part of either half as of the batch, unless all are of it; and what is
    weighed by how many there are of a kind weighs otherwise there.

    Example:
        >>> [uneven(size) for size in (2, 3, 6, 7, 40)]
        [1, 1, 1, 3, 19]
    """
    return next(middle for middle in range(size // 2, 0, -1) if math.gcd(middle, size) == 1)


def _loss(problem: Problem, piece: Piece, batch: Batch) -> Tensor:
    problem.noise.seed(piece.offset + piece.start, 1)
    with kept_state(problem.module), eager():
        return problem.loss_fn(problem.module, batch).detach()


def _apart(problem: Problem, piece: Piece, batch: Batch, losses: Tensor) -> tuple[int, float, float] | None:
    """The place, the difference relative to the losses, and the difference."""
    middle, each = uneven(piece.size), losses.numel() == piece.size
    halves: list[Tensor] = []
    for part in (slice(0, middle), slice(middle, piece.size)):
        try:
            found = _loss(problem, piece, take(batch, part, piece.size))
        except Exception:  # a batch of another length is not asked for: the single examples have to do
            return None
        if found.numel() != (part.stop - part.start if each else 1):
            return None
        halves.append(found.reshape(-1).double())
    together, apart = losses.reshape(-1).double(), torch.cat(halves)
    size = apart.abs().nan_to_num(0.0, 0.0, 0.0)
    size = size + size.mean() if each else size.amax()
    if not each:
        apart = (middle * halves[0] + (piece.size - middle) * halves[1]) / piece.size
    difference = (together - apart).abs()
    difference[(difference <= TINY) | ~(together.isfinite() | apart.isfinite())] = 0.0
    relative = difference / size.clamp_min(TINY)
    worst = int(relative.nan_to_num(math.inf).argmax())
    off = float(relative[worst].nan_to_num(math.inf))
    limit = TOLERANCE_DOUBLE if losses.dtype == torch.float64 else 10 * TOLERANCE
    limit *= 1.0 if each else OF_MEANS
    return None if off <= limit else (worst, off, float(difference[worst].nan_to_num(math.inf)))
