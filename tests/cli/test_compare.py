"""``lightning-stiffness compare``: numbers of several runs at the same moment, and their differences."""

import json
import re

import pytest

from lightning_stiffness import StiffnessHistory, StiffnessResult
from tests.plugin.synthetic import result, write_run


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "logs" / "lr=1e-3" / "version_0", 5, fade=0.9)
    write_run(tmp_path / "logs" / "lr=1e-2" / "version_0", 5, fade=0.1)
    write_run(tmp_path / "logs" / "late" / "version_0", 2, every=1000, fade=0.5)
    return tmp_path / "logs"


def test_the_table(command, runs):
    answer = command("compare", "logs/lr=1e-3", "logs/lr=1e-2/version_0")
    assert (answer.code, answer.err) == (0, "")
    slow, fast = (StiffnessHistory.load(runs / name / "version_0") for name in ("lr=1e-3", "lr=1e-2"))
    own = [history[-1].summary["train-val"]["cos"]["within_class"] for history in (slow, fast)]
    lines = answer.out.splitlines()
    first = next(line for line in lines if line.strip().startswith("lr=1e-3/version_0"))
    second = next(line for line in lines if line.strip().startswith("lr=1e-2/version_0"))
    assert f"{own[0]:.3f}" in first
    assert f"{own[1]:.3f}" in second
    assert f"{fast.peak().value:.3f}" in second
    assert f"{fast.peak().drop:.3f}" in second
    assert re.search(rf"epoch 4 +Δ −{own[0] - own[1]:.3f}", answer.out)
    assert "lr=1e-3/version_0: Yes: a step" in answer.out
    assert "Δ: difference to the first run" in answer.out


def test_a_folder_of_runs_stands_for_all_of_them_once(command, runs):
    told = json.loads(command("compare", "logs", "logs/late", "--json").out)
    assert [run["name"] for run in told["runs"]] == ["late/version_0", "lr=1e-2/version_0", "lr=1e-3/version_0"]
    assert (told["block"], told["measure"]) == ("train-val", "cos")


@pytest.mark.parametrize(
    ("option", "value", "steps"), [("--step", 250, [None, 200, 200]), ("--epoch", 3, [0, 300, 300])]
)
def test_runs_at_the_same_moment(command, runs, option, value, steps):
    if option == "--step":
        (runs / "late/version_0/stiffness/step_00000000.npz").unlink()
    answer = command("compare", "logs", option, value, "--json", "--block", "train-train", "--measure", "sign")
    told = json.loads(answer.out)
    assert [run["step"] for run in told["runs"]] == steps
    at = told["runs"][1]
    known = StiffnessResult.load(runs / "lr=1e-2/version_0/stiffness" / f"step_{steps[1]:08d}.npz")
    numbers = known.summary["train-train"]["sign"]
    assert at["within_class"]["value"] == numbers["within_class"]
    assert at["between_class"]["value"] == numbers["between_class"]
    assert at["critical_length"]["value"] == known.critical_length["train-train"]["sign"].value
    table = command("compare", "logs", option, value).out
    assert ("not yet" in table) is (None in steps)


def test_differences_to_the_first_run(command, runs):
    told = json.loads(command("compare", "logs/lr=1e-3", "logs/lr=1e-2", "--json").out)["runs"]
    for name in ("within_class", "between_class", "critical_length"):
        assert told[1]["difference_to_first"][name] == pytest.approx(
            told[1][name]["value"] - told[0][name]["value"]
        )
        assert told[0]["difference_to_first"][name] == 0


def test_intervals_and_what_has_no_number(command, tmp_path):
    one = result(100)
    one.interval["train-val"] = {"cos": {"within_class": (0.5, 0.875)}}
    one.save(tmp_path / "a" / "stiffness" / "step_00000100.npz")
    plain = StiffnessResult(
        7, 1, summary={"train-val": {"cos": {"overall": 0.25}}}, excluded={"train": 2, "val": 1}
    )
    plain.save(tmp_path / "b" / "stiffness" / "step_00000007.npz")
    answer = command("compare", "a", "b")
    assert "0.500 to 0.875" in answer.out
    told = json.loads(command("compare", "a", "b", "--json").out)["runs"]
    assert told[0]["within_class"]["interval"] == [0.5, 0.875]
    assert told[1]["overall"] == {"value": 0.25, "interval": None}
    # The mean within classes is not compared with that over all pairs.
    assert "overall" not in told[1]["difference_to_first"]
    assert told[1]["between_class"]["value"] is None
    assert (told[1]["peak"], told[1]["critical_length"], told[1]["excluded_examples"]) == (None, None, 3)


def test_a_moment_before_all_results(command, runs):
    for folder in runs.rglob("stiffness"):
        (folder / "step_00000000.npz").unlink()
    answer = command("compare", "logs", "--step", 5)
    assert (answer.code, answer.out) == (2, "")
    assert "no run has a result up to step 5; the first is step 100, epoch 1" in answer.err


def test_a_report_beside_the_table(command, runs):
    answer = command("compare", "logs", "--html", "out/all.html")
    assert answer.code == 0
    assert "out/all.html (" in answer.err
    assert "lr=1e-2/version_0" in (runs.parent / "out/all.html").read_text("utf-8")
