"""A Gram worked out by several processes is the Gram of one."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.division import MORE, divide, formed
from lightning_stiffness.gram.multiply import chosen
from lightning_stiffness.gram.packing import ALONE, Pack, slots, unpacked
from lightning_stiffness.gram.parts import Convolution, Dense
from lightning_stiffness.gram.problem import Examples
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.together import enough_for_all

SCRIPT = Path(__file__).parent / "share_run.py"


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes(tmp_path, count):
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path / "meeting"), str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    told = [process.communicate(timeout=240) for process in started]
    for rank, (process, (out, err)) in enumerate(zip(started, told, strict=True)):
        assert process.returncode == 0, err[-3000:]
        lines = out.splitlines()
        assert [line.split()[1] for line in lines] == [
            "linear", "mean", "convolution", "text", "complex", "few", "unlike", "failure", "done"
        ]  # fmt: skip
        assert "no room" in lines[7]
        assert (f"process 1 of {count} could not do its part" in lines[7]) == (rank != 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_example_and_every_strip_has_one_process(count):
    shares = [Share(rank, count, torch.device("cpu")) for rank in range(count)]
    spans = [share.span(7) for share in shares]
    assert spans[0][0] == 0
    assert spans[-1][1] == 7
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    for place in range(12):
        assert sum(share.mine(place) for share in shares) == 1


@pytest.mark.parametrize(
    ("sizes", "count", "enough"),
    [
        ((2,), 1, True),
        ((2,), 2, False),
        ((4,), 2, True),
        ((2, 2), 2, True),
        ((3, 3), 3, False),
        ((1, 3), 2, False),
        ((1, 1), 1, False),
    ],
)
def test_every_process_needs_two_examples_of_one_batch(sizes, count, enough):
    every = Examples.of(*(torch.zeros(size, 3) for size in sizes))
    assert enough_for_all(every, Share(0, count, torch.device("cpu"))) is enough


def test_tensors_travel_beside_the_pickle_each_once():
    x = torch.arange(12.0).view(3, 4)
    value = {
        "large": torch.randn(4, ALONE // 4),
        "left": x,
        "nothing": x[:0],
        "same": x,
        "view": x[:, 1],
        "reshaped": x.view(3, 1, 4),
        "other": [torch.tensor(2), torch.ones(2, dtype=torch.bool), torch.tensor([1 + 2j])],
    }
    pack, cpu = Pack.of(value), torch.device("cpu")
    assert len(pack.tensors) == 7
    assert len(pack.text) < 500
    cargo = pack.cargo(cpu)
    assert cargo[0].data_ptr() == value["large"].data_ptr()
    assert [len(room) for room in slots(pack.forms, cpu)] == [len(data) for data in cargo] == [4 * ALONE, 112]
    found = unpacked(pack.text, pack.forms, cargo)
    assert torch.equal(found["large"], value["large"])
    assert found["left"].data_ptr() == found["same"].data_ptr() == found["reshaped"].data_ptr()
    for name in ("left", "view", "reshaped"):
        assert torch.equal(found[name], value[name])
    for got, expected in zip(found["other"], value["other"], strict=True):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)


def collected(**widths) -> Collected:
    """Gradients of five examples by layers with a weight and a bias."""
    parts = {
        f"{layer}.{name}": [[Dense(torch.randn(5, size), 1)]]
        for layer, width in widths.items()
        for name, size in (("weight", width), ("bias", 1))
    }
    return Collected(parts, {}, [5])


def test_layers_are_divided_evenly_and_kept_together():
    held = collected(a=900, b=500, c=450, d=40)
    owners = divide(held, list(held.parts), 10, 50, 2)
    assert {name.partition(".")[0]: rank for name, rank in owners.items()} == {"a": 0, "b": 1, "c": 1, "d": 0}
    assert all(owners[f"{layer}.weight"] == owners[f"{layer}.bias"] for layer in "abcd")


def test_one_large_layer_is_not_for_one_process():
    held = collected(a=900, b=100)
    assert divide(held, list(held.parts), 10, 50, 2) is None
    assert set(divide(held, list(held.parts), 10, 50, 1).values()) == {0}


def test_gradients_of_convolutions_are_formed_once():
    conv = Convolution(
        torch.randn(5, 1, 3, 6, 6), torch.randn(5, 1, 4, 6, 6), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1
    )
    held = Collected({"conv": [[conv], []], "other": [[Dense(torch.randn(5, 3))], []]}, {}, [5, 2])
    whole = 10 * 4 * 27 * 4  # bytes of the gradients of ten examples
    found = formed(held, 10, 50, whole)
    ((dense,), none) = found.parts["conv"]
    assert isinstance(dense, Dense)
    assert none == []
    assert torch.equal(dense.dense(1, 3), conv.dense(0, 4)[:, 27 : 3 * 27])
    assert found.parts["other"] is held.parts["other"]
    assert found.sizes == [5, 2]
    assert formed(held, 10, 50, whole - 1).parts == held.parts  # no room
    large = Convolution(
        torch.randn(5, 1, 32, 5, 5), torch.randn(5, 1, 32, 3, 3), (32, 32, 3, 3), (1, 1), (0, 0), (1, 1), 1
    )
    assert chosen([[large]], 10, 50).formula == "dense"
    assert large.dense_bytes() > MORE * large.bytes_per_example()
    assert formed(Collected({"conv": [[large]]}, {}, [5]), 10, 50, 1 << 30).parts["conv"] == [[large]]
