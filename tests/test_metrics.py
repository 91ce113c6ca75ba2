"""torchmetrics metrics: sums over updates and processes give what the functional layer gives at once."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torchmetrics import MetricCollection

import lightning_stiffness
from lightning_stiffness.functional import (
    class_stiffness_matrix,
    class_summary,
    cosine_stiffness,
    critical_length,
    distance_curve,
)
from lightning_stiffness.metrics import ClassStiffness, DistanceStiffness
from tests import told

LIMITS = (0.0, 3.0)


def block(seed=0, n=24):
    """Stiffness, labels, distance and the pairs of one class, with an example that has no stiffness."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    g = torch.cat([x, torch.randn(n, 2, generator=generator, dtype=torch.float64)], 1) + 0.5
    g[3] = 0
    y = torch.arange(n) % 3
    return cosine_stiffness(g @ g.T), y, torch.cdist(x, x), (y[:, None] == y[None]).triu(1)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=0, atol=1e-12)


def length_close(actual, expected):
    assert (actual.pairs, actual.extrapolated, actual.reason) == (
        expected.pairs,
        expected.extrapolated,
        expected.reason,
    )
    for name in ("value", "slope", "intercept"):
        assert getattr(actual, name) == pytest.approx(getattr(expected, name), rel=1e-9, nan_ok=True)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.lists(st.integers(0, 24), max_size=3))
def test_rows_in_any_parts(seed, cuts):
    S, y, d, pairs = block(seed)
    by_class, by_distance = ClassStiffness(4), DistanceStiffness(bins=5, limits=LIMITS)
    same, ends = torch.eye(24, dtype=torch.bool), [0, *sorted(cuts), 24]
    for low, high in itertools.pairwise(ends):
        rows = slice(low, high)
        by_class.update(S[rows], y[rows], y, same[rows])
        by_distance.update(S[rows], d[rows], pairs[rows])
    close(by_class.compute(), class_stiffness_matrix(S, y, num_classes=4))
    expected = distance_curve(S, d, pairs, bins=5, limits=LIMITS)
    close(by_distance.compute(), expected.mean)
    curve = by_distance.curve()
    close(curve.edges, expected.edges)
    assert torch.equal(curve.count, expected.count)
    torch.testing.assert_close(curve.stderr, expected.stderr, equal_nan=True, atol=1e-9, rtol=0)
    length_close(by_distance.critical_length(), critical_length(S, d, pairs))


@given(st.permutations(range(24)), st.permutations(range(4)))
@settings(max_examples=10)
def test_order_and_names(order, names):
    S, y, d, pairs = block()
    order, names = torch.tensor(order), torch.tensor(names)
    one, other = ClassStiffness(4), ClassStiffness(4)
    one.update(S, y)
    other.update(S[order][:, order], names[y[order]])
    close(other.compute()[names][:, names], one.compute())
    both = pairs | pairs.T
    first, second = (DistanceStiffness(bins=5, limits=LIMITS) for _ in range(2))
    first.update(S, d, both)
    second.update(S[order][:, order], d[order][:, order], both[order][:, order])
    close(second.compute(), first.compute())


@pytest.mark.parametrize("name", ["within_class", "between_class"])
def test_a_mean_that_can_be_logged(name):
    S, y, _, _ = block()
    metric = ClassStiffness(3, value=name)
    close(metric(S, y), torch.tensor(class_summary(class_stiffness_matrix(S, y))[name], dtype=torch.float64))
    metric.reset()
    metric.update(S[:0, :0], y[:0])
    assert math.isnan(metric.compute())


def test_the_critical_length_as_a_number_and_its_reasons():
    S, _, d, pairs = block()
    metric = DistanceStiffness(value="critical_length")
    metric.update(S, d, pairs)
    assert metric.compute().item() == pytest.approx(critical_length(S, d, pairs).value)
    metric.reset()
    assert metric.critical_length().reason == "0 pairs of the same class, at least 10 needed"
    metric.update(S, torch.full_like(d, 1e3))
    assert metric.critical_length().reason == "all pairs lie at one distance"
    metric.reset()
    metric.update(torch.full_like(S, 0.1), d)
    assert math.isnan(metric.compute())
    assert metric.critical_length().reason.startswith("stiffness does not fall")


