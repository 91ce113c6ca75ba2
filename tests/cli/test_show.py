"""``lightning-stiffness show``: what was saved, in words, cells and lines."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from lightning_stiffness import StiffnessResult
from lightning_stiffness.cli import heat, show
from lightning_stiffness.cli.finding import load_run
from lightning_stiffness.cli.heat import MISSING, matrix_lines, sparkline
from lightning_stiffness.palette import colour_of
from tests.plugin.synthetic import NAMES, result, write_run


def saved(tmp_path, run, step):
    return StiffnessResult.load(tmp_path / run / "stiffness" / f"step_{step:08d}.npz")


def coloured(run, width, **console):
    """What a terminal with colours is sent."""
    out = io.StringIO()
    shown = Console(
        file=out, force_terminal=True, color_system="truecolor", width=width, highlight=False, **console
    )
    show.print_run(shown, run, len(run.results) - 1, "train-val", "cos")
    return out.getvalue()


def test_a_run_in_words_and_numbers(command, tmp_path):
    write_run(tmp_path / "logs" / "version_0", 5, fade=0.9)
    answer = command("show", "logs/version_0")
    one = saved(tmp_path, "logs/version_0", 400)
    matrix, summary = one.class_matrix["train-val"]["cos"], one.summary["train-val"]["cos"]
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(
        "logs/version_0  step 400, epoch 4 (5 of 5)\n✓ Yes: a step on one training example"
    )
    rows = [line for line in answer.out.splitlines() if re.match(r"\d [a-z]+ +[-.\d]", line)]
    assert [row.split()[1] for row in rows] == NAMES
    shown = np.array([[float(text) for text in re.findall(r"-?\d?\.\d\d", row)] for row in rows])
    assert np.abs(shown - matrix).max() <= 0.005 + 1e-12
    line = next(line for line in answer.out.splitlines() if line.startswith("same class"))
    first = saved(tmp_path, "logs/version_0", 0).summary["train-val"]["cos"]["within_class"]
    assert line.endswith(f"{first:.3f} → {summary['within_class']:.3f}")
    assert f"Reach ξ: ≈ {one.critical_length['train-val']['cos'].value:.3g}, beyond" in answer.out
    assert "\x1b" not in answer.out


def test_block_measure_and_moment(command, tmp_path):
    write_run(tmp_path / "run", 5)
    answer = command("show", "run", "--block", "val-val", "--measure", "sign", "--step", 250)
    assert "step 200, epoch 2 (3 of 5)" in answer.out
    assert "Which classes help which? (val-val, sign)" in answer.out
    value = saved(tmp_path, "run", 200).class_matrix["val-val"]["sign"][0, 0]
    assert re.search(rf"0 airplane +{heat.cell(value).strip()}", answer.out)
    assert "step 100, epoch 1 (2 of 5)" in command("show", "run", "--epoch", 1).out
    early = tmp_path / "late"
    result(700).save(early / "stiffness" / "step_00000700.npz")
    answer = command("show", "late", "--step", 5)
    assert (answer.code, answer.out) == (2, "")
    assert "the first result of late is that of step 700, epoch 7" in answer.err
    assert "expected --block to be one of" in command("show", "run", "--block", "train").err
    assert "did you mean cos or sign?" in command("show", "run", "--measure", "cosine").err


def test_json_holds_what_was_saved(command, tmp_path):
    write_run(tmp_path / "run", 3)
    told = json.loads(command("show", "run", "--json").out)
    one = saved(tmp_path, "run", 200)
    assert (told["step"], told["epoch"], told["steps"]) == (200, 2, [0, 100, 200])
    assert told["class_names"] == NAMES
    assert told["verdict"]["kind"] == "fading"
    for block, measures in one.summary.items():
        for measure, numbers in measures.items():
            view = told["blocks"][block][measure]
            assert view["summary"] == numbers
            assert view["class_matrix"] == one.class_matrix[block][measure].tolist()
            assert view["critical_length"]["value"] == one.critical_length[block][measure].value
    peak = max(saved(tmp_path, "run", step).summary["train-val"]["cos"]["within_class"] for step in (0, 100, 200))
    assert told["peak"]["value"] == peak
    assert told["drop_from_peak"] == pytest.approx(peak - one.summary["train-val"]["cos"]["within_class"])
    part = json.loads(command("show", "run", "--json", "--block", "train-val", "--measure", "cos").out)
    assert {block: list(measures) for block, measures in part["blocks"].items()} == {"train-val": ["cos"]}


def test_json_of_numbers_that_are_none(command, tmp_path):
    one = result(0, classes=3)
    one.class_matrix["train-val"]["cos"][1, 2] = np.nan
    one.interval["train-val"] = {"cos": {"within_class": (0.25, 0.75), "between_class": (np.nan, np.nan)}}
    one.save(tmp_path / "run" / "stiffness" / "step_00000000.npz")
    view = json.loads(command("show", "run", "--json").out)["blocks"]["train-val"]["cos"]
    assert view["class_matrix"][1][2] is None
    assert view["intervals"] == {"within_class": [0.25, 0.75], "between_class": None}
    answer = command("show", "run")
    assert "95%: 0.250 to 0.750" in answer.out
    assert re.search(r"1 automobile .* –$", answer.out, flags=re.MULTILINE)


def test_colours_of_cells_are_those_of_the_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = result(0, classes=3)
    one.class_matrix["train-val"]["cos"][:] = [[0.5, -0.2, 1.0], [0.0, np.nan, 0.05], [-1.0, 0.2, -0.5]]
    one.save(tmp_path / "run" / "stiffness" / "step_00000000.npz")
    sent = coloured(load_run("run"), 80)
    cells = re.findall(r"48;2;(\d+);(\d+);(\d+)m *(-?\d?\.\d+|–)", sent)
    assert [text for *_, text in cells] == [".50", "-.20", "1.00", ".00", "–", ".05", "-1.0", ".20", "-.50"]
    known = [colour_of(value) for value in (0.5, -0.2, 1.0, 0.0)] + [MISSING]
    assert [tuple(map(int, colour)) for *colour, _ in cells][:5] == known


@pytest.mark.parametrize(("width", "lines", "sign"), [(250, 100, "  "), (130, 50, "▀"), (80, 0, "")])
def test_a_hundred_classes_fit_the_terminal(width, lines, sign):
    rng = np.random.default_rng(0)
    matrix = rng.uniform(-1, 1, size=(100, 100))
    names, groups = [f"class {i}" for i in range(100)], [i % 20 for i in range(100)]
    found = matrix_lines(matrix, names, groups, width=width, coloured=True)
    assert len(found) == lines
    assert all(len(line.plain) <= width for line in found)
    if found:
        assert found[1].plain.startswith(f"{100 // lines} class {20 * (100 // lines)}")  # by group
        # The cell in the first row and second column: classes 0 and 20.
        place = len(found[0].plain) - 99 * len(sign)
        span = next(span for span in found[0].spans if span.start == place)
        red, green, blue = colour_of(matrix[0, 20])
        assert f"#{red:02x}{green:02x}{blue:02x}" in str(span.style)


def test_every_number_is_there_where_there_are_no_colours(command, tmp_path):
    write_run(tmp_path / "run", 2, classes=100, groups=20)
    answer = command("show", "run")
    matrix = saved(tmp_path, "run", 100).class_matrix["train-val"]["cos"]
    rows = [line for line in answer.out.splitlines() if re.match(r"\d+ class \d+ ", line)]
    assert len(rows) == 100
    shown = np.array([[float(text) for text in re.findall(r"-?\d?\.\d\d", row)] for row in rows])
    assert np.abs(shown - matrix).max() <= 0.005 + 1e-12
    best = int(np.diag(matrix).argmax())
    assert f"own class most: class {best} {matrix[best, best]:.2f}".replace("0.", ".") in answer.out


def test_a_narrow_terminal_is_told_the_strongest_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", 2, classes=100)
    sent = coloured(load_run("run"), 80, no_color=False)
    assert "100 classes need 120 columns, and there are 80." in sent
    assert "own class least: class" in sent


def test_a_run_without_classes_and_without_validation_data(command, tmp_path):
    plain = StiffnessResult(
        7, 1, summary={"train-train": {"cos": {"overall": 0.4}}}, excluded={"train": 3}, notes=["a note"]
    )
    plain.save(tmp_path / "run" / "stiffness" / "step_00000007.npz")
    answer = command("show", "run")
    assert "? No verdict: only one set of examples was measured." in answer.out
    assert "The examples of this run have no classes." in answer.out
    assert re.search(r"any two +█  0.400 → 0.400", answer.out)
    assert "Left out: 3 examples" in answer.out
    assert "Note: a note" in answer.out
    assert "Reach ξ: no distances were measured." in answer.out


def test_layers_at_the_step_shown(command, tmp_path):
    write_run(tmp_path / "run", 3, classes=4, layers=60)
    one = saved(tmp_path, "run", 100)
    answer = command("show", "run", "--step", 150, "--block", "val-val", "--measure", "sign")
    assert "In which layers do examples agree? (val-val, sign)" in answer.out
    assert re.search(r"^layer +same class +other classes *$", answer.out, flags=re.MULTILINE)
    numbers = one.layer_summary["val-val"]["sign"]
    rows = [line.split() for line in answer.out.splitlines() if re.match(r"(body\.|head )", line)]
    assert rows == [
        [name, *(f"{value:.3f}".replace("-", "−") for value in (own, other))]
        for name, own, other in zip(one.layer_names, numbers["within_class"], numbers["between_class"], strict=True)
    ]
    told = json.loads(command("show", "run", "--step", 150, "--json").out)
    assert told["layer_names"] == one.layer_names
    for block, measures in one.layer_summary.items():
        for measure, numbers in measures.items():
            assert told["blocks"][block][measure]["layer_summary"] == numbers


def test_layers_without_classes_and_runs_without_layers(command, tmp_path):
    numbers = {"train-train": {"cos": {"overall": [0.25, np.nan]}}}
    plain = StiffnessResult(
        7,
        1,
        summary={"train-train": {"cos": {"overall": 0.4}}},
        layer_names=["body", "head"],
        layer_summary=numbers,
    )
    plain.save(tmp_path / "run" / "stiffness" / "step_00000007.npz")
    out = command("show", "run").out
    assert re.search(r"^layer +any two *\nbody +0\.250 *\nhead +– *$", out, flags=re.MULTILINE)
    write_run(tmp_path / "none", 1, classes=3)
    assert "layer" not in command("show", "none").out
    told = json.loads(command("show", "none", "--json").out)
    assert "layer_names" not in told
    assert "layer_summary" not in told["blocks"]["train-val"]["cos"]


def test_layers_have_the_colours_of_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = result(0, classes=20, layers=2)
    one.layer_summary["train-val"]["cos"] |= {"within_class": [0.5, 1.0], "between_class": [-0.2, np.nan]}
    one.save(tmp_path / "run" / "stiffness" / "step_00000000.npz")
    sent = coloured(load_run("run"), 90).partition("In which layers")[2]
    cells = re.findall(r"48;2;(\d+);(\d+);(\d+)m *(−?\d\.\d+|–)", sent)
    assert [text for *_, text in cells] == ["0.500", "−0.200", "1.000", "–"]
    known = [*map(colour_of, (0.5, -0.2, 1.0)), MISSING]
    assert [tuple(map(int, colour)) for *colour, _ in cells] == known


def test_lines_over_many_steps_are_thinned():
    assert len(sparkline(list(np.linspace(0, 1, 1000)), 0.0, 1.0)) == 60
    assert sparkline(list(np.linspace(0, 1, 1000)), 0.0, 1.0)[-1] == "█"
    assert sparkline([0.0, 0.0], 0.0, 0.0) == "▁▁"
