"""What is sent to the browser: plain values for JSON, and arrays packed into bytes."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from lightning_stiffness.plugin.frames import Array, Frame, View, finite
from lightning_stiffness.plugin.layers import KINDS
from lightning_stiffness.plugin.store import History, Listed
from lightning_stiffness.plugin.verdict import verdicts

ORDER = ("train-val", "train-train", "val-val")
"""Blocks as they are offered: first the one that speaks of generalisation."""
SCALE = 32767
"""Stiffness in 2 bytes is a multiple of 1 / 32767, at most 0.000016 from what it was."""
MISSING = -32768


def runs_payload(runs: list[Listed], notes: list[str]) -> dict[str, Any]:
    """The list of runs."""
    return {"runs": [asdict(run) for run in runs], "notes": notes}


def run_payload(history: History) -> dict[str, Any]:
    """A run's numbers over its steps.

    Args:
        history: the run.

    Returns:
        ``steps``, ``epochs``, ``verdicts`` ``[t]`` and ``series``: block → measure → name → values ``[t]``, with
        ``intervals`` and ``lengths`` alike; None where there is no number. ``layer_names`` where there are layers.

    Example:
        >>> from lightning_stiffness.plugin.frames import Frame
        >>> frame = Frame(step=9, epoch=1, views={("train-val", "cos"): View({"within_class": 0.6})})
        >>> run_payload(History("a", "0", [frame], []))["series"]["train-val"]["cos"]["within_class"]
        [0.6]
    """
    frames = history.frames
    keys = sorted({key for frame in frames for key in frame.views}, key=_place)
    series: dict[str, dict[str, Any]] = {}
    intervals: dict[str, dict[str, Any]] = {}
    lengths: dict[str, dict[str, Any]] = {}
    for block, measure in keys:
        views = [frame.views.get((block, measure)) for frame in frames]
        names = list(dict.fromkeys(name for view in views if view for name in view.summary))
        series.setdefault(block, {})[measure] = {
            name: [view.summary.get(name) if view else None for view in views] for name in names
        }
        intervals.setdefault(block, {})[measure] = {
            name: [view.intervals.get(name) if view else None for view in views]
            for name in names
            if any(view and name in view.intervals for view in views)
        }
        lengths.setdefault(block, {})[measure] = [view.length if view else None for view in views]
    last = frames[-1] if frames else None
    payload = {
        "name": history.name,
        "version": history.version,
        "steps": [frame.step for frame in frames],
        "epochs": [frame.epoch for frame in frames],
        "class_names": last.class_names if last else None,
        "groups": last.groups if last else None,
        "group_names": last.group_names if last else None,
        "distance": last.distance if last else "",
        "series": series,
        "intervals": intervals,
        "lengths": lengths,
        "diagnostics": [frame.diagnostics for frame in frames],
        "engines": [frame.engine for frame in frames],
        "excluded": [frame.excluded for frame in frames],
        "seconds": [frame.seconds for frame in frames],
        "verdicts": [asdict(verdict) for verdict in verdicts(frames)],
        "notes": [*history.notes, *dict.fromkeys(note for frame in frames for note in frame.notes)],
    }
    layers = _layer_names(frames)
    return dict(finite(payload if layers is None else {**payload, "layer_names": layers}))


def view_payload(history: History, block: str, measure: str, *, compact: bool = False) -> bytes:
    """Matrices and curves of one block and measure over all steps of a run, in bytes.

    Layout: the length of the header as a little-endian uint32; the header, UTF-8 JSON, padded with blanks to a
    multiple of 4 bytes in all; the arrays, little-endian, one behind the other. The header holds ``curves``
    ``[t]`` and ``arrays``: name → ``dtype``, ``shape``, ``offset`` from the end of the header, and ``steps``, which
    says for each of the ``t`` steps which slice of the array is its own, or -1 for none. A slice that several
    steps share is sent once. Means of layers are arrays too, such as ``layers/within_class``.

    Args:
        history: the run.
        block: such as ``"train-val"``.
        measure: such as ``"cos"``.
        compact: stiffness in 2 bytes instead of 4, as multiples of 1 / :data:`SCALE`; the header holds that
            number as ``scale``, and -32768 stands for NaN.

    Returns:
        The bytes.

    Raises:
        KeyError: if the run has nothing for this block and measure.
    """
    views = [frame.views.get((block, measure)) for frame in history.frames]
    if not any(views):
        raise KeyError(f"{block}/{measure}")
    header: dict[str, Any] = {"curves": [view.curve if view else None for view in views], "arrays": {}}
    chunks: list[bytes] = []
    size = 0
    for name, dtype, arrays in _arrays(history.frames, views):
        slices, which = _slices(arrays)
        if not slices:
            continue
        stacked = np.ascontiguousarray(np.stack(slices), dtype=dtype)
        about = {"shape": list(stacked.shape), "offset": size, "steps": which}
        if compact and dtype == "<f4" and not (np.abs(stacked) > 1).any():
            stacked = np.where(np.isnan(stacked), MISSING, np.rint(stacked.astype(np.float64) * SCALE)).astype(
                "<i2"
            )
            dtype, about["scale"] = "<i2", SCALE
        header["arrays"][name] = {"dtype": dtype, **about}
        chunks.append(stacked.tobytes() + bytes(-stacked.nbytes % 4))
        size += len(chunks[-1])
    text = json.dumps(finite(header), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([len(text).to_bytes(4, "little"), text, *chunks])


def _arrays(frames: list[Frame], views: list[View | None]) -> Iterator[tuple[str, str, list[Array | None]]]:
    """Name, type, and the array of each step; a run whose classes or layers changed has those of the last ones."""
    shape = (len(frames[-1].class_names or ()),) * 2
    for name, dtype in (("matrix", "<f4"), ("counts", "<i4"), ("cell_intervals", "<f4")):
        of_views = [None if view is None else getattr(view, name) for view in views]
        yield name, dtype, [None if array is None or array.shape[-2:] != shape else array for array in of_views]
    layers = _layer_names(frames)
    known = [view if frame.layer_names == layers else None for frame, view in zip(frames, views, strict=True)]
    for kind in KINDS if layers else ():
        yield f"layers/{kind}", "<f4", [view.layers.get(kind) if view else None for view in known]


def _layer_names(frames: list[Frame]) -> list[str] | None:
    """The layers of the last step that tells them apart."""
    return next((frame.layer_names for frame in reversed(frames) if frame.layer_names), None)


def _slices(arrays: list[Array | None]) -> tuple[list[Array], list[int]]:
    """The arrays without repetition, and for each step which of them is its own."""
    slices: list[Array] = []
    which = []
    for array in arrays:
        if array is None:
            which.append(-1)
            continue
        if not slices or not np.array_equal(slices[-1], array, equal_nan=array.dtype.kind == "f"):
            slices.append(array)
        which.append(len(slices) - 1)
    return slices, which


def _place(key: tuple[str, str]) -> tuple[float, str, str]:
    block, measure = key
    return (ORDER.index(block) if block in ORDER else math.inf, block, measure)
