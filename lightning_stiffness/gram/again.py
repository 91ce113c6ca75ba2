"""A Gram held against single examples once it is there: those compared before, and others that stand out."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_stiffness.gram.apart import loss_of
from lightning_stiffness.gram.check import Witness, sizes_of, spread
from lightning_stiffness.gram.familiar import DOUBTED, note_seen, was_seen
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products, Square
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.trust import SEVERAL, rounding, settle_factors

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.measurement import Measurement


NEAR = 1e-3
"""Difference of an example's loss in a batch from that alone, relative to it, that is no reason to look closer."""


def is_near(losses: Mapping[int, Tensor], place: int, alone: float) -> bool:
    """Whether an example's loss in a batch is nearly that which it has alone.

    Args:
        losses: first position of a batch → losses of its examples.
        place: of the example.
        alone: its loss.

    Example:
        >>> losses = {4: torch.tensor([1.0, 2.0])}
        >>> is_near(losses, 5, 2.001), is_near(losses, 4, 2.001), is_near(losses, 6, 2.001)
        (True, False, False)
    """
    start = max((first for first in losses if first <= place), default=None)
    if start is None or place - start >= losses[start].numel():
        return False
    together = float(losses[start].reshape(-1)[place - start])
    return alone == together or abs(alone - together) <= NEAR * abs(alone)


def check_total(measurement: "Measurement", layers: dict[str, Products], witness: Witness) -> None:
    """Hold the finished sum over parameters against the single examples, once more.

    Args:
        measurement: what has been measured.
        layers: the Gram, with the factors that a mean leaves mended.
        witness: the examples that have been compared already, parameter by parameter.

    Raises:
        EngineRefusal: if it differs.
    """
    names = [name for name in measurement.problem.parameters if name not in measurement.fallback]
    if not names or measurement.reduction.weighted or not witness.positions:
        return
    total = _summed(layers)
    tables = [witness.table[name] for name in names]
    norms, tolerance = sizes_of(tables), max(witness.limits[name] for name in names)
    for a, i in enumerate(witness.positions):
        for b, j in enumerate(witness.positions):
            got = _entry(total, measurement, i, j)
            if got is None:
                continue
            norm, expected = norms[a] * norms[b], sum(table[a][b] for table in tables)
            difference = abs(got - expected)
            if not difference <= 3 * tolerance * norm and math.isfinite(expected):
                raise EngineRefusal(
                    f"the inner products in the Gram differ from single examples' (by {difference:.1e}, "
                    f"where the norms' product is {norm:.1e})"
                )


def look_again(measurement: "Measurement", layers: dict[str, Products], witness: Witness) -> None:
    """Compare a few more examples with themselves alone.

    For a loss that is one number, which may weigh its examples, that with the largest gradient, another where
    gradients were compared before, and one of each batch where some are scaled by themselves; and two each of those
    that some call may have put elsewhere, of those that have no gradient, and of those whose gradients are not
    finite. Then, two at a time, a few of a batch whose calls make values of several examples together, and of those
    that have gradients by parameters of which the ones compared say nothing.

    All of them, once for the same calls and examples, of a loss that is no plain mean or sum and is put together of
    several: where the examples that lack a part of it are as rare for each, all others have one factor, as in one
    mean, and only those that lack some have another direction.

    An example of a rare kind, such as the only one with a label for one of two losses, weighs more in a mean over
    its kind than in one over all, and so has a large gradient. Of losses that are one for each example those with a
    large gradient are looked at only where these pass through functions with gradients of their own, about which
    calls do not tell everything, or where none of the examples compared before has a gradient.

    Args:
        measurement: what has been measured.
        layers: the Gram, without the factors that a mean leaves.
        witness: the examples that have been compared already.

    Raises:
        EngineRefusal: if they differ.
    """
    names = [name for name in measurement.problem.parameters if name not in measurement.fallback]
    scalar = measurement.reduction.scalar
    vain = bool(witness.positions) and not any(sizes_of(witness.table[name] for name in names))
    # Where values are compared, the same data were looked at before; what weighs them may depend on the module
    weighing = scalar and not measurement.alone.sure
    standing_out = int(weighing or measurement.reference.strange)
    if (weighing and witness.positions) or vain:
        standing_out = 2
    moved = sorted(measurement.moved.difference(witness.positions))[:2]
    if not names:
        return
    total = _summed(layers)
    norms = total.squares if measurement.m is None else torch.cat([total.squares, total.other_squares])
    least, most = map(float, torch.aminmax(norms))
    lost = [] if math.isfinite(least) and math.isfinite(most) else torch.nonzero(~norms.isfinite())[:2, 0].tolist()
    # Chosen by all together, as the examples with the largest losses are, the others have none
    left_out = _left_out(measurement, norms, witness) if least == 0 else []
    scaled = _of_each(measurement, norms) if weighing else []
    # what has a pass of its own is taken alone in any case: it tells nothing
    several = norms if not scalar else norms * (measurement.reduction.sizes != 1)
    places = {*_standing_out(several, witness, standing_out), *moved, *lost, *left_out, *scaled}
    if weighing and sum(float(norms[place]) > 0 for place in places) == 1:  # whose direction has to be seen too
        compared = [place for place in witness.positions if float(norms[place]) > 0]
        places.update(sorted(compared, key=lambda place: float(norms[place]))[-1:])
    if places:
        _hold(measurement, total, norms, sorted(places), names)
    doubted = _spread_out(measurement.doubted.difference(places, witness.positions))
    for k in range(0, len(doubted), 2):  # two at a time, as they may be large
        if not _hold(measurement, total, norms, doubted[k : k + 2], names):
            break  # rounding would be to blame for others as well, and each look in float64 takes its time
    if measurement.several and measurement.reduction.form is None:
        for few in _each_with_others(len(norms), measurement.m and measurement.n):
            _hold(measurement, total, norms, few, names)
        note_seen((SEVERAL, measurement.known_by()))
    if left_out and measurement.alone.named() is not None:
        note_seen((NOTHING, measurement.alone.key))


