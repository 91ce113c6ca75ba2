"""``lightning-stiffness measure``: what the callback measured is found again in the checkpoints of its run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_stiffness import StiffnessHistory, measure_stiffness
from tests.cli import networks

NAMES = "tests.cli.networks"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's log directory, its checkpoints, and what the callback measured."""
    folder = tmp_path_factory.mktemp("run")
    measured = networks.train(folder)
    logs = folder / "lightning_logs" / "version_0"
    return logs, sorted((logs / "checkpoints").glob("*.ckpt")), measured.history


@pytest.fixture
def weights(tmp_path):
    """Weights of a plain network, three files without a word on how far the training was."""
    files = []
    for seed in range(3):
        torch.manual_seed(seed)
        files.append(tmp_path / f"weights{seed}.pt")
        torch.save(networks.Plain(6).state_dict(), files[-1])
    return files


@pytest.fixture
def arrays(tmp_path):
    (train_x, train_y), (val_x, val_y) = networks.dataset().tensors, networks.dataset(40, seed=1).tensors
    names = np.array(["red", "green", "blue"])
    np.savez(
        tmp_path / "data.npz", x_train=train_x.numpy().astype(np.float64), y_train=train_y.numpy().astype(np.int32),
        x_test=val_x.numpy(), y_test=val_y.numpy(), class_names=names,
    )  # fmt: skip
    return tmp_path / "data.npz"


def plain(weights, *more):
    return ("measure", "--module", f"{NAMES}:Plain", "--hparams", "{width: 6}", "--ckpt", *weights, *more)


def test_the_callbacks_own_numbers(command, run):
    logs, files, history = run
    answer = command(
        "measure",
        "--module",
        f"{NAMES}:Net",
        "--data",
        f"{NAMES}:Data",
        "--probe-size",
        20,
        "--resamples",
        20,
        "--ckpt",
        *files,
    )
    assert answer.code == 0
    found = StiffnessHistory.load(logs.with_name("measured_version_0"))
    known = {one.step: one for one in history if one.step}
    # Every checkpoint stands where the callback had counted it: behind batches 2, 4, … and at the ends of epochs.
    assert found.steps.tolist() == sorted(known) == [2, 4, 6, 8, 10, 12]
    for one in found:
        same = known[one.step]
        assert one.epoch == same.epoch
        assert one.probe_indices["val"].tolist() == same.probe_indices["val"].tolist()
        assert one.summary == same.summary
        assert one.interval == same.interval
        assert repr(one.critical_length) == repr(same.critical_length)  # in which NaN is NaN
        for block, measures in same.class_matrix.items():
            for measure, matrix in measures.items():
                assert np.array_equal(one.class_matrix[block][measure], matrix, equal_nan=True)
    assert f"Saved: {logs.with_name('measured_version_0')}" in answer.out
    assert "epoch 2 (6 of 6)" in answer.out
    # The run itself is as it was.
    assert len(StiffnessHistory.load(logs)) == len(known) + 1
    assert command("show", logs).code == 0


def test_arguments_of_the_data_module_are_those_of_the_checkpoint(command, run):
    _, files, history = run
    saved = torch.load(files[0], weights_only=True)["datamodule_hyper_parameters"]
    assert saved == {"batch_size": 10}
    one = ("measure", "--module", f"{NAMES}:Net", "--data", f"{NAMES}:Data", "--ckpt", files[-1], "--json")
    own = json.loads(command(*one, "-o", "own", "--probe-size", 20).out)["results"][0]
    other = command(*one, "-o", "other", "--probe-size", 20, "--data-args", "{batch_size: 5}")
    changed = json.loads(other.out)["results"][0]
    at = next(result for result in history if result.step == own["step"])
    assert own["within_class"]["value"] == at.summary["train-val"]["cos"]["within_class"]
    assert own["within_class"]["value"] != changed["within_class"]["value"]


def test_a_plain_module_with_arrays(command, weights, arrays):
    answer = command(*plain(weights, "--loss", f"{NAMES}:loss", "--data", arrays.name, "--device", "cpu"))
    assert answer.code == 0
    assert "no step is kept there, so they count as step 1, 2" in answer.err
    found = StiffnessHistory.load("measured")
    assert found.steps.tolist() == [1, 2, 3]
    module = networks.Plain(6)
    module.load_state_dict(torch.load(weights[1], weights_only=True))
    train, val = (networks.dataset(*args).tensors for args in ((60, 0), (40, 1)))
    order = [found[1].probe_indices[split].tolist() for split in ("train", "val")]
    batches = [tuple(tensor[indices] for tensor in part) for part, indices in zip((train, val), order, strict=True)]
    known = measure_stiffness(module, *batches, loss_fn=networks.loss)
    for block, measures in known.summary.items():
        for measure, numbers in measures.items():
            assert found[1].summary[block][measure] == pytest.approx(numbers, abs=1e-6)
    assert found[0].class_names == ["red", "green", "blue"]
    assert "0 red" in answer.out


