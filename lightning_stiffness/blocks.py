"""Everything that one block of pairs shows: class matrix, means, curve, critical length, their intervals."""

import math
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from lightning_stiffness.functional import (
    BlockIntervals,
    CriticalLength,
    DistanceCurve,
    class_stiffness_matrix,
    class_summary,
    curve_crossing,
    grouping_test,
    joint_intervals,
    overall_stiffness,
    superclass_stiffness_matrix,
    superclass_summary,
)
from lightning_stiffness.functional.classes import class_sums_of_each
from lightning_stiffness.functional.curve import Observed, curve_of, observed_by_each
from lightning_stiffness.functional.length import class_lengths_of, length_of
from lightning_stiffness.gram import GradientGram
from lightning_stiffness.labelling import Classes
from lightning_stiffness.result import Curve, Length, StiffnessResult
from lightning_stiffness.settings import MEASURES, Settings


def measure_block(
    result: StiffnessResult,
    gram: GradientGram,
    splits: tuple[str, str],
    *,
    same_example: Tensor | None,
    classes: Classes | None,
    distance: Tensor | None,
    settings: Settings,
) -> None:
    """Everything that one block shows, added to the result.

    Args:
        result: where it goes.
        gram: inner products between the examples of the two splits.
        splits: whose examples are the rows and the columns.
        same_example: mask ``[n, m]`` of the pairs of an example with itself, where the splits differ.
        classes: the classes of the probe.
        distance: distance of every pair ``[n, m]``.
        settings: what to compute.
    """
    name, symmetric = "-".join(splits), splits[0] == splits[1]
    labels = None if classes is None else [classes.labels[split] for split in splits]
    sides = None if labels is None else (labels[0], None if symmetric else labels[1])
    stiffness = {m: MEASURES[m](gram.values, gram.norms, gram.other_norms) for m in settings.measures}
    pairs = _curve_pairs(gram.values.shape, symmetric, same_example, labels)
    taken: dict[str, Observed] = {}
    if distance is not None:
        of_each = observed_by_each(list(stiffness.values()), distance, pairs)
        taken = dict(zip(stiffness, of_each, strict=True))
    curves = {m: curve_of(of_measure, bins=settings.bins) for m, of_measure in taken.items()}
    intervals: dict[str, BlockIntervals] = {}
    if settings.resamples:
        found = joint_intervals(
            list(stiffness.values()),
            *(sides or (None, None)),
            symmetric=symmetric,
            same_example=same_example,
            superclasses=classes.levels if classes is not None and classes.levels else None,
            distance=distance,
            pairs=None if distance is None else pairs,
            edges=next(iter(curves.values())).edges if curves else None,
            resamples=settings.resamples,
        )
        intervals = dict(zip(stiffness, found, strict=True))
        result.interval[name] = {
            m: {key: (ends.low, ends.high) for key, ends in one.summary.items()} for m, one in intervals.items()
        }
        result.class_interval[name] = {
            m: one.cells.movedim(2, 0).contiguous().numpy() for m, one in intervals.items() if one.cells is not None
        }
    if gram.layers:
        layers = list(gram.layers.values())
        _layers(result, name, layers, sides, classes, same_example, settings.measures, symmetric)
    if classes is not None and sides is not None:
        sums, counts = class_sums_of_each(
            list(stiffness.values()), *sides, num_classes=len(classes.names), same_example=same_example
        )
        result.pair_counts[name] = counts.numpy()
        of_classes = zip(stiffness, sums, strict=True)
        summaries = {m: _class_means(result, name, m, one, counts, classes) for m, one in of_classes}
    else:
        summaries = {
            m: {"overall": overall_stiffness(S, symmetric=symmetric, same_example=same_example)}
            for m, S in stiffness.items()
        }
    result.summary[name] = summaries
    for measure, of_measure in taken.items():
        curve, around = curves[measure], intervals.get(measure)
        ends = None if around is None or around.curve is None else around.curve.numpy()
        low, high = (None, None) if ends is None else (ends[:, 0], ends[:, 1])
        arrays = (curve.edges.numpy(), curve.mean.numpy(), curve.count.numpy(), curve.stderr.numpy())
        result.curve.setdefault(name, {})[measure] = Curve(*arrays, low, high)
        length = _length(length_of(of_measure), curve, around)
        result.critical_length.setdefault(name, {})[measure] = length
        if classes is not None and labels is not None:
            each = class_lengths_of(of_measure, labels[0], num_classes=len(classes.names))
            result.class_critical_length.setdefault(name, {})[measure] = [Length(**vars(one)) for one in each]


