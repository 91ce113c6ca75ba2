"""What a measurement puts into its result: each number against the functional layer or a computation by hand."""

import ast
import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lightning_stiffness import StiffnessResult, gradient_gram, measure_stiffness
from lightning_stiffness import functional as stiffness
from lightning_stiffness.distances import DistanceCache, block_distances
from lightning_stiffness.measure import measure_probe
from lightning_stiffness.probeset import probe_of_batch
from lightning_stiffness.result import Curve, Length
from lightning_stiffness.settings import Settings
from lightning_stiffness.storage import read_file, write_file
from tests import told

GROUPS = [[0, 0, 1, 1], [0, 0, 0, 1]]
BLOCKS = [("train", "train"), ("train", "val"), ("val", "val")]


def cross_entropy(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def make_batches(sizes=(40, 32)):
    torch.manual_seed(1)
    return [(torch.randn(n, 6).double() + (torch.arange(n) % 4)[:, None], torch.arange(n) % 4) for n in sizes]


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(scope="module")
def batches():
    return make_batches()


@pytest.fixture(scope="module")
def result(net, batches):
    return measure_stiffness(
        net, *batches, loss_fn=cross_entropy, superclasses=GROUPS, superclass_names=[["a", "b"], ["x", "y"]]
    )


@pytest.fixture(scope="module")
def parts(net, batches):
    """Stiffness, labels, distances and pairs of each block, from the parts of the package below the result."""
    found = {}
    by_split = dict(zip(("train", "val"), batches, strict=True))
    mean, deviation = batches[0][0].mean(0), batches[0][0].std(0, unbiased=False)
    for a, b in BLOCKS:
        gram = gradient_gram(net, by_split[a], by_split[b], loss_fn=cross_entropy, engine="loop")
        x, y = ((by_split[split][0] - mean) / deviation for split in (a, b))
        labels = by_split[a][1], by_split[b][1]
        pairs = labels[0][:, None] == labels[1][None]
        found[f"{a}-{b}"] = (
            {
                "cos": stiffness.cosine_stiffness(gram.values, gram.norms, gram.other_norms),
                "sign": stiffness.sign_stiffness(gram.values, gram.norms, gram.other_norms),
            },
            labels,
            1 - functional.cosine_similarity(x[:, None], y[None], dim=2),
            pairs.triu(1) if a == b else pairs,
        )
    return found


@pytest.mark.parametrize("block", ["train-train", "train-val", "val-val"])
@pytest.mark.parametrize("measure", ["cos", "sign"])
def test_intervals(result, parts, block, measure):
    S, labels, d, pairs = parts[block]
    symmetric = block != "train-val"
    curve = result.curve[block][measure]
    edges = torch.tensor(curve.edges)
    edges[0], edges[-1] = (
        edges[0] - 1e-6,
        edges[-1] + 1e-6,
    )  # the ends are pairs' own distances, rounded otherwise here
    expected = stiffness.block_intervals(
        S[measure],
        labels[0],
        None if symmetric else labels[1],
        symmetric=symmetric,
        superclasses=GROUPS,
        distance=d,
        pairs=pairs,
        edges=edges,
    )
    intervals = result.interval[block][measure]
    assert set(intervals) == set(result.summary[block][measure])
    assert set(intervals) == set(expected.summary)
    for name, ends in intervals.items():
        assert ends == pytest.approx(tuple(expected.summary[name]), abs=1e-6)
        assert ends[0] <= result.summary[block][measure][name] <= ends[1]
    np.testing.assert_allclose(np.stack([curve.low, curve.high], 1), expected.curve, atol=1e-6, equal_nan=True)
    length = result.critical_length[block][measure]
    ends = pytest.approx(tuple(expected.critical_length), rel=1e-5, nan_ok=True)
    assert (length.low, length.high) == ends


@pytest.mark.parametrize("block", ["train-train", "train-val", "val-val"])
def test_critical_lengths_by_polyfit(result, parts, block):
    S, labels, d, pairs = parts[block]
    lengths = result.class_critical_length[block]["cos"]
    assert len(lengths) == 4 == len(result.class_names)
    for a, length in enumerate(lengths):
        taken = pairs & (labels[0] == a)[:, None]
        slope, intercept = np.polyfit(d[taken], S["cos"][taken], 1)
        assert (length.slope, length.intercept) == pytest.approx((slope, intercept), rel=1e-6)
        assert length.pairs == int(taken.sum())
        if slope < 0:
            assert length.value == pytest.approx(-intercept / slope, rel=1e-6)
        else:
            assert math.isnan(length.value)
            assert length.reason.startswith("stiffness does not fall with distance")
    curve, length = result.curve[block]["cos"], result.critical_length[block]["cos"]
    crossing = stiffness.curve_crossing(curve.centers.tolist(), curve.mean.tolist())
    assert length.binned == pytest.approx(crossing, nan_ok=True)


def test_two_levels_of_groups(result):
    assert result.superclasses == GROUPS[0]
    assert result.further_superclasses == GROUPS[1:]
    assert result.superclass_levels == GROUPS
    assert result.superclass_names == [["a", "b"], ["x", "y"]]
    C = result.class_matrix["train-val"]["cos"]
    cells = {(a, b): C[a, b] for a in range(4) for b in range(4) if a != b}
    summary = result.summary["train-val"]["cos"]
    for groups, behind in zip(GROUPS, ("", "_2"), strict=True):
        within = np.mean([v for (a, b), v in cells.items() if groups[a] == groups[b]])
        between = np.mean([v for (a, b), v in cells.items() if groups[a] != groups[b]])
        assert summary[f"within_superclass{behind}"] == pytest.approx(within)
        assert summary[f"between_superclass{behind}"] == pytest.approx(between)
        assert f"stiffness/train-val/cos/within_superclass{behind}" in result.scalars()
    for p, groups in zip(result.superclass_p_value["train-val"]["cos"], GROUPS, strict=True):
        assert p == stiffness.grouping_test(torch.tensor(C), groups).p_value


def test_diagnostics_from_the_gradients(result, net, batches):
    for split, batch in zip(("train", "val"), batches, strict=True):
        gradients = []
        for x, y in zip(*batch, strict=True):
            grads = torch.autograd.grad(functional.cross_entropy(net(x[None]), y[None]), list(net.parameters()))
            gradients.append(torch.cat([g.flatten() for g in grads]))
        g = torch.stack(gradients).numpy()
        dots = g @ g.T
        off = dots[~np.eye(len(g), dtype=bool)]
        p = np.linalg.svd(g, compute_uv=False) ** 2
        p = p[p > 0] / p.sum()
        expected = {
            "gradient_coherence": dots.sum() / np.trace(dots),
            "gradient_diversity": np.trace(dots) / dots.sum(),
            "gradient_confusion": max(0, -off.min()),
            "effective_rank": math.exp(-(p * np.log(p)).sum()),
        }
        assert result.diagnostics[split] == pytest.approx(expected, rel=1e-6)
        for name, value in result.diagnostics[split].items():
            assert result.scalars()[f"stiffness/{split}/{name}"] == value


def test_intervals_and_diagnostics_can_be_left_out(net, batches):
    bare = measure_stiffness(net, *batches, loss_fn=cross_entropy, resamples=0, diagnostics=False)
    assert bare.interval == {} == bare.diagnostics
    curve, length = bare.curve["train-val"]["cos"], bare.critical_length["train-val"]["cos"]
    assert curve.low is None
    assert curve.high is None
    assert math.isnan(length.low)
    assert not any("gradient_coherence" in tag for tag in bare.scalars())
    assert bare.superclass_levels == []


@pytest.mark.filterwarnings("ignore:no class labels")
def test_without_classes(net, batches):
    result = measure_stiffness(net, batches[0][0], loss_fn=lambda m, x: (m(x) ** 2).sum(1), labels=None)
    assert set(result.interval["train-train"]["cos"]) == {"overall"}
    assert result.class_critical_length == {}
    curve = result.curve["train-train"]["cos"]
    assert np.isfinite(curve.low[curve.count > 30]).all()


@settings(max_examples=8)
@given(
    st.permutations(range(20)), st.permutations(range(4)), st.lists(st.floats(0.01, 100), min_size=20, max_size=20)
)
def test_order_names_and_scale_change_no_number(order, names, scale):
    net, (x, y) = make_net(), make_batches((20,))[0]
    order, names, scale = torch.tensor(order), torch.tensor(names), torch.tensor(scale).double()

    def loss(module, batch):
        return cross_entropy(module, batch[:2]) * batch[2]

    one = measure_stiffness(net, (x, y, torch.ones(20)), loss_fn=loss, labels=lambda b: b[1], inputs=lambda b: b[0])
    other = measure_stiffness(
        net,
        (x[order], y[order], scale),
        loss_fn=loss,
        labels=lambda b: names[b[1]],
        inputs=lambda b: b[0],
    )
    for measure in ("cos", "sign"):
        assert other.summary["train-train"][measure] == pytest.approx(one.summary["train-train"][measure], abs=1e-6)
        C, renamed = (r.class_matrix["train-train"][measure] for r in (one, other))
        np.testing.assert_allclose(renamed[np.ix_(names, names)], C, atol=1e-6)
        before, after = (r.class_critical_length["train-train"][measure] for r in (one, other))
        for a, length in enumerate(before):
            assert after[int(names[a])].slope == pytest.approx(length.slope, abs=1e-5, nan_ok=True)


def test_a_copy_of_every_example_adds_pairs_at_distance_zero(net, batches):
    x, y = batches[0]
    once = measure_stiffness(net, (x, y), loss_fn=cross_entropy)
    twice = measure_stiffness(net, (x.repeat(2, 1), y.repeat(2)), loss_fn=cross_entropy)
    n, k = len(y), len(y) // 4
    C, D = once.class_matrix["train-train"]["cos"], twice.class_matrix["train-train"]["cos"]
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(D[off], C[off], atol=1e-9)
    # Among 2k examples: each old pair four times, and k pairs of an example with its copy, both ways, at 1.
    np.testing.assert_allclose(
        np.diag(D), (np.diag(C) * k * (k - 1) * 4 + 2 * k) / (2 * k * (2 * k - 1)), atol=1e-9
    )
    assert twice.diagnostics["train"]["gradient_coherence"] == pytest.approx(
        2 * once.diagnostics["train"]["gradient_coherence"]
    )
    assert twice.diagnostics["train"]["effective_rank"] == pytest.approx(
        once.diagnostics["train"]["effective_rank"]
    )
    assert twice.pair_counts["train-train"].sum() == 2 * n * (2 * n - 1)


def test_classes_without_examples(net, batches):
    x, y = batches[0]
    result = measure_stiffness(net, (x[y < 2], y[y < 2]), loss_fn=cross_entropy, superclasses=[0, 0, 1, 1])
    C = result.class_matrix["train-train"]["cos"]
    assert np.isfinite(C[:2, :2]).all()
    assert np.isnan(C[2:]).all()
    assert math.isnan(result.summary["train-train"]["cos"]["between_superclass"])
    assert all(map(math.isnan, result.interval["train-train"]["cos"]["between_superclass"]))
    assert math.isnan(result.superclass_p_value["train-train"]["cos"][0])
    assert result.class_critical_length["train-train"]["cos"][3].pairs == 0


class TestDistanceCache:
    def test_the_same_numbers_and_only_where_inputs_are_the_same(self, net, batches, monkeypatch):
        cache, computed = DistanceCache(), []

        def spy(inputs, distance):
            computed.append(distance)
            return block_distances(inputs, distance)

        monkeypatch.setattr("lightning_stiffness.distances.block_distances", spy)
        probe = {s: probe_of_batch(b) for s, b in zip(("train", "val"), batches, strict=True)}

        def measured(probe, distance="cosine", **options):
            found = measure_probe(
                net, probe, loss_fn=cross_entropy, settings=Settings(resamples=0, distance=distance), **options
            )
            return found.curve["train-val"]["cos"].mean

        plain = measured(probe)
        for _ in range(3):
            np.testing.assert_array_equal(measured(probe, cache=cache), plain)
        assert computed == ["cosine"] * 2
        fresh = {s: dataclasses.replace(p, inputs=p.inputs.clone()) for s, p in probe.items()}
        measured(fresh, cache=cache)
        assert computed == ["cosine"] * 2
        moved = {**fresh, "val": dataclasses.replace(fresh["val"], inputs=fresh["val"].inputs.flip(0))}
        assert not np.array_equal(measured(moved, cache=cache), plain, equal_nan=True)
        assert len(computed) == 3
        measured(moved, "euclidean", cache=cache)
        assert computed == [*["cosine"] * 3, "euclidean"]
        np.testing.assert_array_equal(measured(probe, cache=cache), plain)

    def test_a_users_function_is_asked_every_time(self):
        cache, calls = DistanceCache(), []

        def distance(x, y):
            calls.append(len(x))
            return torch.cdist(x, y)

        for _ in range(2):
            cache.distances({"train": torch.eye(3)}, distance)
        assert calls == [3, 3]

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.bool, torch.float64])
    def test_inputs_of_any_type(self, dtype):
        cache = DistanceCache()
        x = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(dtype)
        first = cache.distances({"train": x}, "euclidean")
        assert cache.distances({"train": x.clone()}, "euclidean") is first
        assert cache.distances({"train": x.T.contiguous().T}, "euclidean") is first
        assert cache.distances({"train": x[:, :1]}, "euclidean") is not first


