"""A Gram held against single examples once it is there: those compared before, and others that stand out."""

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_stiffness.gram.check import Witness, sizes_of
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.product import Products, Square

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.measurement import Measurement


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
    if not names or measurement.weighted or not witness.positions:
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
    """Compare a few more examples with themselves alone: that with the largest gradient, for a loss that is one
    number, which may weigh its examples, another; and two each of those that some call may have put elsewhere, and
    of those whose gradients are not finite.

    An example of a rare kind, such as the only one with a label for one of two losses, weighs more in a mean over
    its kind than in one over all, and so has a large gradient. Losses that are one for each example are looked at
    only where they pass through functions with gradients of their own: calls do not tell everything about those.

    Args:
        measurement: what has been measured.
        layers: the Gram, without the factors that a mean leaves.
        witness: the examples that have been compared already.

    Raises:
        EngineRefusal: if they differ.
    """
    names = [name for name in measurement.problem.parameters if name not in measurement.fallback]
    scalar = measurement.sizes is not None
    standing_out = 2 if scalar else int(measurement.reference.strange)
    moved = sorted(measurement.moved.difference(witness.positions))[:2]
    if not names:
        return
    total = _summed(layers)
    norms = total.squares if measurement.m is None else torch.cat([total.squares, total.other_squares])
    lost = [] if math.isfinite(float(norms.sum())) else torch.nonzero(~norms.isfinite())[:2, 0].tolist()
    places = sorted({*_standing_out(norms, witness, standing_out), *moved, *lost})
    if not places:
        return
    alone, more = _alone(measurement, places, names)
    squares = norms[places].tolist()
    limit = 3 * max(more.limits[name] for name in names)
    ratios = [
        math.sqrt(square / own[a]) if own[a] > 0 else math.nan
        for a, (square, own) in enumerate(zip(squares, alone, strict=True))
    ]
    known = measurement.could_be_sum != measurement.could_be_mean
    if scalar:
        measurement.settle_factors(ratios, more)
    nothing = [
        alone[a][a] == 0 if square == 0 else not (math.isfinite(square) or math.isfinite(alone[a][a]))
        for a, square in enumerate(squares)
    ]
    fits = not (known and measurement.weighted) and all(
        none or (math.isfinite(ratio) and (scalar or abs(ratio - 1) <= limit))
        for ratio, none in zip(ratios, nothing, strict=True)
    )
    for (a, i), (b, j) in itertools.combinations(enumerate(places), 2) if fits else ():
        across = _entry(total, measurement, i, j)
        if across is not None and math.isfinite(across) and squares[a] * squares[b] > 0:
            cosine = across / math.sqrt(squares[a] * squares[b])  # whatever their factors, the angle is the same
            fits &= abs(cosine - alone[a][b] / math.sqrt(alone[a][a] * alone[b][b])) <= limit
    if not fits and not set(names) <= measurement.rounding(measurement.most, more, names):
        raise EngineRefusal(
            "the gradient of an example in a batch is another than that of the example alone: the loss of a "
            "batch weighs parts of the losses by how many have them, or the module treats them otherwise"
        )


def _standing_out(squares: Tensor, witness: Witness, count: int) -> list[int]:
    """The example with the largest gradient, and one that a quarter of the others surpass.

    Not the smallest: gradients of examples that are well fitted may be nothing but rounding.
    """
    if not count:
        return []
    order = squares.nan_to_num(0.0, 0.0, 0.0).argsort(descending=True).tolist()
    others = [place for place in order if place not in witness.positions and float(squares[place]) > 0]
    return sorted({others[0], others[len(others) // 4]} if count > 1 else {others[0]}) if others else []


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
