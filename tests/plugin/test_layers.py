"""Layers are sent as they were saved, and cost nothing where there are none."""

import math

import numpy as np
import pytest

from lightning_stiffness.plugin.frames import frame_of
from lightning_stiffness.plugin.payload import run_payload, view_payload
from lightning_stiffness.plugin.store import History
from lightning_stiffness.result import StiffnessResult
from tests.plugin.synthetic import BLOCKS, result
from tests.plugin.test_routes import PLUGIN, unpack


def history(*results):
    return History("run", "0", [frame_of(one) for one in results], [])


def arrays(*results, block="train-val", measure="cos"):
    return unpack(view_payload(history(*results), block, measure))[1]


def test_means_are_those_that_were_saved(tmp_path, serve):
    saved = [result(step, classes=4, layers=7) for step in (0, 100, 200)]
    for one in saved:
        one.save(tmp_path / "run" / "stiffness" / f"step_{one.step:08d}.npz")
    client = serve(tmp_path)
    assert client.get(f"{PLUGIN}/run?run=run").json["layer_names"] == saved[0].layer_names
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            query = {"run": "run", "block": block, "measure": measure}
            _, found = unpack(client.get(f"{PLUGIN}/view", query_string=query).data)
            assert set(found) == {"matrix", "counts", "layers/within_class", "layers/between_class"}
            for kind in ("within_class", "between_class"):
                known = [one.layer_summary[block][measure][kind] for one in saved]
                np.testing.assert_array_equal(found[f"layers/{kind}"], np.float32(known))


def test_a_run_without_layers_sends_nothing_more():
    plain = history(result(0, classes=4))
    assert "layer_names" not in run_payload(plain)
    assert b"layer" not in view_payload(plain, "train-val", "cos")
    more = history(result(0, classes=4, layers=7))
    assert more.frames[0].nbytes - plain.frames[0].nbytes == 3 * 2 * 2 * 7 * 4  # views, means, layers, bytes


def test_steps_without_layers_and_with_others():
    other = result(100, classes=4, layers=3)
    renamed = result(200, classes=4, layers=3)
    renamed.layer_names[0] = "stem"
    steps = [result(0, classes=4), other, renamed, result(300, classes=4)]
    found = arrays(*steps)["layers/within_class"]
    assert [values is not None for values in found] == [False, False, True, False]
    assert run_payload(history(*steps))["layer_names"] == renamed.layer_names


def test_overall_where_there_are_no_classes_and_missing_means():
    one = StiffnessResult(
        0,
        0,
        summary={"train-val": {"cos": {"overall": 0.4}, "sign": {"overall": 0.5}}},
        layer_names=["body", "head"],
        layer_summary={"train-val": {"cos": {"overall": [0.25, math.nan]}}},
    )
    found = arrays(one)
    assert list(found) == ["layers/overall"]
    np.testing.assert_array_equal(found["layers/overall"][0], [0.25, np.nan])
    assert arrays(one, measure="sign") == {}


def test_a_mean_for_each_layer():
    one = result(0, classes=4, layers=3)
    one.layer_summary["val-val"]["sign"]["between_class"].pop()
    with pytest.raises(ValueError, match="expected between_class of 3 layers, got shape \\[2\\]"):
        frame_of(one)
