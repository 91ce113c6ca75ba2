"""The reproduction: its statistics, its verdicts on runs with a known answer, its files, its page, its command."""

import importlib
import json
import math
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from .conftest import EXAMPLES, ROOT, InProcess
from .made_runs import EPOCHS, all_runs, run_file

RESULTS = ROOT / "docs" / "reproduction" / "results.json"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Its modules, by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = ("claims", "course", "page", "plan", "record", "results", "statements", "stats", "store", "train")
    return SimpleNamespace(**{name: importlib.import_module(f"reproduction.{name}") for name in names})


def test_intervals_are_students(room) -> None:
    scipy = pytest.importorskip("scipy.stats", reason="SciPy is an optional extra")
    generator = np.random.default_rng(0)
    for count in range(2, 12):
        values = generator.normal(3, 2, count)
        mean = room.stats.mean_of([*values, math.nan])
        low, high = scipy.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.sem(values))
        assert mean.seeds == count
        np.testing.assert_allclose(mean[:3], (values.mean(), low, high), atol=1e-3 * (high - low))
    assert math.isnan(room.stats.mean_of([1.0]).low)


def test_rank_correlation_is_spearmans(room) -> None:
    scipy = pytest.importorskip("scipy.stats", reason="SciPy is an optional extra")
    generator = np.random.default_rng(1)
    for _ in range(20):
        x, y = generator.integers(0, 5, (2, 8)).astype(float)
        np.testing.assert_allclose(room.stats.rank_correlation(x, y), scipy.spearmanr(x, y).statistic, atol=1e-12)
    assert room.stats.rank_correlation([1, 2, 3, 4], [5, math.nan, 7, 9]) == pytest.approx(1)
    assert math.isnan(room.stats.rank_correlation([1, 2], [1, 2]))
    assert math.isnan(room.stats.rank_correlation([1, 2, 3], [1, 1, 1]))


def changed(runs: list[dict], change) -> list[dict]:
    """The runs, with every measurement changed by ``change(run, place, measurement)``."""
    copies = json.loads(json.dumps(runs))
    for run in copies:
        for place, moment in enumerate(run["measurements"]):
            change(run, place, moment)
    return copies


def verdicts(room, runs: list[dict]) -> dict[int, str]:
    return {claim.number: claim.verdict for claim in room.claims.judge(room.results.courses_of(runs))}


def test_runs_that_do_what_the_paper_says(room) -> None:
    claims = room.claims.judge(room.results.courses_of(all_runs()))
    assert {claim.number: claim.verdict for claim in claims} == dict.fromkeys(range(1, 8), "held")
    assert [len(claim.rows) for claim in claims] == [2, 3, 1, 3, 2, 2, 1]
    first = claims[3].rows[0].numbers
    assert first["ρ(epoch, ξ), train-val"].value == pytest.approx(-1)
    assert first["share of moments with a ξ"] == (1, 1, 1, 3)


def lengthen(run, place, moment):
    for measures in moment["length"].values():
        measures["cos"]["value"] = 20 - measures["cos"]["value"]


def no_length(run, place, moment):
    for measures in moment["length"].values():
        measures["cos"]["value"] = None


def mirror_rates(run, place, moment):
    for measures in moment["summary"].values():
        measures["cos"]["within_class"] += 0.1 * math.log10(run["rate"] / 1e-5) * place / 5


def keep_high(run, place, moment):
    for measures in moment["summary"].values():
        for numbers in measures.values():
            numbers["within_class"] = 0.2 + 0.1 * place
            numbers["between_class"] = -0.2 - 0.1 * place


def part_ways(run, place, moment):
    moment["agreement"]["cos"] = {"cells": 0.5, "within": 0.3}


def part_ways_late(run, place, moment):
    if place > 3:
        part_ways(run, place, moment)


def no_groups(run, place, moment):
    moment["superclass_p_value"]["train-val"] = {"cos": [0.4, 0.4], "sign": [0.4, 0.4]}


def one_level(run, place, moment):
    moment["superclass_p_value"]["train-val"]["sign"][1] = 0.06