def test_results_are_put_beside_others_only_where_that_is_asked_for(command, weights, arrays):
    options = ("--loss", f"{NAMES}:loss", "--data", "data.npz", "--resamples", 0)
    assert command(*plain(weights[:1], *options)).code == 0
    refused = command(*plain(weights[1:2], *options))
    assert refused.code == 2
    assert "measured holds 1 result already" in refused.err
    assert command(*plain(weights[1:2], *options, "--steps", 7, "--add")).code == 0
    assert StiffnessHistory.load("measured").steps.tolist() == [1, 7]


def test_json_is_all_that_is_printed(command, weights):
    answer = command(
        "measure", "--module", f"{NAMES}:make_plain", "--loss", f"{NAMES}:loss", "--data", f"{NAMES}:both",
        "--ckpt", weights[0], "--splits", "train", "--labels", f"{NAMES}:classes_of", "--json",
    )  # fmt: skip
    told = json.loads(answer.out)
    assert "printed by the user's own code" in answer.err
    assert (told["block"], told["results"][0]["step"]) == ("train-train", 1)
    result = StiffnessHistory.load("measured")[0]
    assert told["results"][0]["within_class"]["value"] == result.summary["train-train"]["cos"]["within_class"]
    assert result.class_matrix["train-train"]["cos"].shape == (2, 2)
    assert list(result.summary) == ["train-train"]


def test_how_it_is_measured(command, weights):
    answer = command(*plain(
        weights[:1], "--loss", f"{NAMES}:loss", "--data", f"{NAMES}:named", "--probe-size", 12,
        "--measures", "sign", "--superclasses", "[0, 0, 1]", "--superclass-names", "[warm, cold]",
        "--class-names", "[a, b, c]", "--distance", "euclidean", "--bins", 4,
        "--parameters", "net.2.*", "--memory-budget", "1GB", "--resamples", 0,
        "--per-layer", "--engine", "loop", "--no-diagnostics", "--seed", 3, "-o", "deep/er",
    ))  # fmt: skip
    assert answer.code == 0
    one = StiffnessHistory.load("deep/er")[0]
    assert one.settings["parameters"] == ["net.2.*"]
    assert one.settings["memory_budget"] == 10**9
    assert (one.engine, one.diagnostics, one.interval) == ("loop", {}, {})
    assert list(one.summary["train-val"]) == ["sign"]
    assert one.layer_names == ["net.2"]
    assert one.superclass_names == [["warm", "cold"]]
    assert len(one.curve["train-val"]["sign"].mean) == 4
    assert len(one.probe_indices["train"]) == len(one.probe_indices["val"]) == 12


def test_weights_with_a_prefix(command, run, weights):
    state = {f"model.{name}": value for name, value in torch.load(weights[0], weights_only=True).items()}
    torch.save({"model_state_dict": {**state, "head.weight": torch.ones(2)}, "step": 30, "epoch": 3}, "whole.pt")
    options = ("--loss", f"{NAMES}:loss", "--data", f"{NAMES}:both", "--resamples", 0)
    answer = command(*plain(["whole.pt"], *options, "-o", "a"))
    assert "whole.pt: weights are taken from those that begin with 'model.'" in answer.err
    assert command(*plain(weights[:1], *options, "-o", "b")).code == 0
    prefixed, bare = (StiffnessHistory.load(name)[0] for name in "ab")
    assert (prefixed.step, prefixed.epoch) == (30, 3)
    assert prefixed.summary == bare.summary


def test_code_in_a_checkpoint_is_run_only_where_it_is_trusted(command, weights):
    state = torch.load(weights[0], weights_only=True)
    torch.save({"state_dict": state, "where": Path("here"), "step": 5}, "more.pt")
    options = ("--loss", f"{NAMES}:loss", "--data", f"{NAMES}:both", "--resamples", 0)
    refused = command(*plain(["more.pt"], *options))
    assert refused.code == 2
    assert "more.pt holds more than weights and plain values (pathlib." in refused.err
    assert "add --trust" in refused.err
    assert command(*plain(["more.pt"], *options, "--trust")).code == 0
    torch.save(networks.Plain(6), "module.pt")
    assert command(*plain(["module.pt"], *options, "--trust", "-o", "whole")).code == 0
    found = [StiffnessHistory.load(name)[0].summary for name in ("measured", "whole")]
    assert found[0] != found[1]


