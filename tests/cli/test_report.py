"""The report's file: what is in it, and that names cannot break out of their place."""

import base64
import gzip
import json
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from lightning_stiffness import StiffnessHistory, StiffnessResult
from lightning_stiffness.plugin.payload import SCALE, view_payload
from lightning_stiffness.plugin.store import History
from lightning_stiffness.report import write_report
from lightning_stiffness.report.bundle import START, bundle, page_files
from lightning_stiffness.report.runs import Run
from tests.plugin.synthetic import BLOCKS, result, write_run

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", '"&<!--']


def element(page, name):
    """The text of a script element."""
    return re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', page, flags=re.DOTALL)[1]


def unpacked(page, run, block, measure):
    """Arrays of a run as they lie in the file: name → values ``[t, …]``."""
    data = json.loads(element(page, "report"))
    place = [one["name"] for one in data["runs"]].index(run)
    packed = gzip.decompress(base64.b64decode(element(page, data["views"][place][block][measure])))
    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    arrays = {}
    for name, about in header["arrays"].items():
        values = np.frombuffer(packed[4 + length + about["offset"] :], about["dtype"], int(np.prod(about["shape"])))
        values = values.reshape(about["shape"])
        if "scale" in about:
            values = np.where(values == -32768, np.nan, values / about["scale"])
        arrays[name] = values[about["steps"]]
    return header["curves"], arrays


def test_every_number_is_in_the_file(command, tmp_path):
    write_run(tmp_path / "a", 3)
    write_run(tmp_path / "b", 2, classes=20, groups=4)
    answer = command("report", "a", "b", "-o", "out/both.html", "--title", "Two runs")
    page = (tmp_path / "out" / "both.html").read_text("utf-8")
    size = (tmp_path / "out" / "both.html").stat().st_size
    assert answer.out == f"out/both.html ({size / 1e6:.1f} MB, 2 runs)\n"
    assert "<title>Two runs</title>" in page
    data = json.loads(element(page, "report"))
    assert [run["name"] for run in data["listed"]["runs"]] == ["a", "b"]
    for name in "ab":
        history = StiffnessHistory.load(tmp_path / name)
        run = next(one for one in data["runs"] if one["name"] == name)
        assert run["steps"] == history.steps.tolist()
        for block in BLOCKS:
            for measure in ("cos", "sign"):
                numbers = [one.summary[block][measure] for one in history]
                assert run["series"][block][measure]["within_class"] == [one["within_class"] for one in numbers]
                curves, arrays = unpacked(page, name, block, measure)
                known = history.class_matrix(block, measure)
                assert np.abs(arrays["matrix"] - known).max() <= 0.5 / SCALE + 1e-7  # and what float32 rounds
                assert np.array_equal(arrays["counts"], [one.pair_counts[block] for one in history])
                assert curves[-1]["edges"] == history[-1].curve[block][measure].edges.tolist()