def merge_results(result: StiffnessResult, parts: Sequence[StiffnessResult], order: Sequence[str]) -> None:
    """Bring together what several processes measured of one result.

    Args:
        result: where it goes.
        parts: results of which each has some of the blocks, and nothing but them.
        order: names of all blocks, and of what else there may be.
    """
    for field in fields(StiffnessResult):
        held = getattr(result, field.name)
        if isinstance(held, dict):
            found = {name: value for part in parts for name, value in getattr(part, field.name).items()}
            held.update({name: found[name] for name in order if name in found})


def _layers(
    result: StiffnessResult,
    name: str,
    layers: Sequence[GradientGram],
    sides: tuple[Tensor, Tensor | None] | None,
    classes: Classes | None,
    same_example: Tensor | None,
    measures: Sequence[str],
    symmetric: bool,
) -> None:
    """What each layer's gradients show, added to the result."""
    for measure in measures:
        stiffness = [MEASURES[measure](gram.values, gram.norms, gram.other_norms) for gram in layers]
        numbers = [
            {"overall": overall_stiffness(S, symmetric=symmetric, same_example=same_example)} for S in stiffness
        ]
        if classes is not None and sides is not None:
            matrices = [
                class_stiffness_matrix(S, *sides, num_classes=len(classes.names), same_example=same_example)
                for S in stiffness
            ]
            numbers = [one | class_summary(matrix) for one, matrix in zip(numbers, matrices, strict=True)]
            result.layer_class_matrix.setdefault(name, {})[measure] = torch.stack(matrices).numpy()
        table = {key: [one[key] for one in numbers] for key in numbers[0]}
        result.layer_summary.setdefault(name, {})[measure] = table


def _class_means(
    result: StiffnessResult,
    name: str,
    measure: str,
    sums: Tensor,
    counts: Tensor,
    classes: Classes,
) -> dict[str, float]:
    """Class matrices, added to the result, and their means and that of all pairs."""
    matrix = sums / counts  # NaN where there is no pair
    result.class_matrix.setdefault(name, {})[measure] = matrix.numpy()
    overall = {"overall": float(sums.sum() / counts.sum())}
    if not classes.levels:
        return overall | class_summary(matrix)
    coarse = superclass_stiffness_matrix(matrix, classes.levels[0])
    result.superclass_matrix.setdefault(name, {})[measure] = coarse.numpy()
    values = [grouping_test(matrix, groups).p_value for groups in classes.levels]
    result.superclass_p_value.setdefault(name, {})[measure] = values
    return overall | class_summary(matrix) | superclass_summary(matrix, classes.levels)


def _length(length: CriticalLength, curve: DistanceCurve, intervals: BlockIntervals | None) -> Length:
    around = None if intervals is None else intervals.critical_length
    low, high = (math.nan, math.nan) if around is None or math.isnan(length.value) else around
    return Length(**vars(length), low=low, high=high, binned=curve_crossing(curve.centers, curve.mean))


def _curve_pairs(
    shape: torch.Size, symmetric: bool, same_example: Tensor | None, labels: list[Tensor] | None
) -> Tensor:
    """Pairs behind the distance curve: of the same class where there are classes, each pair once."""
    pairs = torch.ones(shape, dtype=torch.bool)
    if symmetric:
        pairs = pairs.triu(1)
    if same_example is not None:
        pairs = pairs & ~same_example
    if labels is not None:
        pairs = pairs & (labels[0][:, None] == labels[1][None, :])
    return pairs
