"""A run's results as arrays over steps, with the names of their dimensions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.storage import Array


def dataset_parts(results: Sequence[StiffnessResult]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and coordinates of the run's dataset: name → (dimensions, array)."""
    blocks = list(dict.fromkeys(block for one in results for block in one.summary))
    measures = list(dict.fromkeys(m for one in results for table in one.summary.values() for m in table))
    layers = list(dict.fromkeys(layer for one in results for layer in one.layer_names))
    table = _Table(results, blocks, measures)
    for one in results:
        for block, by_measure in one.summary.items():
            for measure, numbers in by_measure.items():
                at = (one.step, block, measure)
                for name, value in numbers.items():
                    table.put(name, (), at, value)
                for name, ends in one.interval.get(block, {}).get(measure, {}).items():
                    table.put(f"{name}_low", (), at, ends[0])
                    table.put(f"{name}_high", (), at, ends[1])
                length = one.critical_length.get(block, {}).get(measure)
                if length is not None:
                    for name, value in (("", length.value), ("_low", length.low), ("_high", length.high)):
                        table.put(f"critical_length{name}", (), at, value)
                matrix = one.class_matrix.get(block, {}).get(measure)
                if matrix is not None:
                    table.put("class_matrix", ("class_from", "class_to"), at, matrix)
                ends = one.class_interval.get(block, {}).get(measure)
                if ends is not None:
                    for side, name in enumerate(("class_matrix_low", "class_matrix_high")):
                        table.put(name, ("class_from", "class_to"), at, ends[side])
                for name, values in one.layer_summary.get(block, {}).get(measure, {}).items():
                    table.put(f"layer_{name}", ("layer",), at, _aligned(values, one.layer_names, layers))
                matrices = one.layer_class_matrix.get(block, {}).get(measure)
                if matrices is not None:
                    aligned = _aligned(matrices, one.layer_names, layers)
                    table.put("layer_class_matrix", ("layer", "class_from", "class_to"), at, aligned)
                curve = one.curve.get(block, {}).get(measure)
                if curve is not None:
                    arrays: dict[str, Array | None] = {
                        "curve_mean": curve.mean,
                        "curve_count": curve.count,
                        "distance": curve.centers,
                    }
                    arrays |= {"curve_low": curve.low, "curve_high": curve.high}
                    for name, array in arrays.items():
                        if array is not None:
                            table.put(name, ("bin",), at, array)
    coordinates: dict[str, Any] = {
        "step": [one.step for one in results],
        "epoch": ("step", [one.epoch for one in results]),
        "block": blocks,
        "measure": measures,
    }
    if layers:
        coordinates["layer"] = layers
    names = next((one.class_names for one in results if one.class_names is not None), None)
    if names is not None and "class_matrix" in table.variables:
        coordinates |= {"class_from": names, "class_to": names}
    return {**table.variables, "seconds": ("step", [one.seconds for one in results])}, coordinates


def _aligned(values: Any, names: Sequence[str], layers: Sequence[str]) -> Array:
    """Values of some layers ``[l, …]`` at the places of all; NaN for the others."""
    known = np.asarray(values, dtype=np.float64)
    every = np.full((len(layers), *known.shape[1:]), math.nan)
    every[[layers.index(name) for name in names]] = known
    return every


class _Table:
    """Arrays over (step, block, measure, …), NaN where nothing was put."""

    def __init__(self, results: Sequence[StiffnessResult], blocks: list[str], measures: list[str]) -> None:
        names: tuple[list[Any], ...] = ([one.step for one in results], blocks, measures)
        self.places = [{name: i for i, name in enumerate(along)} for along in names]
        self.variables: dict[str, tuple[tuple[str, ...], Array]] = {}

    def put(self, name: str, dimensions: tuple[str, ...], at: tuple[Any, ...], value: Any) -> None:
        value = np.asarray(value, dtype=np.float64)
        shape = (*map(len, self.places), *value.shape)
        whole = (("step", "block", "measure", *dimensions), np.full(shape, math.nan))
        _, array = self.variables.setdefault(name, whole)
        if array.shape != shape:
            raise ValueError(
                f"expected {name} of one shape in every result, got {array.shape[3:]} and {value.shape}"
            )
        array[tuple(place[key] for place, key in zip(self.places, at, strict=True))] = value
