"""Intervals and further numbers are shown where a result has them, and missed by nobody where it has not."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from lightning_stiffness.plugin.frames import Z95, frame_of
from lightning_stiffness.plugin.payload import run_payload, view_payload
from lightning_stiffness.plugin.store import History
from tests.plugin.synthetic import BLOCKS, result

INTERVALS = {"within_class": (0.5, 0.7), "between_class": (-0.1, math.nan)}


def extended(step=100):
    """A result with every optional field, and without those of its class where that lacks them."""
    plain = result(step, classes=4, groups=2, progress=0.5)
    curves = {
        block: {
            measure: SimpleNamespace(**{**vars(curve), "low": curve.mean - 0.25, "high": curve.mean + 0.5})
            for measure, curve in measures.items()
        }
        for block, measures in plain.curve.items()
    }
    lengths = {
        block: {
            measure: SimpleNamespace(**{**vars(length), "low": 0.4, "high": math.inf if measure == "sign" else 1.9})
            for measure, length in measures.items()
        }
        for block, measures in plain.critical_length.items()
    }
    more = {
        "curve": curves,
        "critical_length": lengths,
        "interval": {block: {"cos": INTERVALS} for block in BLOCKS},
        "class_interval": {"train-val": {"cos": np.stack([np.full((4, 4), -0.5), np.full((4, 4), 0.5)])}},
        "superclass_names": [["animals", "vehicles"], ["all"]],
        "diagnostics": {"train": {"gradient_coherence": 0.25, "effective_rank": math.inf}},
    }
    return SimpleNamespace(**{**vars(plain), **more})


def payload(*results):
    return run_payload(History("run", "0", [frame_of(one) for one in results], []))


def test_intervals_of_the_summary():
    run = payload(extended(), result(200, classes=4, groups=2))
    assert run["intervals"]["train-val"]["cos"] == {
        "within_class": [[0.5, 0.7], None],
        "between_class": [[-0.1, None], None],
    }
    assert run["intervals"]["train-val"]["sign"] == {}
    json.dumps(run, allow_nan=False)


def test_intervals_of_the_critical_length_may_be_open():
    run = payload(extended(), result(200, classes=4))
    found = [
        [one[key] for key in ("low", "high", "open")]
        for measure in ("cos", "sign")
        for one in run["lengths"]["val-val"][measure]
    ]
    assert found == [[0.4, 1.9, False], [None, None, False], [0.4, None, True], [None, None, False]]


def test_intervals_of_the_curve_are_those_of_the_result_else_from_its_standard_errors():
    with_intervals = frame_of(extended()).views["train-val", "cos"].curve
    plain = result(100, classes=4, groups=2, progress=0.5).curve["train-val"]["cos"]
    np.testing.assert_allclose(with_intervals["low"], plain.mean - 0.25)
    np.testing.assert_allclose(with_intervals["high"], plain.mean + 0.5)
    assert with_intervals["interval"] == "bootstrapped over examples"
    without = frame_of(result(100, classes=4, groups=2, progress=0.5)).views["train-val", "cos"].curve
    np.testing.assert_allclose(without["high"], plain.mean + Z95 * plain.stderr)
    np.testing.assert_allclose(without["low"], plain.mean - Z95 * plain.stderr)
    assert without["interval"] == "pairs taken as independent"


def test_intervals_of_cells():
    history = History("run", "0", [frame_of(extended()), frame_of(result(200, classes=4))], [])
    data = view_payload(history, "train-val", "cos")
    length = int.from_bytes(data[:4], "little")
    entry = json.loads(data[4 : 4 + length])["arrays"]["cell_intervals"]
    assert (entry["shape"], entry["steps"]) == ([1, 2, 4, 4], [0, -1])
    values = np.frombuffer(data, entry["dtype"], 32, 4 + length + entry["offset"])
    np.testing.assert_array_equal(values, [-0.5] * 16 + [0.5] * 16)


def test_names_of_groups_and_diagnostics():
    run = payload(extended())
    assert run["group_names"] == ["animals", "vehicles"]
    assert run["diagnostics"] == [{"train": {"gradient_coherence": 0.25, "effective_rank": None}}]
    plain = payload(result(1, classes=4, groups=2))
    assert (plain["group_names"], plain["groups"]) == (None, [0, 0, 1, 1])


def test_too_few_names_of_groups():
    one = extended()
    one.superclass_names = [["animals"]]
    with pytest.raises(ValueError, match="expected names of 2 groups, got 1"):
        frame_of(one)