@pytest.mark.parametrize(
    ("change", "others"),
    [
        (lengthen, {4: "did not hold", 5: "did not hold"}),
        (no_length, {4: "did not hold", 5: "did not hold"}),
        (mirror_rates, {6: "did not hold"}),
        (keep_high, {2: "did not hold", 6: "did not hold", 7: "mixed"}),
        (part_ways, {1: "did not hold", 7: "mixed"}),
        (part_ways_late, {1: "mixed", 7: "mixed"}),
        (no_groups, {3: "did not hold"}),
        (one_level, {3: "mixed"}),
    ],
)
def test_runs_that_do_not(room, change, others: dict[int, str]) -> None:
    expected = {**dict.fromkeys(range(1, 8), "held"), **others}
    assert verdicts(room, changed(all_runs(), change)) == expected


def test_systems_that_disagree_are_mixed(room) -> None:
    def one_system(run, place, moment):
        if run["system"] == "mnist-fc":
            lengthen(run, place, moment)

    found = verdicts(room, changed(all_runs(), one_system))
    assert (found[4], found[5]) == ("mixed", "mixed")


def test_of_one_seed_nothing_can_be_told(room) -> None:
    one = [run for run in all_runs() if run["seed"] == 0]
    assert verdicts(room, one) == dict.fromkeys(range(1, 8), "cannot tell (one seed)")
    assert verdicts(room, changed(one, lengthen))[4] == "cannot tell (one seed)"
    page = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    assert "*Verdict:* cannot tell (one seed)." in room.page.written(page, one, len(one))
    assert verdicts(room, []) == dict.fromkeys(range(1, 8), "not run")


def test_a_system_of_one_seed_leaves_open_only_what_it_could_change(room) -> None:
    runs = [run for run in all_runs() if run["seed"] == 0 or run["system"] != "mnist-fc"]
    assert verdicts(room, runs)[4] == "cannot tell (one seed)"

    def one_of_the_others(run, place, moment):
        if run["system"] == "cifar10-cnn":
            lengthen(run, place, moment)

    assert verdicts(room, changed(runs, one_of_the_others))[4] == "mixed"


def test_the_page_beside_runs_says_nothing_of_other_runs(room) -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    runs = all_runs()
    told = room.page.beside_runs(page, runs, len(runs), ["training.png", "length.png"])
    assert re.findall(r"!\[[^]]*\]\(([^)]*)\)", told) == ["training.png", "length.png"]
    for words in ("In these runs", "31 minutes", "ResNet-20", "run twice", "Run it yourself", "<!--"):
        assert words not in told
    assert [line for line in told.splitlines() if line.startswith("#")] == [
        "# The paper, run again",
        "## What was run",
        *(f"## Claim {number}" for number in range(1, 8)),
    ]
    written = room.page.written(page, runs, len(runs))
    blocks = re.findall(r": begin -->\n\n(.*?)\n\n<!-- ", written, flags=re.DOTALL)
    assert len(blocks) == 10
    assert all(block in told for block in blocks)


def test_values_at_equal_loss_lie_between_two_moments(room) -> None:
    course = room.course.Course(run_file("mnist-fc", 1e-3, 0))
    values = np.arange(len(EPOCHS), dtype=float)
    assert course.at_loss(values, 2.3 * 0.5**2) == pytest.approx(2)
    assert course.at_loss(values, 2.3 * 0.5**2.5) == pytest.approx(2.5)
    assert math.isnan(course.at_loss(values, 2.4))


def test_a_finished_run_is_skipped_until_its_settings_change(room, tmp_path: Path) -> None:
    run = room.plan.Run(room.plan.SYSTEMS[0], 1e-3, 0)
    assert room.store.finished(tmp_path, run, "data") is None
    room.store.store(tmp_path, run, "data", "made up", [{"step": 0}], 1.0)
    assert room.store.finished(tmp_path, run, "data")["measurements"] == [{"step": 0}]
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.name}.json"]  # nothing half-written beside it
    assert room.store.finished(tmp_path, run, "other data") is None
    other = replace(run, system=replace(run.system, train=7))
    assert room.store.finished(tmp_path, other, "data") is None
    titled = replace(run, system=replace(run.system, title="Another title", seeds=9))
    assert room.store.finished(tmp_path, titled, "data")  # what it is called does not change its numbers
    path = tmp_path / f"{run.name}.json"
    path.write_text(path.read_text()[:-20])
    assert room.store.finished(tmp_path, run, "data") is None


