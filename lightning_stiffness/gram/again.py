"""Examples that stand out, held against themselves alone once a Gram is there."""

import math
from typing import TYPE_CHECKING

import torch

from lightning_stiffness.gram.check import Witness
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.product import Products, Square

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.measurement import Measurement


def look_again(measurement: "Measurement", layers: dict[str, Products], witness: Witness) -> None:
    """Compare one or two more examples with themselves alone: that with the largest gradient, and for a loss that
    is one number, which may weigh its examples, another.

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
    if not names or not (scalar or measurement.reference.strange):
        return
    first, *rest = layers.values()
    total = sum(rest, start=first)
    places = _standing_out(total, measurement, witness, 2 if scalar else 1)
    if not places:
        return
    alone, more = _alone(measurement, places, names)
    found = [[_entry(total, measurement, i, j) for j in places] for i in places]
    limit = 3 * max(more.limits[name] for name in names)
    sizes = range(len(places))
    ratios = [math.sqrt(found[a][a] / alone[a][a]) if alone[a][a] > 0 else math.nan for a in sizes]
    known = measurement.could_be_sum != measurement.could_be_mean
    if scalar:
        measurement.settle_factors(ratios, more)
    fits = all(map(math.isfinite, ratios)) and not (known and measurement.weighted)
    fits &= scalar or all(abs(ratio - 1) <= limit for ratio in ratios)
    if fits and len(places) > 1 and math.isfinite(found[0][1]):  # whatever their factors, the angle is the same
        cosines = [table[0][1] / math.sqrt(table[0][0] * table[1][1]) for table in (found, alone)]
        fits = abs(cosines[0] - cosines[1]) <= limit
    if not fits and not set(names) <= measurement.rounding(measurement.most, more, names):
        raise EngineRefusal(
            "the gradient of an example in a batch is another than that of the example alone: the loss of a "
            "batch weighs parts of the losses by how many have them, or the module treats them otherwise"
        )


def _standing_out(total: Products, measurement: "Measurement", witness: Witness, count: int) -> list[int]:
    """The example with the largest gradient, and one that a quarter of the others surpass.

    Not the smallest: gradients of examples that are well fitted may be nothing but rounding.
    """
    squares = total.squares if measurement.m is None else torch.cat([total.squares, total.other_squares])
    order = squares.nan_to_num(0.0, 0.0, 0.0).argsort(descending=True).tolist()
    others = [place for place in order if place not in witness.positions and float(squares[place]) > 0]
    return sorted({others[0], others[len(others) // 4]} if count > 1 else {others[0]}) if others else []


def _alone(measurement: "Measurement", places: list[int], names: list[str]) -> tuple[Square, Witness]:
    """Inner products of the gradients of examples alone, over the parameters and by each of them."""
    gradients = [example_gradient(measurement.problem, measurement.every.one(place), place) for place in places]
    more = Witness.of(places, [{name: one[name] for name in names} for one in gradients])
    sizes = range(len(places))
    return [[sum(table[a][b] for table in more.table.values()) for b in sizes] for a in sizes], more


def _entry(total: Products, measurement: "Measurement", i: int, j: int) -> float:
    """An inner product between two of all examples; NaN where both are on one side of a block."""
    n = measurement.n
    if measurement.m is None:
        return float(total.values[i, j])
    if i == j:
        return float(total.squares[i] if i < n else total.other_squares[i - n])
    low, high = min(i, j), max(i, j)
    return float(total.values[low, high - n]) if low < n <= high else math.nan