def test_layers_are_in_the_file(tmp_path):
    with_layers = [result(step, classes=3, layers=5) for step in (0, 100)]
    write_report({"a": with_layers, "b": [result(0, classes=3)]}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    runs = json.loads(element(page, "report"))["runs"]
    assert (runs[0]["layer_names"], "layer_names" in runs[1]) == (with_layers[0].layer_names, False)
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            _, arrays = unpacked(page, "a", block, measure)
            for kind in ("within_class", "between_class"):
                known = [one.layer_summary[block][measure][kind] for one in with_layers]
                assert np.abs(arrays[f"layers/{kind}"] - known).max() <= 0.5 / SCALE + 1e-7
    assert set(unpacked(page, "b", "train-val", "cos")[1]) == {"matrix", "counts"}


def test_missing_cells_and_values_beyond_one():
    one = result(0, classes=3)
    one.class_matrix["train-val"]["cos"][:] = [[1.0, np.nan, -1.0], [0.0, 0.5, 2e-5], [-0.0, 1e-9, -0.25]]
    one.class_matrix["val-val"]["cos"][0, 0] = 1.5  # from something else: kept as it is
    history = History("a", "1", Run.of("a", [one]).frames, [])
    for block, dtype in (("train-val", "<i2"), ("val-val", "<f4")):
        packed = view_payload(history, block, "cos", compact=True)
        length = int.from_bytes(packed[:4], "little")
        about = json.loads(packed[4 : 4 + length])["arrays"]
        assert about["matrix"]["dtype"] == dtype
        assert about["counts"]["offset"] % 4 == 0
        values = np.frombuffer(packed[4 + length :], dtype, 9).reshape(3, 3)
        shown = np.where(values == -32768, np.nan, values / SCALE) if dtype == "<i2" else values
        np.testing.assert_allclose(shown, one.class_matrix[block]["cos"], atol=0.5 / SCALE)


def test_names_stay_in_their_place(command, tmp_path):
    folder = tmp_path / "runs" / "<b>bold<"
    for step in (0, 100):
        one = result(step, classes=3)
        one.class_names[:] = HOSTILE
        one.notes.append(HOSTILE[0])
        one.save(folder / "stiffness" / f"step_{step:08d}.npz")
    assert command("report", "runs", "--title", "</title><script>alert(3)</script>").code == 0
    page = Path("stiffness-report.html").read_text("utf-8")
    for name in (*HOSTILE, "<b>bold", "</title><script>alert"):
        assert name not in page
    data = json.loads(element(page, "report"))
    assert data["runs"][0]["class_names"] == HOSTILE
    assert data["title"] == "</title><script>alert(3)</script>"
    # As many elements as were written, and each ends where it should.
    views = sum(len(measures) for measures in data["views"][0].values())
    assert page.count("<script") == page.count("</script>") == 2 + views
    assert page.count("<title>") == page.count("</title>") == 1


def test_a_folder_whose_name_is_no_text(command, tmp_path):
    try:
        write_run(tmp_path / os.fsdecode(b"run\xff"), 1, classes=3)
    except OSError:
        pytest.skip("this file system takes names of text only")
    assert command("report", ".").code == 0
    assert b"<h2>run?</h2>" in Path("stiffness-report.html").read_bytes()
    assert command("show", os.fsdecode(b"run\xff"), "--json").code == 0


def test_nothing_is_loaded_from_anywhere(command, tmp_path):
    write_run(tmp_path / "a", 2, classes=3)
    command("report", "a")
    page = Path("stiffness-report.html").read_text("utf-8")
    assert re.findall(r"""(?:src|href)\s*=\s*["']?[^"'\s>]+""", page) == []
    assert set(re.findall(r"https?://[\w./]+", page)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for unsafe in ("unsafe-inline", "unsafe-eval", "http:", "https:", "*"):
        assert unsafe not in policy


def test_without_scripts_the_verdict_and_the_numbers_remain(command, tmp_path):
    write_run(tmp_path / "a", 3, fade=0.9)
    command("report", "a")
    page = Path("stiffness-report.html").read_text("utf-8")
    plain = page[page.index('<main class="plain">') : page.index("</main>")]
    one = StiffnessHistory.load("a")[-1]
    value = one.summary["train-val"]["cos"]["within_class"]
    assert (
        f"<strong>Yes: a step on one training example strongly helps unseen examples of its class ({value:.2f})"
        in plain
    )
    assert plain.count("<tr>") == 1 + 6
    assert f"<td>{one.summary['val-val']['sign']['within_class']:.2f}</td>" in plain


def test_a_hundred_classes_and_fifty_steps_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    results = []
    for step in range(50):
        one = result(step, classes=100, groups=20)
        for measures in one.class_matrix.values():
            for matrix in measures.values():
                matrix += rng.normal(scale=0.05, size=matrix.shape)
                matrix.clip(-1, 1, out=matrix)
        results.append(one)
    assert write_report({"run": results}, tmp_path / "r.html").stat().st_size < 10e6


def test_from_python_and_what_it_refuses(tmp_path):
    path = write_report({"mine": [result(9), result(0)]}, tmp_path / "deep" / "r.html")
    assert json.loads(element(path.read_text("utf-8"), "report"))["runs"][0]["steps"] == [0, 9]
    with pytest.raises(ValueError, match="expected at least one run with results, got 1 runs without any"):
        write_report({"empty": []}, tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_of_too_many_steps_some_are_shown(tmp_path):
    results = [StiffnessResult(step, 0, summary={"train-val": {"cos": {"overall": 0.5}}}) for step in range(1201)]
    data = json.loads(element(write_report({"long": results}, tmp_path / "r.html").read_text("utf-8"), "report"))
    steps = data["runs"][0]["steps"]
    assert len(steps) <= 501
    assert (steps[0], steps[-1]) == (0, 1200)
    assert "long: of 1,201 results, 301 are shown, evenly spaced" in data["runs"][0]["notes"]


def test_a_file_is_replaced_whole_or_not_at_all(command, tmp_path, monkeypatch):
    write_run(tmp_path / "a", 1, classes=3)
    file = tmp_path / "r.html"
    file.write_text("before")
    seen, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            seen.add(file.read_bytes()[-8:])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            assert command("report", "a", "-o", file).code == 0
    finally:
        done.set()
        watcher.join()
    assert seen <= {b"before", b"</html>\n"}
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


def test_where_it_cannot_be_written(command, tmp_path):
    write_run(tmp_path / "a", 1, classes=3)
    answer = command("report", "a", "-o", ".")
    assert (answer.code, answer.out) == (2, "")
    assert "got the folder .: try stiffness-report.html" in answer.err
    (tmp_path / "file").write_text("")
    answer = command("report", "a", "-o", "file/r.html")
    assert answer.code == 2
    assert "the report cannot be written to file/r.html: " in answer.err
    told = json.loads(command("report", "a", "--json").out)
    assert told["file"] == "stiffness-report.html"
    assert told["bytes"] == (tmp_path / "stiffness-report.html").stat().st_size


def test_skipped_files_are_told_in_the_report_too(command, tmp_path):
    write_run(tmp_path / "a", 2, classes=3)
    (tmp_path / "a" / "stiffness" / "step_00000300.npz").write_text("")
    answer = command("report", "a")
    assert "step_00000300.npz is skipped" in answer.err
    data = json.loads(element(Path("stiffness-report.html").read_text("utf-8"), "report"))
    assert "a: step_00000300.npz is skipped" in data["runs"][0]["notes"][0]


def test_the_script_holds_every_module_of_the_page():
    files = page_files()
    script = bundle(files)
    for name in files:
        if name.endswith(".js") and name != "index.js":  # TensorBoard's own way in
            assert f"const ${name.removesuffix('.js')} = (() => {{" in script
    assert "fetch(" not in script
    assert "</script" not in script.lower()
    assert "<!--" not in script


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"page.js": 'import { a } from "./no.js";'}, "expected a module no.js, imported by page.js"),
        (
            {"page.js": 'import { a } from "./b.js";', "b.js": 'import { c } from "./page.js";'},
            "page.js → b.js → page.js",
        ),
        ({"page.js": 'import * as a from "./b.js";'}, "expected imports and exports of the forms"),
        ({"page.js": "export default 3;"}, "expected imports and exports of the forms"),
        ({"page.js": "const a = import.meta.url;"}, "expected imports and exports of the forms"),
        ({}, f"expected a module {START}, imported by the page"),
    ],
)
def test_modules_that_cannot_be_put_into_one_file(files, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bundle(files)