class TestFile:
    def test_everything_comes_back(self, result, tmp_path):
        loaded = StiffnessResult.load(result.save(tmp_path / "r.npz"))
        assert loaded.interval == result.interval
        assert loaded.diagnostics == result.diagnostics
        assert loaded.superclass_levels == GROUPS
        assert loaded.superclass_names == result.superclass_names
        assert loaded.superclass_p_value == result.superclass_p_value
        for block, measures in result.curve.items():
            for measure, curve in measures.items():
                back = loaded.curve[block][measure]
                np.testing.assert_array_equal(back.low, curve.low)
                np.testing.assert_array_equal(back.high, curve.high)
                np.testing.assert_equal(
                    [vars(x) for x in loaded.class_critical_length[block][measure]],
                    [vars(x) for x in result.class_critical_length[block][measure]],
                )

    def test_files_from_before_there_were_intervals(self, tmp_path):
        old = {
            "format": "lightning-stiffness/1",
            "step": 7,
            "epoch": 2,
            "class_names": ["a", "b"],
            "superclasses": [0, 1],
            "summary": {"val-val": {"cos": {"overall": 0.25}}},
            "excluded": {"val": 0},
            "seconds": 0.5,
            "engine": "layerwise",
            "settings": {},
            "versions": {},
            "notes": [],
            "critical_length": {
                "val-val": {
                    "cos": {
                        "value": 0.5,
                        "slope": -1.0,
                        "intercept": 0.5,
                        "pairs": 12,
                        "extrapolated": False,
                        "reason": "",
                    }
                }
            },
        }
        names = ("edges", "mean", "count", "stderr")
        arrays = {f"curve/val-val/cos/{name}": np.ones(2) for name in names}
        loaded = StiffnessResult.load(write_file(tmp_path / "old.npz", arrays, old))
        assert (loaded.step, loaded.superclass_levels, loaded.interval) == (7, [[0, 1]], {})
        assert loaded.curve["val-val"]["cos"].low is None
        length = loaded.critical_length["val-val"]["cos"]
        assert (length.value, math.isnan(length.low)) == (0.5, True)

    def test_what_a_later_version_adds_is_left_aside(self, tmp_path):
        curve = Curve(*(np.arange(k) for k in (3, 2, 2, 2)))
        length = Length(0.5, -1.0, 0.5, 12, False, "")
        new = StiffnessResult(1, 0, curve={"val-val": {"cos": curve}}, critical_length={"val-val": {"cos": length}})
        arrays, meta = read_file(new.save(tmp_path / "new.npz"))
        meta = json.loads(json.dumps(meta))
        meta["colour"] = "blue"
        meta["critical_length"]["val-val"]["cos"]["p_value"] = 0.1
        arrays |= {"curve/val-val/cos/median": np.ones(2), "tensor/val-val/cos": np.ones(2)}
        loaded = StiffnessResult.load(write_file(tmp_path / "newer.npz", arrays, meta))
        assert loaded.critical_length["val-val"]["cos"].value == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resamples": 1}, "resamples of at least 2, or 0 for no intervals, got 1"),
        ({"resamples": -1}, "resamples of at least 2, or 0 for no intervals, got -1"),
        ({"superclasses": [[0, 0, 1, 1], [0, 1]]}, r"one group for each of the 4 classes, got shape \[2\]"),
        ({"superclasses": [0, 1], "class_names": "abc"}, "one group for each of the 3 class_names, got 2"),
        ({"superclass_names": ["a"]}, "superclass_names for the 0 levels of superclasses, got 1"),
        ({"superclasses": [0, 0, 1], "superclass_names": ["a"]}, "name the groups 0 to 1 of level 1, got 1 names"),
        (
            {"superclasses": [[0, 1], [0, 2]], "superclass_names": [["a", "b"], ["x", "y"]]},
            "name the groups 0 to 2 of level 2, got 2 names",
        ),
        ({"superclasses": [0, 1], "superclass_names": "ab"}, "superclass_names to be a list of names, got 'ab'"),
    ],
    ids=told,
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        Settings(**arguments)


