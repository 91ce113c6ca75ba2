"""In several processes every one measures what one process alone would."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lightning_stiffness import StiffnessResult, measure_stiffness
from tests.callback.runs import cnn, digits, fc

SCRIPT = Path(__file__).parent / "ddp_run.py"


def run(folder, devices, *options):
    command = [sys.executable, str(SCRIPT), str(folder), str(devices), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(devices)]
    results = [
        [StiffnessResult.load(path) for path in sorted(folder.glob(f"rank{rank}_*.npz"))] for rank in range(devices)
    ]
    return told, results, done.stderr


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    two, one = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    return run(two, 2), run(one, 1), two


def comparable(result):
    return {name: value for name, value in result.scalars().items() if name != "stiffness/seconds"}


def test_every_process_has_the_same_values(both):
    (told, results, _), _, folder = both
    assert told[0] == told[1]
    for left, right in zip(*results, strict=True):
        assert comparable(left) == pytest.approx(comparable(right), rel=1e-9, abs=1e-9, nan_ok=True)
        for block, measures in left.class_matrix.items():
            for measure, matrix in measures.items():
                np.testing.assert_allclose(matrix, right.class_matrix[block][measure], rtol=1e-9, atol=1e-12)
    assert len(list((folder / "stiffness").glob("step_*.npz"))) == len(results[0])


def test_no_advice_to_synchronise_what_is_the_same(both):
    (_, _, said), *_ = both
    assert not [line for line in said.splitlines() if "sync_dist" in line and "stiffness" in line]


def test_early_stopping_on_a_stiffness_key_stops_all_processes_together(both):
    (told, results, _), *_ = both
    assert told[0]["epochs"] == told[1]["epochs"] == 2
    assert told[0]["monitored"] == pytest.approx(results[0][-1].summary["train-val"]["cos"]["within_class"])


def test_the_values_of_one_process(both):
    (_, two, _), (_, one, _), _ = both
    both_ways = comparable(two[0][0]), comparable(one[0][0])
    lengths = [{n: v for n, v in values.items() if n.endswith("critical_length")} for values in both_ways]
    rest = [{n: v for n, v in values.items() if n not in lengths[0]} for values in both_ways]
    assert lengths[0]
    assert rest[0] == pytest.approx(rest[1], rel=1e-5, abs=1e-6, nan_ok=True)
    # a quotient: of a small slope, what that is off by weighs as many times as it is smaller than stiffness itself
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4, nan_ok=True)
    assert (two[0][0].probe_indices["train"] == one[0][0].probe_indices["train"]).all()


def test_the_values_at_the_end_against_a_measurement_alone(both):
    (told, results, _), _, folder = both
    net = cnn()
    net.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    sets = {"train": digits(40), "val": digits(24, 1)}
    batches = [tuple(t[told[0]["probe"][split]] for t in sets[split].tensors) for split in ("train", "val")]
    alone = measure_stiffness(
        net,
        *batches,
        loss_fn=lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1], reduction="none"),
        engine="loop",
    )
    for block, measures in results[0][-1].class_matrix.items():
        np.testing.assert_allclose(measures["cos"], alone.class_matrix[block]["cos"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(measures["sign"], alone.class_matrix[block]["sign"], atol=1e-12)


def test_a_failure_on_one_process_holds_up_none(tmp_path):
    told, results, stderr = run(tmp_path, 2, "--unlucky")
    assert told[0]["epochs"] == told[1]["epochs"]
    assert told[0]["failures"] == told[1]["failures"] == 1
    assert len(results[0]) == len(results[1]) == 2
    assert math.isnan(told[0]["monitored"])  # the last measurement is the one that failed
    assert "out of memory on process 1" in stderr


def test_processes_measure_together_what_a_step_leaves_trainable(tmp_path):
    command = [sys.executable, str(SCRIPT.with_name("ddp_step.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [StiffnessResult.load(tmp_path / f"start{rank}.npz") for rank in range(2)]
    torch.manual_seed(3)
    net = fc()
    batch = tuple(t[results[0].probe_indices["train"]] for t in digits(40).tensors)
    alone = measure_stiffness(
        net, batch, loss_fn=lambda net, batch: functional.cross_entropy(net(batch[0]), batch[1]), engine="loop"
    )
    for result in results:
        found, expected = result.class_matrix["train-train"]["cos"], alone.class_matrix["train-train"]["cos"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
