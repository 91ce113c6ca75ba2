"""A run's results over its steps: loading, arrays, the fall from the peak."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_stiffness.history import StiffnessHistory, drop_from_peak, within_class_peak
from lightning_stiffness.result import Curve, Length, StiffnessResult


def result(step, within, **changes):
    curve = Curve(
        np.array([0.0, 0.5, 1.0]),
        np.array([within, -0.1]),
        np.array([3, 5]),
        np.array([0.1, 0.1]),
        *np.ones((2, 2)),
    )
    values = {
        "step": step,
        "epoch": step // 10,
        "class_names": ["cat", "dog"],
        "class_matrix": {"train-val": {"cos": np.array([[within, 0.25], [0.25, within]])}},
        "summary": {
            "train-val": {"cos": {"overall": 0.1, "within_class": within}},
            "val-val": {"cos": {"overall": 0.2}},
        },
        "interval": {"train-val": {"cos": {"overall": (0.05, 0.15), "within_class": (within - 0.1, within + 0.1)}}},
        "curve": {"train-val": {"cos": curve}},
        "critical_length": {"train-val": {"cos": Length(0.6, -1.0, 0.6, 8, False, "", 0.5, 0.7)}},
        "seconds": 2.0,
    }
    return StiffnessResult(**(values | changes))


@pytest.fixture
def run(tmp_path):
    """The log directory of a run with three measurements, as the callback writes it."""
    for step, within in ((0, 0.5), (100, 0.75), (20, 0.5)):
        result(step, within).save(tmp_path / "version_0" / "stiffness" / f"step_{step:08d}.npz")
    (tmp_path / "version_0" / "checkpoints").mkdir()
    (tmp_path / "version_0" / "metrics.csv").write_text("epoch,loss\n0,1\n")
    return tmp_path


class TestLoad:
    def test_in_the_order_of_steps(self, run):
        for folder in (run, run / "version_0", str(run / "version_0" / "stiffness")):
            history = StiffnessHistory.load(folder)
            assert history.steps.tolist() == [0, 20, 100]
            assert history.epochs.tolist() == [0, 2, 10]
            assert len(history) == 3
            assert [one.step for one in history] == [0, 20, 100]
            assert history[-1].class_names == ["cat", "dog"]
            assert history.scalar("stiffness/train-val/cos/within_class").tolist() == [0.5, 0.5, 0.75]

    def test_damaged_and_half_written_files_are_left_out_and_named(self, run):
        folder = run / "version_0" / "stiffness"
        (folder / "step_00000020.npz").write_bytes((folder / "step_00000020.npz").read_bytes()[:-50])
        (folder / "step_00000007.npz").write_bytes(b"")
        (folder / ".step_00000300.npz.abc.part").write_bytes(b"PK")
        with pytest.warns(
            UserWarning, match=r"2 of 4 results are left out: .*00000007\.npz .*00000020\.npz is dam"
        ):
            history = StiffnessHistory.load(run)
        assert history.steps.tolist() == [0, 100]
        for file in folder.glob("step_*.npz"):
            file.write_text("nothing")
        with pytest.raises(ValueError, match=r"none of the 4 results below .* can be read"):
            StiffnessHistory.load(run)

    def test_two_runs_at_once(self, run):
        result(1, 0.5).save(run / "version_1" / "stiffness" / "step_00000001.npz")
        with pytest.raises(ValueError, match=r"one run, but .* results in 2 folders: .*version_0.*version_1"):
            StiffnessHistory.load(run)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no results step_\*\.npz below"):
            StiffnessHistory.load(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*missing"):
            StiffnessHistory.load(tmp_path / "missing")


class TestArrays:
    def test_what_a_result_lacks_is_nan(self):
        bare = StiffnessResult(step=5, epoch=0)
        history = StiffnessHistory([result(9, 0.5), bare])
        within = history.scalar("stiffness/train-val/cos/within_class")
        np.testing.assert_array_equal(within, [math.nan, 0.5])
        matrices = history.class_matrix("train-val", "cos")
        np.testing.assert_array_equal(matrices[1], [[0.5, 0.25], [0.25, 0.5]])
        assert np.isnan(matrices[0]).all()
        assert StiffnessHistory().steps.tolist() == []

    def test_of_two_results_at_one_step_the_last_counts(self):
        assert [
            one.summary["train-val"]["cos"]["within_class"]
            for one in StiffnessHistory([result(3, 0.5), result(3, 0.25)])
        ] == [0.25]

    def test_errors(self):
        history = StiffnessHistory([result(9, 0.5)])
        with pytest.raises(KeyError, match="no result has 'within'; there are stiffness/train-val/cos/overall"):
            history.scalar("within")
        with pytest.raises(KeyError, match="no result has a class matrix val-val/sign"):
            history.class_matrix("val-val", "sign")
        other = result(10, 0.5, class_matrix={"train-val": {"cos": np.eye(3)}})
        with pytest.raises(
            ValueError, match=r"same classes in every result, got matrices of \[\(2, 2\), \(3, 3\)\]"
        ):
            StiffnessHistory([result(9, 0.5), other]).class_matrix("train-val", "cos")


def with_within(values):
    return [
        StiffnessResult(t, t // 2, summary={"val-val": {"cos": {"within_class": v}, "sign": {"overall": v}}})
        for t, v in enumerate(values)
    ]


class TestDrop:
    @given(st.lists(st.floats(-1, 1) | st.just(math.nan), min_size=1, max_size=12))
    def test_by_loops(self, values):
        results = with_within(values)
        highest, at = -math.inf, None
        for step, value in enumerate(values):
            if value > highest:  # false for NaN
                highest, at = value, step
        peak = within_class_peak(results, "val-val", "cos")
        drops = drop_from_peak(results)
        assert set(drops) == {"stiffness/val-val/cos/drop_from_peak"}
        (drop,) = drops.values()
        if at is None:
            assert peak is None
            assert math.isnan(drop)
            return
        assert (peak.step, peak.epoch, peak.value) == (at, at // 2, highest)
        np.testing.assert_equal(drop, highest - values[-1])
        assert math.isnan(drop) or drop >= 0
        np.testing.assert_equal(StiffnessHistory(results).peak("val-val").drop, drop)

    def test_only_the_past_counts(self):
        results = with_within([0.25, 0.5, 0.125, 1.0])
        falls = [drop_from_peak(results[:t])["stiffness/val-val/cos/drop_from_peak"] for t in range(1, 5)]
        assert falls == [0, 0, 0.375, 0]

    def test_nothing_to_fall(self):
        assert drop_from_peak([]) == {}
        assert drop_from_peak([StiffnessResult(1, 0, summary={"val-val": {"cos": {"overall": 0.5}}})]) == {}
        assert within_class_peak([], "val-val", "cos") is None


class TestDataset:
    def test_every_number_in_its_place(self):
        xarray = pytest.importorskip("xarray", reason="xarray is an optional extra")
        runs = [result(20, 0.75), result(0, 0.5, interval={}, class_matrix={})]
        data = StiffnessHistory(runs).to_xarray()
        assert isinstance(data, xarray.Dataset)
        assert data.sizes == {"step": 2, "block": 2, "measure": 1, "class_from": 2, "class_to": 2, "bin": 2}
        assert data.epoch.values.tolist() == [0, 2]
        at = {"block": "train-val", "measure": "cos"}
        assert data.within_class.sel(at).values.tolist() == [0.5, 0.75]
        np.testing.assert_array_equal(data.within_class_low.sel(at), [math.nan, 0.65])
        np.testing.assert_array_equal(data.within_class_high.sel(at), [math.nan, 0.85])
        np.testing.assert_array_equal(data.overall.sel(block="val-val", measure="cos"), [0.2, 0.2])
        assert np.isnan(data.within_class.sel(block="val-val")).all()
        assert float(data.class_matrix.sel(**at, step=20).sel(class_from="cat", class_to="dog")) == 0.25
        assert np.isnan(data.class_matrix.sel(**at, step=0)).all()
        assert data.critical_length.sel(**at, step=20).item() == 0.6
        assert data.critical_length_high.sel(**at, step=20).item() == 0.7
        assert data.distance.sel(**at, step=20).values.tolist() == [0.25, 0.75]
        assert data.curve_mean.sel(**at, step=20).values.tolist() == [0.75, -0.1]
        assert data.curve_count.sel(**at, step=20).values.tolist() == [3, 5]
        assert data.seconds.values.tolist() == [2.0, 2.0]

    def test_results_that_do_not_fit_together(self):
        pytest.importorskip("xarray", reason="xarray is an optional extra")
        other = result(1, 0.5, class_matrix={"train-val": {"cos": np.eye(3)}})
        with pytest.raises(
            ValueError, match=r"class_matrix of one shape in every result, got \(2, 2\) and \(3, 3\)"
        ):
            StiffnessHistory([result(0, 0.5), other]).to_xarray()

    def test_without_xarray_the_error_says_what_to_install(self):
        program = (
            "import sys; sys.modules['xarray'] = None\n"
            "from lightning_stiffness.history import StiffnessHistory\n"
            "StiffnessHistory().to_xarray()\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "to_xarray needs xarray: pip install xarray, or pip install '.[history]' in a clone" in done.stderr