@pytest.mark.parametrize(
    ("write", "came"),
    [
        (lambda path: path.write_text("epoch,loss\n0,1\n"), "a file of another kind"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: np.savez(path, weights=np.ones(3)), "an .npz file of something else"),
        (lambda path: path.write_bytes(b"PK\x03\x04 half"), "an .npz file that breaks off"),
        (lambda path: np.savez(path, meta=np.array({"a": 1}, dtype=object)), "objects that only pickle could read"),
        (lambda path: np.savez(path, meta=np.array('{"format": "x/9"}')), "ValueError: format x/9"),
        (lambda path: np.save(path.open("wb"), np.ones(3)), "a file of another kind"),
    ],
    ids=["text", "empty", "folder", "foreign", "half", "pickle", "format", "array"],
)
def test_a_file_that_is_no_result_is_called_what_it_is(tmp_path, write, came):
    path = tmp_path / "file.npz"
    write(path)
    with pytest.raises(ValueError, match=r"expected a file written by StiffnessResult\.save") as raised:
        StiffnessResult.load(path)
    assert str(raised.value).startswith(f"{path} is damaged or no stiffness result: expected ")
    assert str(raised.value).endswith(f", got {came}")
    assert "allow_pickle" not in str(raised.value)


def test_no_field_is_explained_by_a_colon():
    """On the page of public names what stands before a colon would be taken for the field's type."""
    import lightning_stiffness.result as module

    source = ast.parse(Path(module.__file__).read_text("utf-8"))
    for kind in (node for node in source.body if isinstance(node, ast.ClassDef)):
        for before, node in pairwise(kind.body):
            if isinstance(before, ast.AnnAssign) and isinstance(node, ast.Expr):
                assert ": " not in node.value.value.splitlines()[0], before.target.id