def test_examples_are_drawn_class_by_class(room) -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    picked = room.train.stratified(labels, 60, np.random.default_rng(0))
    assert len(set(picked.tolist())) == 60
    assert np.bincount(labels[picked]).tolist() == [20, 20, 20]
    with pytest.raises(ValueError, match="at least 101 examples to choose from, got 100"):
        room.train.stratified(labels, 101, np.random.default_rng(0))


def test_plain_values_have_no_nan(room) -> None:
    found = room.record.plain({"a": [math.nan, np.float32(0.1234567)], 3: np.array([[1, 2]]), "b": (True, None)})
    assert found == {"a": [None, 0.12346], "3": [[1, 2]], "b": [True, None]}


def test_the_page_has_the_numbers_of_the_results(room) -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    assert page == room.page.written(page, *room.results.read_results(RESULTS))


def test_the_results_know_their_seeds_and_settings(room) -> None:
    runs, planned = room.results.read_results(RESULTS)
    assert 0 < len(runs) <= planned
    for run in runs:
        assert run["settings"]["seed"] == run["seed"]
        assert run["settings"]["rate"] == run["rate"]
        assert len(run["measurements"]) == len(run["settings"]["moments"])
        for moment in run["measurements"]:
            for measures in moment["summary"].values():
                assert all(-1 <= value <= 1 for numbers in measures.values() for value in numbers.values())


def test_the_command_end_to_end(example: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two systems in a short form; a second time nothing is left to do; all is written beside the runs."""
    options = [
        *("--quick", "--only", "mnist-fc", "mnli-bert", "--seeds", "1", "--jobs", "1"),
        *("--data", "embedded", "--runs", "runs"),
    ]
    command = [sys.executable, str(EXAMPLES / "reproduce.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs, 0 of them there already" in done.stdout
    assert "Data: the MNIST digits that come with the example: 5,000 training" in done.stdout
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the command would set, and leave so
    monkeypatch.setattr("sys.argv", ["reproduce.py", *options])
    runpy.run_path(str(EXAMPLES / "reproduce.py"), run_name="__main__")
    assert "4 runs, 4 of them there already" in example.capsys.readouterr().out
    assert (
        len(
            re.findall(
                r"^\(\d\) (?:held|mixed|did not hold|cannot tell \(one seed\)|not run) ", done.stdout, re.MULTILINE
            )
        )
        == 7
    )
    report = tmp_path / "runs" / "quick" / "report"
    names = {"distance.png", "length.png", "length_rate.png", "matrices.png", "stiffness_loss.png", "training.png"}
    assert {path.name for path in report.glob("*.png")} == names
    assert all(path.stat().st_size > 10_000 for path in report.glob("*.png"))
    runs = json.loads((report / "results.json").read_text())["runs"]
    assert {(run["system"], run["settings"]["kind"]) for run in runs} == {
        ("mnist-fc", "images"),
        ("mnli-bert", "text"),
    }
    page = (report / "page.md").read_text("utf-8")
    assert "All 4 runs." in page
    assert set(re.findall(r"\]\(([^)#]+)\)", page)) == names
    assert "In these runs" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "reproduce.py: error: expected the folder nowhere to hold"),
        (["--only", "imagenet"], "expected --only to begin the name of a system, got imagenet"),
        (["--page", "--data", "embedded"], "reproduce.py: error: there are no finished runs in runs"),
    ],
)
def test_the_command_says_what_is_wrong(
    example: InProcess, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the command would set, and leave so
    monkeypatch.setattr("sys.argv", ["reproduce.py", *options])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / "reproduce.py"), run_name="__main__")
    said = str(stopped.value.code) + example.capsys.readouterr().err
    assert message in said
    assert stopped.value.code not in (0, None)
