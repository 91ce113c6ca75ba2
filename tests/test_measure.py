"""``measure_stiffness`` and ``StiffnessResult`` without a Trainer."""

import dataclasses
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness import StiffnessResult, measure_stiffness
from lightning_stiffness.functional import superclass_stiffness_matrix
from tests import told


def cross_entropy(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [(torch.randn(n, 6).double(), torch.arange(n) % 4) for n in (16, 12)]


def test_blocks_and_shapes(net, batches):
    result = measure_stiffness(net, *batches, loss_fn=cross_entropy, superclasses=[0, 0, 1, 1])
    assert result.blocks == ["train-train", "train-val", "val-val"]
    assert result.class_names == ["0", "1", "2", "3"]
    for block in result.blocks:
        for measure in ("cos", "sign"):
            matrix = result.class_matrix[block][measure]
            assert matrix.shape == (4, 4)
            assert np.abs(matrix).max() <= 1
            np.testing.assert_allclose(
                result.superclass_matrix[block][measure],
                superclass_stiffness_matrix(torch.tensor(matrix), [0, 0, 1, 1]).numpy(),
            )
            names = {"overall", "within_class", "between_class", "within_superclass", "between_superclass"}
            assert set(result.summary[block][measure]) == names
    assert result.pair_counts["train-train"].tolist() == [
        [12 if a == b else 16 for b in range(4)] for a in range(4)
    ]
    assert result.pair_counts["train-val"].sum() == 16 * 12


def test_each_cell_has_its_interval(net, batches, tmp_path):
    result = measure_stiffness(net, *batches, loss_fn=cross_entropy)
    loaded = StiffnessResult.load(result.save(tmp_path / "result.npz"))
    for block in result.blocks:
        for measure in ("cos", "sign"):
            low, high = result.class_interval[block][measure]
            matrix = result.class_matrix[block][measure]
            assert low.shape == matrix.shape
            assert ((low <= matrix) & (matrix <= high)).all()
            assert (low < high).any()
            np.testing.assert_array_equal(loaded.class_interval[block][measure], [low, high])
    assert measure_stiffness(net, *batches, loss_fn=cross_entropy, resamples=0).class_interval == {}


def test_the_loss_may_be_per_example_their_mean_or_their_sum(net, batches):
    results = [
        measure_stiffness(
            net,
            *batches,
            loss_fn=lambda m, b, kind=kind: functional.cross_entropy(m(b[0]), b[1], reduction=kind),
        )
        for kind in ("none", "mean", "sum")
    ]
    for other in results[1:]:
        for block in other.blocks:
            np.testing.assert_allclose(
                other.class_matrix[block]["cos"], results[0].class_matrix[block]["cos"], atol=1e-12
            )


def test_an_example_with_zero_gradient_is_left_out_and_counted(net, batches):
    (x, y), val = batches

    def loss(module, batch):
        return cross_entropy(module, batch) * (batch[0].abs().sum(1) < 1e6)

    x = x.clone()
    x[3] = 1e7
    with pytest.warns(UserWarning, match="left out: 1 of 16 in train"):
        result = measure_stiffness(net, (x, y), val, loss_fn=loss, inputs=None)
    assert result.excluded == {"train": 1, "val": 0}
    assert result.scalars()["stiffness/excluded_examples"] == 1
    keep = [i for i in range(16) if i != 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = measure_stiffness(net, (x[keep], y[keep]), val, loss_fn=loss, inputs=None)
    for measure in ("cos", "sign"):
        np.testing.assert_allclose(
            result.class_matrix["train-train"][measure], without.class_matrix["train-train"][measure], atol=1e-12
        )
    assert result.pair_counts["train-train"].sum() == 15 * 14


def test_labels_of_any_integers_keep_their_names(net, batches):
    (x, y), _ = batches
    values = torch.tensor([-7, 3, 1000, 12])

    def loss(module, batch):
        return cross_entropy(module, (batch[0], (batch[1][:, None] == values).long().argmax(1)))

    result = measure_stiffness(net, (x, values[y]), loss_fn=loss)
    assert result.class_names == ["-7", "3", "12", "1000"]
    assert result.probe_labels["train"].tolist() == [[0, 1, 3, 2][i] for i in y.tolist()]


def test_distances_in_the_output_of_a_layer(net, batches):
    by_layer = measure_stiffness(net, batches[0], loss_fn=cross_entropy, distance_layer="1")
    by_hand = measure_stiffness(
        net, batches[0], loss_fn=cross_entropy, inputs=lambda batch: net[1](net[0](batch[0])).detach()
    )
    for name in ("edges", "mean", "count", "stderr"):
        np.testing.assert_allclose(
            getattr(by_layer.curve["train-train"]["cos"], name), getattr(by_hand.curve["train-train"]["cos"], name)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"superclasses": [0, 1]}, "superclasses has 2 entries"),
        ({"labels": lambda batch: batch[1].float()}, "integer labels, got torch.float32"),
        ({"labels": "second"}, "labels to be a function of a batch .* None to leave classes out, got 'second'"),
        ({"distance_layer": "nine"}, r"no submodule; there are 0, 1, 2"),
        ({"distance": lambda x, y: x.sum()}, r"distance function to return a tensor \[2, 2\], got \[\]"),
        ({"parameters": "decoder"}, "fits no trainable parameter"),
        ({"loss_fn": lambda m, b: m(b[0])}, r"loss of shape \[\] or \[1\] for one example|losses \[16\]"),
    ],
    ids=told,
)
def test_mistakes(net, batches, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_stiffness(net, batches[0], **{"loss_fn": cross_entropy, **arguments})


def test_tensors_of_different_lengths(net):
    with pytest.raises(ValueError, match=r"hold 3 examples along its first axis, got batch\[1\]: 4"):
        measure_stiffness(net, (torch.zeros(3, 6), torch.zeros(4), torch.zeros(3)), loss_fn=cross_entropy)


def test_tokens_have_no_input_distance():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    batch = (torch.randint(0, 9, (8, 3)), torch.arange(8) % 2)
    with pytest.warns(UserWarning, match=r"token ids have none.*input_fn= in the callback"):
        result = measure_stiffness(net, batch, loss_fn=cross_entropy)
    assert result.curve == {}
    assert set(result.class_matrix) == {"train-train"}


def test_the_module_is_left_as_it_was(net, batches):
    net.train()
    net[1].eval()
    before = [(p, p.detach().clone()) for p in net.parameters()]
    state = torch.get_rng_state()
    measure_stiffness(net, *batches, loss_fn=cross_entropy)
    assert [part.training for part in net.modules()] == [True, True, False, True]
    assert torch.equal(state, torch.get_rng_state())
    for parameter, (same, value) in zip(net.parameters(), before, strict=True):
        assert parameter is same
        assert parameter.grad is None
        assert torch.equal(parameter, value)


def test_results_come_back_from_disk_as_they_were(net, batches, tmp_path):
    result = measure_stiffness(
        net, *batches, loss_fn=cross_entropy, superclasses=[0, 0, 1, 1], class_names=list("abcd"), step=7, epoch=2
    )
    loaded = StiffnessResult.load(result.save(tmp_path / "deep" / "result.npz"))
    for field in dataclasses.fields(result):
        np.testing.assert_equal(
            _plain(getattr(loaded, field.name)), _plain(getattr(result, field.name)), err_msg=field.name
        )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.npz"]


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return vars(value) if dataclasses.is_dataclass(value) else value


def test_a_save_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = StiffnessResult(step=1, epoch=0).save(tmp_path / "result.npz")

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        StiffnessResult(step=2, epoch=0).save(path)
    assert StiffnessResult.load(path).step == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "text", "pickle", "other format"])