def test_pairs_outside_the_bins_count_for_the_length_alone():
    d = torch.linspace(0, 4, 50, dtype=torch.float64)[None]
    metric = DistanceStiffness(bins=2, limits=(1.0, 2.0))
    metric.update(0.5 - 0.2 * d, d)
    assert int(metric.curve().count.sum()) == int(((d >= 1) & (d <= 2)).sum())
    assert metric.critical_length().pairs == 50
    assert metric.critical_length().value == pytest.approx(2.5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_in_a_collection():
    S, y, d, pairs = block()
    collection = MetricCollection(
        {
            "matrix": ClassStiffness(3),
            "within": ClassStiffness(3, value="within_class"),
            "curve": DistanceStiffness(bins=5, limits=LIMITS),
        },
        prefix="val_",
    )
    for _ in range(2):  # pairs seen twice weigh alike
        collection.update(stiffness=S, labels=y, distance=d, pairs=pairs)
    found = collection.compute()
    C = class_stiffness_matrix(S, y)
    close(found["val_matrix"], C)
    assert float(found["val_within"]) == pytest.approx(class_summary(C)["within_class"])
    close(found["val_curve"], distance_curve(S, d, pairs, bins=5, limits=LIMITS).mean)
    copy = collection.clone(prefix="test_")
    copy.reset()
    assert torch.isnan(copy.compute()["test_matrix"]).all()


def test_states_are_saved_and_restored():
    S, y, d, pairs = block()
    for metric, arguments in ((ClassStiffness(3), (S, y)), (DistanceStiffness(), (S, d, pairs))):
        metric.persistent(True)
        metric.update(*arguments)
        other = type(metric)(3) if isinstance(metric, ClassStiffness) else DistanceStiffness()
        other.persistent(True)
        other.load_state_dict(metric.state_dict())
        other.update(*(a[:0] if a.ndim == 1 else a[:0, :0] for a in arguments))
        close(other.compute(), metric.compute())


def test_plots():
    S, y, d, pairs = block()
    matrix, within = ClassStiffness(3), ClassStiffness(3, value="within_class")
    curve, length = DistanceStiffness(bins=5, limits=LIMITS), DistanceStiffness(value="critical_length")
    for metric in (matrix, within):
        metric.update(S, y)
    for metric in (curve, length):
        metric.update(S, d, pairs)
    figure, axes = matrix.plot()
    close(torch.tensor(axes.images[0].get_array().data), matrix.compute())
    assert "mean" in " ".join(text.get_text() for text in figure.texts)
    _, axes = curve.plot()
    points = [at for line in axes.lines if line.get_marker() == "o" for at in line.get_xydata().tolist()]
    close(torch.tensor(sorted(points), dtype=torch.float64)[:, 1], curve.compute()[~torch.isnan(curve.compute())])
    for metric in (matrix, curve):
        ax = Figure().add_subplot()
        assert metric.plot(metric.compute(), ax=ax) == (ax.figure, ax)
        assert len(ax.images) + len(ax.lines) > 0
        assert metric.plot([metric.compute()])[1] is not ax
    for metric in (within, length):
        ax = Figure().add_subplot()
        assert metric.plot([metric.compute()] * 3, ax=ax)[1] is ax


def test_errors():
    for num_classes, got in (
        (0, "of at least 1, got 0"),
        ("3", "to be a whole number, got '3'"),
        (True, "got True"),
    ):
        with pytest.raises(ValueError, match=f"expected num_classes .*{got}"):
            ClassStiffness(num_classes)
    with pytest.raises(
        ValueError, match=r"value to be one of \['matrix', 'within_class', 'between_class'\], got 'm"
    ):
        ClassStiffness(3, value="mean")
    with pytest.raises(ValueError, match=r"expected value to be one of \['curve', 'critical_length'\], got 'xi'"):
        DistanceStiffness(value="xi")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": 0}, "expected bins of at least 1, got 0"),
        ({"bins": "x"}, "expected bins to be a whole number, got 'x'"),
        ({"bins": []}, r"expected bins to be a whole number, got \[\]"),
        ({"bins": True}, "expected bins to be a whole number, got True"),
        ({"min_pairs": "10"}, "expected min_pairs to be a whole number, got '10'"),
        ({"min_pairs": 0}, "expected min_pairs of at least 1, got 0"),
        *[
            ({"limits": limits}, r"expected limits to be \(low, high\), finite and with low < high, got ")
            for limits in ((1, 1), (2, 1), (0, math.inf), (0, 1, 2), (0,), 3, "ab", (None, 1), None, {0: 1})
        ],
    ],
    ids=told,
)
def test_settings_of_the_curve(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistanceStiffness(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_updates_with_something_else():
    S, y, d, _ = block()
    with pytest.raises(ValueError, match=r"stiffness to be a tensor \[n, m\], got a list: pass torch.as_tensor"):
        DistanceStiffness().update(S.tolist(), d)
    with pytest.raises(ValueError, match=r"expected pairs to hold True and False, got torch.int64: call .bool"):
        DistanceStiffness().update(S, d, torch.ones(24, 24, dtype=torch.long))
    with pytest.raises(ValueError, match=r"expected labels to be integers, .*got torch.float32"):
        ClassStiffness(3).update(S, torch.full((24,), math.nan))
    with pytest.raises(ValueError, match=r"expected labels in \[0, 2\), got values from 0 to 2"):
        ClassStiffness(2).update(S, y)


def test_plots_of_something_else():
    for metric, shape in ((ClassStiffness(3), r"\[3, 3\]"), (DistanceStiffness(bins=4), r"\[4\]")):
        for val in (3, [], "x", torch.zeros(2)):
            with pytest.raises(ValueError, match=f"val to be what compute\\(\\) returned, a tensor {shape}"):
                metric.plot(val)


def test_public_names():
    assert lightning_stiffness.ClassStiffness is ClassStiffness
    assert lightning_stiffness.DistanceStiffness is DistanceStiffness


PROCESS = """
import os
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, sys.argv[3])
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
from lightning_stiffness import ClassStiffness, DistanceStiffness
data = torch.load(sys.argv[2] + ".pt")
rows = slice(0, 7) if rank == 0 else slice(7, None)
S, y, d, pairs, same = (data[key] for key in ("S", "y", "d", "pairs", "same"))
by_class, by_distance = ClassStiffness(4), DistanceStiffness(bins=5, limits=(0.0, 3.0))
by_class.update(S[rows], y[rows], y, same[rows])
by_distance.update(S[rows], d[rows], pairs[rows])
length = by_distance.critical_length()
found = [by_class.compute(), by_distance.compute(), by_distance.curve().count, torch.tensor(length.value)]
assert by_distance.moments[0] == pairs[rows][~torch.isnan(S[rows])].sum()  # its own again
torch.save(found, f"{sys.argv[2]}.{rank}.pt")
dist.barrier()  # neither ends while the other still speaks to it
os._exit(0)  # destroying the group may wait for ever for a thread that waits for the interpreter's lock (torch 2.4)
"""


def test_two_processes_have_the_values_of_one(tmp_path):
    S, y, d, pairs = block()
    meeting = tmp_path / "meeting"
    torch.save({"S": S, "y": y, "d": d, "pairs": pairs, "same": torch.eye(24, dtype=torch.bool)}, f"{meeting}.pt")
    root = str(Path(lightning_stiffness.__file__).parents[1])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(meeting), root], stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for run in runs:
        _, told = run.communicate(timeout=240)
        assert run.returncode == 0, told
    curve, length = distance_curve(S, d, pairs, bins=5, limits=LIMITS), critical_length(S, d, pairs)
    for rank in range(2):
        matrix, means, count, xi = torch.load(f"{meeting}.{rank}.pt")
        close(matrix, class_stiffness_matrix(S, y, num_classes=4))
        close(means, curve.mean)
        assert torch.equal(count, curve.count)
        assert xi.item() == pytest.approx(length.value, rel=1e-6)