def test_a_trusted_checkpoint_of_lightning(command, run):
    _, files, _ = run
    content = torch.load(files[0], weights_only=True)
    content["callbacks"] = {"where": Path("here")}
    torch.save(content, "odd.ckpt")
    options = (
        "measure",
        "--module",
        f"{NAMES}:Net",
        "--data",
        f"{NAMES}:Data",
        "--ckpt",
        "odd.ckpt",
        "--resamples",
        0,
    )
    assert "add --trust" in command(*options).err
    assert command(*options, "--trust").code == 0
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in __import__("os").environ


def test_a_module_with_loaders_of_its_own(command, run):
    answer = command("measure", "--module", f"{NAMES}:Own", "--ckpt", run[1][0], "-o", "out", "--resamples", 0)
    assert answer.code == 0
    assert list(StiffnessHistory.load("out")[0].summary) == ["train-train"]
    assert "has no val data" in answer.err


def test_layers_that_are_made_late(command, weights):
    answer = command(
        "measure", "--module", f"{NAMES}:Late", "--hparams", "{width: 6}", "--ckpt", weights[0], "--resamples", 0
    )
    assert answer.code == 0
    result = StiffnessHistory.load("measured")[0]
    options = ("--loss", f"{NAMES}:loss", "--data", f"{NAMES}:both", "--splits", "train", "--resamples", 0)
    assert command(*plain(weights[:1], *options, "-o", "plain")).code == 0
    same = StiffnessHistory.load("plain")[0]
    for measure, numbers in same.summary["train-train"].items():
        assert result.summary["train-train"][measure] == pytest.approx(numbers, abs=1e-5)


def test_several_checkpoints_of_one_step_count_once(command, run):
    _, files, _ = run
    last = [file for file in files if "step=12" in file.name]
    assert len(last) == 2
    one = ("measure", "--module", f"{NAMES}:Own", "-o", "out", "--resamples", 0, "--ckpt", *last)
    answer = command(*one)
    assert f"{last[1].name} is left out: {last[0].name} is of the same step, 12" in answer.err
    assert StiffnessHistory.load("out").steps.tolist() == [12]


def test_a_module_of_the_other_namespace(command, tmp_path):
    (tmp_path / "elsewhere.py").write_text(
        "import torch\nfrom lightning.pytorch import LightningModule\n"
        "class Other(LightningModule):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Linear(4, 3)\n"
        "    def training_step(self, batch):\n"
        "        assert self.trainer.datamodule is None\n"
        "        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])\n"
    )
    torch.save({"layer.weight": torch.ones(3, 4), "layer.bias": torch.zeros(3)}, "w.pt")
    answer = command(
        "measure", "--module", "elsewhere.Other", "--data", f"{NAMES}.both", "--ckpt", "w.pt", "--resamples", 0
    )
    assert answer.code == 0
    assert not any(StiffnessHistory.load("measured")[0].excluded.values())