def test_damaged_and_foreign_files_are_named(tmp_path, damage):
    path = StiffnessResult(step=1, epoch=0).save(tmp_path / "result.npz")
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "foreign":
        np.savez(path, weights=np.ones(3))
    elif damage == "text":
        path.write_text("epoch,loss\n0,1\n")
    elif damage == "pickle":
        np.savez(path, meta=np.array({"format": 1}, dtype=object))
    else:
        np.savez(path, meta=np.array('{"format": "lightning-stiffness/99"}'))
    with pytest.raises(ValueError, match=r"result\.npz is damaged or no stiffness result"):
        StiffnessResult.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        StiffnessResult.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize("dead", [("train", "val"), ("train",)], ids=told)
def test_a_probe_without_any_gradient_gives_nan_and_its_reason(dead):
    torch.manual_seed(0)
    net, y = torch.nn.Linear(4, 3), torch.arange(12) % 3
    train, val = torch.randn(12, 4), torch.randn(12, 4) + 10

    def loss_fn(module, batch):
        alive = 0.0 if len(dead) == 2 else (batch[0][:, 0] > 5).float()
        return torch.nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none") * alive

    with pytest.warns(UserWarning, match="12 of 12 in train"):
        result = measure_stiffness(net, (train, y), (val, y), loss_fn=loss_fn)
    assert result.excluded == {"train": 12, "val": 12 if "val" in dead else 0}
    for block in result.blocks:
        measured = block == "val-val" and "val" not in dead
        for numbers in result.summary[block].values():
            assert all(np.isfinite(value) == measured for value in numbers.values())
        for name, (low, high) in result.interval[block]["cos"].items():
            assert (np.isfinite(low) and np.isfinite(high)) == measured, name
        assert np.isnan(result.critical_length[block]["cos"].value) or measured
