"""What a run logs, against the definitions written out by hand in float64 on the same probe."""

import math

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from lightning_stiffness import StiffnessCallback, StiffnessResult
from tests.callback.runs import (
    class_matrix_by_hand,
    cnn,
    digits,
    fc,
    fit,
    gradients_by_hand,
    stiffness_by_hand,
)


def distances_by_hand(x: Tensor, z: Tensor, reference: Tensor) -> np.ndarray:
    mean = reference.double().flatten(1).numpy().mean(0)
    deviation = reference.double().flatten(1).numpy().std(0)
    a, b = ((v.double().flatten(1).numpy() - mean) / deviation for v in (x, z))
    return np.array([[1 - (u @ v) / np.sqrt(u @ u) / np.sqrt(v @ v) for v in b] for u in a])


@pytest.fixture(scope="module", params=["fc-float64", "fc-float32", "cnn-float64", "cnn-float32"])
def measured(request: pytest.FixtureRequest) -> tuple[StiffnessResult, nn.Module, dict[str, tuple[Tensor, Tensor]]]:
    """The measurement at the end of a run, the network then, and the probe's examples."""
    kind, precision = request.param.split("-")
    dtype = torch.float64 if precision == "float64" else torch.float32
    torch.manual_seed(5)
    callback = StiffnessCallback(probe_size=20)
    data = {"train": digits(40, noise=3, dtype=dtype), "val": digits(24, 1, noise=3, dtype=dtype)}
    net = {"fc": fc, "cnn": cnn}[kind]().to(dtype)
    module, _ = fit(net, [callback], **data, precision="64-true" if precision == "float64" else "32-true")
    result = callback.result
    assert result is not None
    examples = {}
    for split, dataset in data.items():
        x, y = dataset[result.probe_indices[split].tolist()]
        assert y.tolist() == result.probe_labels[split].tolist()
        examples[split] = (x, y)
    return result, module.net, examples


@pytest.mark.parametrize("block", ["train-train", "train-val", "val-val"])
@pytest.mark.parametrize("measure", ["cos", "sign"])
def test_numbers_are_those_of_the_definitions(measured, block, measure):
    result, net, examples = measured
    (x, y), (z, w) = (examples[split] for split in block.split("-"))
    symmetric = block != "train-val"
    rows, columns = gradients_by_hand(net, x, y), gradients_by_hand(net, z, w)
    table = stiffness_by_hand(rows, columns, measure)
    matrix = class_matrix_by_hand(table, y.tolist(), w.tolist(), 4, symmetric)

    exact = 1e-6 if measure == "cos" else 0.0
    np.testing.assert_allclose(result.class_matrix[block][measure], matrix, rtol=1e-12, atol=exact)
    summary = result.summary[block][measure]
    within = [matrix[a][a] for a in range(4)]
    between = [matrix[a][b] for a in range(4) for b in range(4) if a != b]
    assert summary["within_class"] == pytest.approx(sum(within) / 4, abs=exact or 1e-12)
    assert summary["between_class"] == pytest.approx(sum(between) / 12, abs=exact or 1e-12)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(z)) if not (symmetric and i == j)]
    assert summary["overall"] == pytest.approx(np.mean([table[i][j] for i, j in pairs]), abs=exact or 1e-12)

    distances = distances_by_hand(x, z, examples["train"][0])
    same_class = [(i, j) for i, j in pairs if y[i] == w[j] and (not symmetric or i < j)]
    d = [distances[i, j] for i, j in same_class]
    s = [table[i][j] for i, j in same_class]
    slope, intercept = np.polyfit(d, s, 1)
    length = result.critical_length[block][measure]
    assert length.pairs == len(same_class)
    assert length.slope == pytest.approx(slope, abs=1e-6)
    if slope < -1e-9:
        # In float32 the line itself is known to about 1e-6, which a flat one turns into more of its crossing.
        room = 1e-6 if x.dtype == torch.float64 else 1e-6 * (1 + abs(intercept / slope)) / abs(slope)
        assert length.value == pytest.approx(-intercept / slope, abs=room)
    else:
        assert math.isnan(length.value)
        assert "does not fall" in length.reason

    curve = result.curve[block][measure]
    assert curve.edges[0] == pytest.approx(min(d), abs=1e-12)
    assert curve.edges[-1] == pytest.approx(max(d), abs=1e-12)
    assert curve.count.sum() == len(d)
    for low, high, mean, count in zip(curve.edges[:-1], curve.edges[1:], curve.mean, curve.count, strict=True):
        inside = [v for u, v in zip(d, s, strict=True) if low <= u < high or (u == high == curve.edges[-1])]
        if count == len(inside) > 0:  # a distance on a border may round to either side
            assert mean == pytest.approx(np.mean(inside), abs=1e-6)


def test_scalars_reach_the_logger_as_measured(tmp_path):
    callback = StiffnessCallback(probe_size=16)
    _, trainer = fit(callbacks=[callback], logger=CSVLogger(tmp_path))
    assert callback.result is not None
    for name, value in callback.result.scalars().items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_a_probe_of_all_examples_is_balanced_and_without_repeats():
    callback = StiffnessCallback(probe_size=24)
    fit(callbacks=[callback], max_epochs=1)
    assert callback.result is not None
    for split in ("train", "val"):
        indices = callback.result.probe_indices[split]
        assert len(set(indices.tolist())) == 24
        assert np.bincount(callback.result.probe_labels[split]).tolist() == [6, 6, 6, 6]


def test_pairs_of_one_example_with_itself_across_splits_do_not_count():
    """Validation on the training data: train-val then holds every example twice."""
    data = digits(12)
    callback = StiffnessCallback(probe_size=12)
    fit(callbacks=[callback], train=data, val=data, max_epochs=1)
    result = callback.result
    assert result is not None
    assert np.diag(result.pair_counts["train-val"]).tolist() == [6, 6, 6, 6]
    np.testing.assert_allclose(
        result.class_matrix["train-val"]["cos"], result.class_matrix["train-train"]["cos"], atol=1e-6
    )
