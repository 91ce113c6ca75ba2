"""What TensorBoard's own application answers: numbers as they were saved, NaN as null, files of the page."""

import configparser
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_stiffness import measure_stiffness, palette
from lightning_stiffness.figures import style
from lightning_stiffness.plugin import routes
from lightning_stiffness.plugin.routes import StiffnessPlugin
from lightning_stiffness.result import Length, StiffnessResult
from tests.plugin.synthetic import BLOCKS, result, write_run

PLUGIN = "/data/plugin/stiffness"
STATIC = Path(routes.__file__).with_name("static")


def unpack(data):
    """The bytes of /view as header and arrays, by the layout that ``view_payload`` describes."""
    length = int.from_bytes(data[:4], "little")
    assert length % 4 == 0
    header = json.loads(data[4 : 4 + length])
    arrays = {}
    for name, entry in header["arrays"].items():
        count = int(np.prod(entry["shape"]))
        flat = np.frombuffer(data, entry["dtype"], count, 4 + length + entry["offset"])
        arrays[name] = [None if i < 0 else flat.reshape(entry["shape"])[i] for i in entry["steps"]]
    return header, arrays


def test_tensorboard_lists_the_tab(tmp_path, serve):
    write_run(tmp_path / "run", 1, classes=2)
    listed = serve(tmp_path).get("/data/plugins_listing").json["stiffness"]
    assert listed["enabled"]
    assert listed["tab_name"] == "Stiffness"
    assert listed["loading_mechanism"] == {"type": "IFRAME", "module_path": f"{PLUGIN}/static/index.js"}
    assert not serve(tmp_path / "empty").get("/data/plugins_listing").json["stiffness"]["enabled"]


def test_the_entry_point_leads_to_the_plugin():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    name, _, place = config["options.entry_points"]["tensorboard_plugins"].strip().partition(" = ")
    assert name == StiffnessPlugin.plugin_name
    assert EntryPoint(name, place, "tensorboard_plugins").load() is StiffnessPlugin


def test_numbers_are_those_that_were_saved(tmp_path, serve):
    saved = [result(step, classes=4, groups=2, progress=step / 200) for step in (0, 100, 200)]
    for one in saved:
        one.save(tmp_path / "run" / "stiffness" / f"step_{one.step:08d}.npz")
    client = serve(tmp_path)
    run = client.get(f"{PLUGIN}/run?run=run").json
    assert (run["steps"], run["epochs"]) == ([0, 100, 200], [0, 1, 2])
    assert (run["class_names"], run["groups"]) == (saved[0].class_names, [0, 0, 1, 1])
    assert list(run["series"]) == ["train-val", "train-train", "val-val"]
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            for name, values in run["series"][block][measure].items():
                assert values == [one.summary[block][measure][name] for one in saved]
            lengths = run["lengths"][block][measure]
            assert [xi["value"] for xi in lengths] == [one.critical_length[block][measure].value for one in saved]
            view = client.get(f"{PLUGIN}/view", query_string={"run": "run", "block": block, "measure": measure})
            header, arrays = unpack(view.data)
            for i, one in enumerate(saved):
                np.testing.assert_array_equal(
                    arrays["matrix"][i], one.class_matrix[block][measure].astype(np.float32)
                )
                np.testing.assert_array_equal(arrays["counts"][i], one.pair_counts[block])
                curve = one.curve[block][measure]
                np.testing.assert_allclose(header["curves"][i]["edges"], curve.edges)
                np.testing.assert_allclose(np.array(header["curves"][i]["mean"], float), curve.mean)


def test_what_is_the_same_at_every_step_is_sent_once(tmp_path, serve):
    write_run(tmp_path / "run", 20, classes=10)
    view = serve(tmp_path).get(f"{PLUGIN}/view?run=run&block=train-val&measure=cos")
    header, arrays = unpack(view.data)
    assert header["arrays"]["counts"]["shape"] == [1, 10, 10]
    assert header["arrays"]["counts"]["steps"] == [0] * 20
    assert header["arrays"]["matrix"]["shape"] == [20, 10, 10]
    assert len(arrays["counts"]) == 20


def test_missing_cells_stay_missing(tmp_path, serve):
    made = result(3, classes=3)
    made.class_matrix["train-val"]["cos"][0, 2] = np.nan
    made.curve["train-val"]["cos"].mean[7] = np.nan
    made.summary["train-val"]["cos"]["between_class"] = float("nan")
    made.critical_length["train-val"]["cos"] = Length(float("nan"), 0.1, 0.2, 9, False, "stiffness does not fall")
    made.save(tmp_path / "run" / "stiffness" / "step_00000003.npz")
    client = serve(tmp_path)
    text = client.get(f"{PLUGIN}/run?run=run").text
    assert "NaN" not in text
    run = json.loads(text)
    assert run["series"]["train-val"]["cos"]["between_class"] == [None]
    (xi,) = run["lengths"]["train-val"]["cos"]
    assert (xi["value"], xi["reason"]) == (None, "stiffness does not fall")
    header, arrays = unpack(client.get(f"{PLUGIN}/view?run=run&block=train-val&measure=cos").data)
    assert np.argwhere(np.isnan(arrays["matrix"][0])).tolist() == [[0, 2]]
    assert header["curves"][0]["mean"][7] is None  # a bin without pairs


def test_a_result_without_classes_distances_or_a_second_split(tmp_path, serve):
    StiffnessResult(5, 0, summary={"train-train": {"sign": {"overall": 0.25}}}).save(
        tmp_path / "run" / "stiffness" / "step_5.npz"
    )
    client = serve(tmp_path)
    run = client.get(f"{PLUGIN}/run?run=run").json
    assert run["class_names"] is None
    assert run["series"] == {"train-train": {"sign": {"overall": [0.25]}}}
    assert run["seconds"] == [None]
    header, arrays = unpack(client.get(f"{PLUGIN}/view?run=run&block=train-train&measure=sign").data)
    assert (header["curves"], arrays) == ([None], {})