def _hold(measurement: "Measurement", total: Products, norms: Tensor, places: list[int], names: list[str]) -> bool:
    """Hold examples in a Gram against themselves alone: sizes of gradients, and the angles between them.

    Returns:
        Whether they agree without a look in float64.

    Raises:
        EngineRefusal: if they don't, in float64 either.
    """
    scalar = measurement.reduction.scalar
    alone, more = _alone(measurement, places, names)
    squares = norms[places].tolist()
    limit = 3 * max(more.limits[name] for name in names)
    ratios = [
        math.sqrt(square / own[a]) if own[a] > 0 else math.nan
        for a, (square, own) in enumerate(zip(squares, alone, strict=True))
    ]
    known = measurement.reduction.form is not None
    if scalar:
        settle_factors(measurement, ratios, more.positions)
    nothing = [
        alone[a][a] == 0 if square == 0 else not (math.isfinite(square) or math.isfinite(alone[a][a]))
        for a, square in enumerate(squares)
    ]
    odd = [
        place
        for place, square, ratio, none in zip(places, squares, ratios, nothing, strict=True)
        if not (none or (math.isfinite(ratio) and square > 0 and (scalar or abs(ratio - 1) <= limit)))
    ]
    fits = not odd and not (known and measurement.reduction.weighted)
    for (a, i), (b, j) in itertools.combinations(enumerate(places), 2) if fits else ():
        across = _entry(total, measurement, i, j)
        if across is not None and math.isfinite(across) and squares[a] * squares[b] > 0:
            cosine = across / math.sqrt(squares[a] * squares[b])  # whatever their factors, the angle is the same
            fits &= abs(cosine - alone[a][b] / math.sqrt(alone[a][a] * alone[b][b])) <= limit
    if not fits and not set(names) <= rounding(measurement, measurement.most, more, names):
        measurement.alone.refute(odd or places)
        raise EngineRefusal(
            "the gradient of an example in a batch is another than that of the example alone: the loss of a "
            "batch weighs parts of the losses by how many have them, or the module treats them otherwise"
        )
    return fits


NOTHING = "examples without a gradient"
"""What was seen of calls, beside whose examples."""


def _left_out(measurement: "Measurement", squares: Tensor, witness: Witness) -> list[int]:
    """Examples without a gradient that are to be taken alone: two, until they were seen to be right for the same
    calls. From then on the loss of one tells, where each has one."""
    alone, without = measurement.alone, torch.nonzero(squares == 0)[:, 0].tolist()
    without = [place for place in without if place not in witness.positions]
    if not without:
        return []
    if alone.named() is None or not was_seen((NOTHING, alone.key)):
        return [without[0], without[-1]]
    spans = [range(start, start + losses.numel()) for start, losses in measurement.shown.losses.items()]
    own = [place for place in without if any(place in span for span in spans)]  # of this process
    if not own:
        return []
    place = own[alone.turn % len(own)]
    return [] if is_near(measurement.shown.losses, place, alone.loss_of(place)) else [place]