ERRORS = {
    "no module": (["--module", "nowhere:Net"], "there is no nowhere"),
    "near module": (["--module", "train:Net"], "did you mean trains?"),
    "a path": (["--module", "src/train.py:Net"], "such as src.train:Net, got the path src/train.py:Net"),
    "no such class": (
        ["--module", f"{NAMES}:Plan"],
        f"expected --module to name something in {NAMES}, but it has no Plan; did you mean Plain?",
    ),
    "no name": (["--module", "Net"], "expected --module to name a module and something in it, such as train:Net"),
    "no callable": (
        ["--module", f"{NAMES}:torch"],
        "expected --module to be a class or a function that makes a module",
    ),
    "no loss": (["--module", f"{NAMES}:Plain"], "expected --loss pkg.mod:function, as Plain is no LightningModule"),
    "no loss of what a function makes": (
        ["--module", f"{NAMES}:make_plain"],
        "expected --loss pkg.mod:function, as Plain",
    ),
    "no module made": (["--module", f"{NAMES}:only_numbers"], "but only_numbers returns int"),
    "other sizes": (["--hparams", "{width: 5}"], "the weights in w.pt are not those of Plain"),
    "unknown argument": (["--hparams", "{depth: 5}"], "Plain cannot be made: "),
    "no mapping": (["--hparams", "[5]"], "expected --hparams to be a mapping, got list: [5]"),
    "no YAML": (["--hparams", "{a: ["], "expected --hparams to be a mapping in JSON or YAML, got {a: [:"),
    "no file": (["--hparams", "h.yaml"], "the file h.yaml cannot be read: No such file"),
    "no checkpoint": (["--ckpt", "x.ckpt"], "got nothing at x.ckpt. There are deep/a.ckpt"),
    "damaged checkpoint": (["--ckpt", "deep/a.ckpt"], "deep/a.ckpt is damaged or no checkpoint"),
    "no weights": (["--ckpt", "list.pt"], "expected weights by name in list.pt"),
    "no data": (["--data", ""], "expected --data, as only a LightningModule can have loaders of its own"),
    "odd data": (["--data", f"{NAMES}:only_numbers"], "expected --data to be a LightningDataModule;"),
    "no arrays": (
        ["--data", "none.npz"],
        "expected --data to be a file of arrays, but there is nothing at none.npz",
    ),
    "other arrays": (["--data", "odd.npz"], "expected arrays x_train, y_train and x_val, y_val"),
    "too few rows": (
        ["--data", "rows.npz"],
        "expected as many rows in x_train as in y_train of rows.npz, got 3 and 2",
    ),
    "no numbers": (["--data", "text.npz"], "expected numbers in y_train of text.npz"),
    "data arguments": (["--data-args", "{size: 3}"], "cannot be called: got an unexpected keyword argument 'size'"),
    "measure": (["--measures", "cosine"], "expected measures to be one or more of"),
    "engine": (["--engine", "fast"], "unknown engine 'fast': expected one of"),
    "budget": (["--memory-budget", "much"], "expected --memory-budget to be a number of bytes"),
    "probe size": (["--probe-size", "999"], "expected probe_size of at most 60"),
    "layer": (["--distance-layer", "net.9"], "net.9"),
    "superclasses": (["--superclasses", "[0]"], "superclasses"),
    "device": (["--device", "toaster"], "expected --device to be a device of this machine"),
    "output": (["--output", "w.pt"], "expected --output to be a folder, got the file w.pt"),
    "steps": (["--steps", "1", "2"], "expected --steps for each of the 1 checkpoints, got 2"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_is_told_before_any_work(command, tmp_path, weights, case):
    given, message = ERRORS[case]
    weights[0].rename("w.pt")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.ckpt").write_bytes(b"nothing")
    (tmp_path / "trains.py").write_text("")
    torch.save([1, 2], "list.pt")
    np.savez("odd.npz", x_train=np.zeros(3))
    np.savez("rows.npz", x_train=np.zeros((3, 2)), y_train=np.zeros(2))
    np.savez("text.npz", x_train=np.zeros((2, 2)), y_train=np.array(["a", "b"]))
    options = {
        "--module": [f"{NAMES}:Plain"],
        "--ckpt": ["w.pt"],
        "--data": [f"{NAMES}:both"],
        "--loss": [f"{NAMES}:loss"],
    }
    options["--hparams"] = ["{width: 6}"]
    if given[0] == "--module":
        del options["--loss"], options["--hparams"]
    options[given[0]] = given[1:]
    if options["--data"] == [""]:
        del options["--data"]
    answer = command("measure", *(part for name, values in options.items() for part in (name, *values)))
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""
    assert not Path("measured").exists()


def test_errors_of_a_module_say_what_the_options_are_called(command, run):
    one = ("--ckpt", run[1][0], "-o", "out", "--data", f"{NAMES}:Data")
    manual = command("measure", "--module", f"{NAMES}:Manual", *one)
    assert manual.code == 2
    assert "Manual optimizes manually" in manual.err
    assert "loss_fn= is --loss" in manual.err
    needs = command("measure", "--module", f"{NAMES}:Needs", *one)
    assert "Needs cannot be made: " in needs.err
    assert "given by --hparams" in needs.err
    assert (
        command("measure", "--module", f"{NAMES}:Needs", "--hparams", "{needed: 3}", *one, "--resamples", 0).code
        == 0
    )
    broken = command("measure", "--module", f"{NAMES}:Broken", "--ckpt", run[1][0], "-o", "third")
    assert broken.code == 2
    assert "Broken.training_step fails on a copy of the module" in broken.err
    assert "Traceback" in broken.err  # with the line of the step that failed
    assert 'return {}["nothing"]' in broken.err


def test_an_error_in_the_users_module_comes_through(command, tmp_path):
    (tmp_path / "failing.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import no_such_package_anywhere\n")
    torch.save({}, "w.pt")
    with pytest.raises(ZeroDivisionError):
        command("measure", "--module", "failing:Net", "--ckpt", "w.pt")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        command("measure", "--module", "lacking:Net", "--ckpt", "w.pt")
    assert "failing" not in sys.modules
