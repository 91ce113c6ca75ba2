"""What the page shows of a result: checked, small, and ready to be sent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_stiffness.figures.moment import epoch_of
from lightning_stiffness.plugin.layers import layer_means
from lightning_stiffness.result import Curve, Length, StiffnessResult

Array = NDArray[Any]
Z95 = 1.959963984540054
"""Standard errors on either side of a mean that make a 95% interval."""


@dataclass(frozen=True)
class View:
    """One block and measure at one step."""

    summary: dict[str, float]
    """Name → value; NaN where there is none."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Name → 95% interval, where one was taken."""
    matrix: Array | None = None
    """Class matrix ``[c, c]``, float32; NaN where there is no pair."""
    counts: Array | None = None
    """Pairs behind each cell ``[c, c]``, int32."""
    cell_intervals: Array | None = None
    """Ends of the 95% interval of each cell ``[2, c, c]``, float32, where they were taken."""
    curve: dict[str, Any] | None = None
    """Lists ``edges`` ``[b + 1]``, ``mean``, ``low``, ``high``, ``count`` ``[b]``, and what the interval is."""
    length: dict[str, Any] | None = None
    """The critical length and its line."""
    layers: dict[str, Array] = field(default_factory=dict)
    """Name → mean of each layer ``[l]``, float32, where layers were told apart."""


@dataclass(frozen=True)
class Frame:
    """One step of a run."""

    step: int
    epoch: int | None
    """None where nobody knows."""
    views: dict[tuple[str, str], View]
    """(block, measure) → what was measured."""
    class_names: list[str] | None = None
    groups: list[int] | None = None
    """Group of each class."""
    group_names: list[str] | None = None
    layer_names: list[str] | None = None
    distance: str = "distance"
    """Between what the distance is, in words."""
    excluded: int = 0
    """Examples without a stiffness."""
    diagnostics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Split → name → value."""
    seconds: float = math.nan
    engine: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take, in bytes."""
        views = self.views.values()
        arrays = (a for v in views for a in (v.matrix, v.counts, v.cell_intervals, *v.layers.values()))
        return sum(array.nbytes for array in arrays if array is not None)


def frame_of(result: StiffnessResult) -> Frame:
    """What the page shows of a result.

    Args:
        result: as it was loaded.

    Returns:
        The frame.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: if the parts of the result do not fit together, as in
            a file that was made by something else.

    Example:
        >>> result = StiffnessResult(3, 1, summary={"train-val": {"cos": {"within_class": 0.5}}})
        >>> frame_of(result).views["train-val", "cos"].summary
        {'within_class': 0.5}
    """
    names = None if result.class_names is None else [str(name) for name in result.class_names]
    groups = None if result.superclasses is None else [int(group) for group in result.superclasses]
    if names is not None and groups is not None and len(groups) != len(names):
        raise ValueError(f"expected a group for each of {len(names)} classes, got {len(groups)}")
    epoch = epoch_of(result)
    return Frame(
        step=int(result.step),
        epoch=None if epoch is None else int(epoch),
        class_names=names,
        groups=groups if names is not None else None,
        group_names=_group_names(result, groups),
        layer_names=[str(name) for name in result.layer_names] or None,
        views={
            (str(block), str(measure)): _view(result, block, measure, None if names is None else len(names))
            for block, measures in result.summary.items()
            for measure in measures
        },
        distance=_distance(result.settings),
        excluded=sum(int(number) for number in result.excluded.values()),
        diagnostics={
            str(split): {str(name): float(value) for name, value in numbers.items()}
            for split, numbers in result.diagnostics.items()
        },
        seconds=float(result.seconds),
        engine=str(result.engine),
        notes=[str(note) for note in result.notes],
    )


def _view(result: StiffnessResult, block: str, measure: str, classes: int | None) -> View:
    matrix = result.class_matrix.get(block, {}).get(measure)
    counts = result.pair_counts.get(block)
    curve = result.curve.get(block, {}).get(measure)
    length = result.critical_length.get(block, {}).get(measure)
    ends = result.class_interval.get(block, {}).get(measure)
    shown = matrix is not None and classes is not None
    return View(
        summary={str(name): float(value) for name, value in result.summary[block][measure].items()},
        intervals={
            str(name): (float(low), float(high))
            for name, (low, high) in result.interval.get(block, {}).get(measure, {}).items()
        },
        matrix=_table(matrix, np.float32, classes) if shown else None,
        counts=_table(counts, np.int32, classes) if shown and counts is not None else None,
        cell_intervals=None
        if ends is None or not shown
        else np.stack([_table(e, np.float32, classes) for e in ends]),
        curve=None if curve is None else _curve(curve),
        length=None if length is None else _length(length),
        layers={name: means.astype(np.float32) for name, means in layer_means(result, block, measure).items()},
    )


def _group_names(result: StiffnessResult, groups: list[int] | None) -> list[str] | None:
    levels = result.superclass_names
    if groups is None or not levels:
        return None
    names = [str(name) for name in levels[0]]
    if len(names) <= max(groups):
        raise ValueError(f"expected names of {max(groups) + 1} groups, got {len(names)}")
    return names


def _table(values: Any, dtype: Any, classes: int | None) -> Array:
    table = np.ascontiguousarray(values, dtype=dtype)
    if table.shape != (classes, classes):
        raise ValueError(f"expected a matrix of shape {[classes, classes]}, got {list(table.shape)}")
    return table


def _curve(curve: Curve) -> dict[str, Any]:
    mean, count = _floats(curve.mean), _floats(curve.count)
    edges, stderr = _floats(curve.edges), _floats(curve.stderr)
    low, high = getattr(curve, "low", None), getattr(curve, "high", None)
    over_examples = low is not None and high is not None
    if not over_examples:
        low = [value - Z95 * error for value, error in zip(mean, stderr, strict=True)]
        high = [value + Z95 * error for value, error in zip(mean, stderr, strict=True)]
    ends = [_floats(low), _floats(high)]
    if not len(edges) - 1 == len(mean) == len(count) == len(ends[0]) == len(ends[1]):
        raise ValueError(f"expected a curve of {len(mean)} bins, got {len(edges)} borders and {len(count)} counts")
    interval = "bootstrapped over examples" if over_examples else "pairs taken as independent"
    return {"edges": edges, "mean": mean, "low": ends[0], "high": ends[1], "count": count, "interval": interval}


def _length(length: Length) -> dict[str, Any]:
    return {
        "value": float(length.value),
        "slope": float(length.slope),
        "intercept": float(length.intercept),
        "pairs": int(length.pairs),
        "extrapolated": bool(length.extrapolated),
        "reason": str(length.reason),
        "low": float(getattr(length, "low", math.nan)),
        "high": float(getattr(length, "high", math.nan)),
        "open": math.isinf(float(getattr(length, "high", math.nan))),
    }


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values, dtype=np.float64).reshape(-1)]


def _distance(settings: Mapping[str, Any]) -> str:
    name, layer = settings.get("distance"), settings.get("distance_layer")
    kind = f"{name} distance" if name else "distance"
    return f"{kind} between the two inputs" if layer is None else f"{kind} between the outputs of {layer}"


def finite(value: Any) -> Any:
    """``value`` with None for every number that is not finite, as JSON knows no other.

    Example:
        >>> finite({"a": [1.0, math.nan], "b": math.inf})
        {'a': [1.0, None], 'b': None}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