def _of_each(measurement: "Measurement", squares: Tensor) -> list[int]:
    """One example of each piece that may weigh its own otherwise than those with an example compared before."""
    alone = measurement.alone
    compared = [*alone.witness.positions, *(one.position for one in alone.companions)]
    compared = [place for place in compared if float(squares[place])]  # the others tell nothing
    shown = measurement.shown
    others = {piece for piece in shown.passed if shown.scaled and not any(place in piece for place in compared)}
    return [one.start + int(squares[one.start : one.stop].nan_to_num(0.0, 0.0, 0.0).argmax()) for one in others]


def _standing_out(squares: Tensor, witness: Witness, count: int) -> list[int]:
    """The example with the largest gradient, and one that a quarter of the others surpass.

    Not the smallest: gradients of examples that are well fitted may be nothing but rounding.
    """
    if not count:
        return []
    sizes = squares.nan_to_num(0.0, 0.0, 0.0)
    sizes[witness.positions] = 0.0
    order = sizes.argsort(descending=True)[: int((sizes > 0).sum())]
    return sorted({*order[:1].tolist(), *order[max(1, len(order) // 4) :][: count - 1].tolist()})


def _each_with_others(count: int, rows: int | None) -> Iterator[list[int]]:
    """Every example beside some with which it has inner products: in a block, one of the other side.

    Example:
        >>> list(_each_with_others(9, None)), list(_each_with_others(5, 2))
        ([[0, 1, 2, 3], [4, 5, 6, 7], [7, 8]], [[0, 2], [1, 3], [0, 4]])
    """
    if rows is None:
        for first in range(0, count, 4):
            yield list(range(first - (0 < first == count - 1), min(first + 4, count)))
        return
    for k in range(max(rows, count - rows)):
        yield [k % rows, rows + k % (count - rows)]


def _spread_out(places: set[int]) -> list[int]:
    """A few of them: several processes may have named more."""
    listed = sorted(places)
    return [listed[k] for k in spread(len(listed), DOUBTED)]


def _alone(measurement: "Measurement", places: list[int], names: list[str]) -> tuple[Square, Witness]:
    """Inner products of the gradients of examples alone, over the parameters and by each of them."""
    gradients = [example_gradient(measurement.problem, measurement.every.one(place), place) for place in places]
    more = Witness.of(places, [{name: one[name] for name in names} for one in gradients])
    sizes = range(len(places))
    return [[sum(table[a][b] for table in more.table.values()) for b in sizes] for a in sizes], more


def _summed(layers: dict[str, Products]) -> Products:
    first, *others = layers.values()
    return sum(others, start=first)


def _entry(total: Products, measurement: "Measurement", i: int, j: int) -> float | None:
    """An inner product between two of all examples; None where both are on one side of a block."""
    n = measurement.n
    if measurement.m is None:
        return float(total.values[i, j])
    if i == j:
        return float(total.squares[i] if i < n else total.other_squares[i - n])
    low, high = min(i, j), max(i, j)
    return float(total.values[low, high - n]) if low < n <= high else None


def batches_have_a_gradient(problem: Problem, every: Examples) -> bool:
    """Whether the examples together have a gradient; not where they can't be together."""
    start = 0
    for batch, size in zip(every.batches, every.sizes, strict=True):
        try:
            loss = loss_of(problem, Piece(every, 0, start, size, batch), batch).sum()
            found = torch.autograd.grad(loss, list(problem.parameters.values()), materialize_grads=True)
        except Exception:  # a loss without a gradient, or no batch that the module takes
            return False
        start += size
        if any(bool(g.any()) and bool(g.isfinite().all()) for g in found):
            return True
    return False


def some_have_a_gradient(problem: Problem, every: Examples, count: int = 8) -> bool:
    """Whether examples alone have a gradient, of a few spread over all, by whatever parameters of the module: those
    that are measured may have one of nothing but rounding, as the last bias of a loss of differences."""
    trained = {name: p for name, p in problem.module.named_parameters() if p.requires_grad}
    problem = replace(problem, parameters=problem.parameters | trained, scale=None, layers=None, share=None)
    found = (example_gradient(problem, every.one(i), i).values() for i in spread(len(every), count))
    return any(bool(g.any()) and bool(g.isfinite().all()) for gradients in found for g in gradients)