def test_steps_that_differ_in_what_they_hold(tmp_path, serve):
    folder = tmp_path / "run" / "stiffness"
    result(0, classes=3).save(folder / "step_0.npz")  # other classes than later
    result(1, classes=5).save(folder / "step_1.npz")
    StiffnessResult(2, 0, summary={"train-val": {"cos": {"overall": 0.5}}}).save(folder / "step_2.npz")
    result(3, classes=5).save(folder / "step_3.npz")
    client = serve(tmp_path)
    header, arrays = unpack(client.get(f"{PLUGIN}/view?run=run&block=train-val&measure=cos").data)
    assert [matrix is not None for matrix in arrays["matrix"]] == [False, True, False, True]
    assert [curve is not None for curve in header["curves"]] == [True, True, False, True]
    series = client.get(f"{PLUGIN}/run?run=run").json["series"]
    assert [value is None for value in series["train-val"]["cos"]["within_class"]] == [False, False, True, False]
    assert [value is None for value in series["val-val"]["cos"]["within_class"]] == [False, False, True, False]


@pytest.mark.parametrize(
    ("block", "measure"), [("train-val", "none"), ("val-train", "cos"), ("", ""), ("..", "..")]
)
def test_a_block_or_measure_that_was_not_measured(tmp_path, serve, block, measure):
    write_run(tmp_path / "run", 1, classes=2)
    query = {"run": "run", "block": block, "measure": measure}
    response = serve(tmp_path).get(f"{PLUGIN}/view", query_string=query)
    assert response.status_code == 404
    assert response.json == {"error": "the run has nothing measured for this block and measure"}


def test_names_of_any_signs(tmp_path, serve):
    name = "<b>α & 'β'</b> #1 100%+?"
    write_run(tmp_path / name.replace("/", "_"), 1, classes=2)
    client = serve(tmp_path)
    (listed,) = client.get(f"{PLUGIN}/runs").json["runs"]
    assert client.get(f"{PLUGIN}/run", query_string={"run": listed["name"]}).json["name"] == listed["name"]


def test_answers_are_compressed_and_never_sniffed_or_kept(tmp_path, serve):
    write_run(tmp_path / "run", 3, classes=4)
    response = serve(tmp_path).get(f"{PLUGIN}/run?run=run", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-cache, must-revalidate"
    assert response.content_type == "application/json"


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda file: file.name)
def test_every_file_of_the_page_is_served(tmp_path, serve, file):
    response = serve(tmp_path).get(f"{PLUGIN}/static/{file.name}")
    assert response.status_code == 200
    assert response.data == file.read_bytes()
    assert response.content_type == {".js": "text/javascript", ".css": "text/css"}[file.suffix] + "; charset=utf-8"


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda file: file.name)
def test_the_page_asks_no_outside_address_and_runs_no_text_as_code(file):
    text = file.read_text("utf-8")
    # The name of SVG's language looks like an address and is none.
    assert "//" not in re.sub(r"^\s*//.*$|\s// .*$|http://www\.w3\.org/2000/svg", "", text, flags=re.MULTILINE)
    for forbidden in ("eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert forbidden not in text
    for source in re.findall(r"^import .* from \"(.+?)\";$", text, flags=re.MULTILINE):
        assert (STATIC / source).exists()


def test_the_package_holds_the_files_of_the_page():
    config = (Path(__file__).parents[2] / "setup.cfg").read_text("utf-8")
    assert "lightning_stiffness.plugin = static/*" in config


def test_colours_and_words_are_those_of_the_figures():
    text = (STATIC / "colours.js").read_text("utf-8")
    found = {name: json.loads(values) for name, values in re.findall(r"export const (\w+) = (\[[^\]]+\]);", text)}
    assert found == {"STOPS": list(palette.STOPS), "LIGHT": list(palette.LIGHT), "DARK": list(palette.DARK)}
    for theme in ("light", "dark"):
        assert f'{theme}: "{style.THEMES[theme].missing}"' in text


def test_the_plugin_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys, lightning_stiffness.plugin.routes; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_real_measurement(tmp_path, serve):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    train, val = [(torch.randn(40, 5), torch.arange(40) % 4) for _ in range(2)]
    found = measure_stiffness(
        net, train, val, loss_fn=lambda net, batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1]),
        superclasses=[0, 0, 1, 1], superclass_names=["left", "right"], step=5, epoch=1,
    )  # fmt: skip
    found.save(tmp_path / "run" / "stiffness" / "step_00000005.npz")
    client = serve(tmp_path)
    run = client.get(f"{PLUGIN}/run?run=run").json
    summary = found.summary["train-val"]["cos"]
    assert {name: [value] for name, value in summary.items()} == run["series"]["train-val"]["cos"]
    shown = {name: tuple(ends[0]) for name, ends in run["intervals"]["train-val"]["cos"].items()}
    assert shown == found.interval["train-val"]["cos"]
    assert (run["groups"], run["group_names"]) == ([0, 0, 1, 1], ["left", "right"])
    assert set(run["diagnostics"][0]) == {"train", "val"}
    header, arrays = unpack(client.get(f"{PLUGIN}/view?run=run&block=train-val&measure=cos").data)
    np.testing.assert_allclose(arrays["matrix"][0], found.class_matrix["train-val"]["cos"], rtol=1e-6)
    assert header["curves"][0]["interval"] == "bootstrapped over examples"
