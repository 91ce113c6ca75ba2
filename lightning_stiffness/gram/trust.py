"""Gradients of a batch held against those of examples alone, and which of them are trusted."""

import math
from typing import TYPE_CHECKING

import torch

from lightning_stiffness.gram.check import CoupledExamples, Witness, compare, described, most_off, sizes_of
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.familiar import was_seen
from lightning_stiffness.gram.partition import PASSES, Group
from lightning_stiffness.gram.precise import agree_in_double
from lightning_stiffness.gram.problem import EngineRefusal
from lightning_stiffness.gram.reduction import rounding_of
from lightning_stiffness.gram.telling import telling

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.measurement import Measurement

TORN = (
    "in a batch the gradient of an example is one multiple of that of the example alone for some parameters, and "
    "another one for others: the module treats examples otherwise in a batch, or something changes gradients"
)

SEVERAL = "several means"
"""What was seen of calls and examples, beside which, of a loss that may be put together of them."""

NO_ROUNDING = 0.01
"""Error of an inner product, relative to the norms, by which an example is remembered: less may be rounding."""


def trusted(
    measurement: "Measurement",
    group: Group,
    collected: Collected,
    offset: int,
    collector: Collector,
    witness: Witness,
) -> list[str]:
    """The parameters whose gradients are those of examples alone; the others fall back.

    Args:
        measurement: what is measured; it learns what is found of the loss, and which parameters fall back.
        group: the parameters.
        collected: their gradients for some examples.
        offset: position of the first of these.
        collector: collected them.
        witness: examples alone.

    Raises:
        EngineRefusal: if the gradients of some parameters are others.
    """
    alone, names = measurement.alone, group.names
    for name in names:
        if name in collector.failures:
            measurement.fallback.setdefault(name, collector.failures[name])
    shown = collector.shown
    measurement.moved |= shown.moved
    if shown.several:
        measurement.several |= shown.chosen or not was_seen((SEVERAL, measurement.known_by()))
    measurement.rounded |= collector.tied
    if collected.scalar:
        measurement.reduction.enter(collected.sizes, offset, len(measurement.every), measurement.device)
    if collected.scalar and (collector.met or alone.rests_on_calls):
        measurement.reduction.rely_on(collector.form)  # as it was found to be before, or is for sure
    names = [name for name in names if name not in measurement.fallback]
    measurement.forms |= collected.forms(names)
    near = witness.among(offset, offset + sum(collected.sizes))
    if not names or not near.positions:
        return names
    values = collected.products(names, [p - offset for p in near.positions], measurement.device, group.slab)
    try:
        verdict = compare(near, values, collected.scalar)
    except CoupledExamples:  # or gradients that are nothing but rounding in a batch, and nothing alone
        if not set(names) <= rounding(measurement, group.most, near, names):
            raise
        for name in names:
            witness.accept(name, near.positions, values[name])
        return names
    wrong = verdict.wrong
    if wrong:
        for name in rounding(measurement, group.most, near, list(wrong)):
            witness.accept(name, near.positions, verdict.values[name])
            del wrong[name]
    if wrong:
        if max(wrong.values()) > NO_ROUNDING:
            alone.refute([most_off(near, verdict.values, wrong)])
        raise EngineRefusal(described(wrong, near))
    measurement.doubted |= telling(collected, names, near, offset, alone.turns.spans)
    if collected.scalar:
        of_these, of_all = (sizes_of(near.table[name] for name in some) for some in (names, near.table))
        off = _off(measurement)  # gradients that are next to nothing may have any factor, by rounding
        told = zip(verdict.factors, of_these, of_all, strict=True)
        settle_factors(
            measurement, [f if own > off * whole else math.nan for f, own, whole in told], near.positions
        )
    return names


def rounding(measurement: "Measurement", most: int, near: Witness, wrong: list[str]) -> set[str]:
    """Those of the wrong parameters that are wrong by rounding alone: in float64 they are right.

    Args:
        measurement: what is measured.
        most: examples in a pass.
        near: examples alone that are wrong in a batch.
        wrong: the parameters.
    """
    problem, budget = measurement.problem, measurement.budget
    doubtful = [name for name in wrong if problem.parameters[name].dtype == torch.float32]
    # twice the bytes of a pass, beside what is held already
    if not doubtful or (budget and 4 * most * PASSES * measurement.reference.activation_bytes() > budget):
        return set()
    rounded = agree_in_double(problem, measurement.every, near, most, doubtful)
    measurement.rounded |= rounded
    return rounded


def settle_factors(measurement: "Measurement", ratios: list[float], positions: list[int]) -> None:
    """See whether the loss of a batch is the mean of the examples' losses, their sum, or something between.

    Args:
        measurement: what is measured.
        ratios: sizes of some examples' gradients in a batch over those alone; NaN where there is no telling.
        positions: of the examples.

    Raises:
        EngineRefusal: if an example has another factor for some parameters than for others.
    """
    measurement.reduction.settle(ratios, positions, _off(measurement))
    if measurement.reduction.torn:
        measurement.alone.refute(positions)
        raise EngineRefusal(TORN)


def _off(measurement: "Measurement") -> float:
    """What a factor may be off by."""
    return rounding_of(next(iter(measurement.problem.parameters.values())).dtype)
