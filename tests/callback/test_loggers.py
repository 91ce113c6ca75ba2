"""Each logger takes what it can: numbers, and pictures where it has a place for them."""

import csv
import inspect
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.loggers import log_picture
from tests.callback.runs import fit

KEY = "stiffness/train-val/cos/within_class"
PICTURE = "stiffness/train-val/cos/class_matrix"
STEPS = [0, 4, 9]
"""The start, and each epoch's last batch."""


def run(logger, **options):
    callback = StiffnessCallback(probe_size=8, **options)
    fit(callbacks=[callback], logger=logger, max_epochs=2)
    return callback


def test_mlflow_file_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(experiment_name="runs", save_dir=str(tmp_path / "mlruns"))
    callback = run(logger)
    history = logger.experiment.get_metric_history(logger.run_id, KEY)
    assert [entry.step for entry in history] == STEPS
    expected = [result.summary["train-val"]["cos"]["within_class"] for result in callback.history]
    assert [entry.value for entry in history] == pytest.approx(expected)
    pictures = sorted((tmp_path / "mlruns").rglob(f"artifacts/{PICTURE}/*.png"))
    assert [path.name for path in pictures] == [f"step_{step:08d}.png" for step in STEPS]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=str(tmp_path), offline=True)
    taken = []
    original = logger.experiment.log

    def spy(data, *args, **kwargs):
        taken.append(dict(data))
        return original(data, *args, **kwargs)

    monkeypatch.setattr(logger.experiment, "log", spy)
    callback = run(logger)
    numbers = [data[KEY] for data in taken if KEY in data]
    expected = [result.summary["train-val"]["cos"]["within_class"] for result in callback.history]
    assert numbers == pytest.approx(expected)
    assert [data["trainer/global_step"] for data in taken if KEY in data] == STEPS
    pictures = [data for data in taken if PICTURE in data]
    assert [data["trainer/global_step"] for data in pictures] == STEPS
    assert all(isinstance(data[PICTURE][0], wandb.Image) for data in pictures)
    wandb.finish()
    assert sorted(tmp_path.rglob("media/images/stiffness/train-val/cos/class_matrix*.png"))


def test_several_at_once(tmp_path):
    loggers = [
        TensorBoardLogger(tmp_path / "tb", name=None, version=""),
        CSVLogger(tmp_path / "csv", name=None, version=""),
    ]
    callback = run(loggers)
    found = EventAccumulator(str(tmp_path / "tb"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    assert [event.step for event in found.Images(PICTURE)] == STEPS
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get(KEY)]
    assert [int(row["step"]) for row in rows] == STEPS
    values = [event.value for event in found.Scalars(KEY)]
    assert [float(row[KEY]) for row in rows] == pytest.approx(values, rel=1e-6)
    assert len(list((tmp_path / "tb" / "stiffness").iterdir())) == len(callback.history)


def test_no_logger_keeps_the_numbers():
    callback = run(False)
    assert len(callback.history) == 3


def test_two_names_in_one_logger(tmp_path):
    first, second = StiffnessCallback(probe_size=8), StiffnessCallback(probe_size=4, name="small", splits="train")
    fit(callbacks=[first, second], logger=CSVLogger(tmp_path, name=None, version=""), max_epochs=1)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {KEY, "small/train-train/cos/within_class"} <= set(header)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["small", "stiffness"]


CLI = """
import json, sys
import {namespace} as pl
import torch
from {namespace}.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(24, 5), torch.arange(24) % 3), 8)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


cli = LightningCLI(Net)
(callback,) = [c for c in cli.trainer.callbacks if type(c).__name__ == "StiffnessCallback"]
found = {{"size": callback.probe_size, "splits": list(callback.splits), "measured": len(callback.history)}}
print("FOUND" + json.dumps(found))
"""


@pytest.mark.parametrize("namespace", ["pytorch_lightning", "lightning.pytorch"])
def test_lightning_cli(namespace, tmp_path):
    pytest.importorskip(namespace, reason="this namespace of Lightning is not installed")
    pytest.importorskip("jsonargparse", reason="LightningCLI needs jsonargparse[signatures]")
    script = tmp_path / "train.py"
    script.write_text(CLI.format(namespace=namespace))
    options = [
        "fit",
        "--trainer.callbacks+=lightning_stiffness.StiffnessCallback",
        "--trainer.callbacks.probe_size=10",
        "--trainer.callbacks.splits=[train]",
        "--trainer.max_epochs=1",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.split("FOUND")[1])
    assert found == {"size": 10, "splits": ["train"], "measured": 2}


def test_lightning_cli_knows_every_argument(tmp_path):
    pytest.importorskip("jsonargparse", reason="LightningCLI needs jsonargparse[signatures]")
    script = tmp_path / "train.py"
    script.write_text(CLI.format(namespace="pytorch_lightning"))
    command = [sys.executable, script, "fit", "--trainer.callbacks.help=lightning_stiffness.StiffnessCallback"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    for name in inspect.signature(StiffnessCallback.__init__).parameters.keys() - {"self"}:
        assert f"--trainer.callbacks.{name}" in printed, name
    assert "examples of each split to measure on" in printed
    assert issubclass(StiffnessCallback, pl.Callback)


def test_tensorboard_is_given_the_pixels_that_add_image_would_give_it(tmp_path):
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (37, 53, 3), np.uint8)
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    log_picture([logger], "ours", picture, step=7)
    logger.experiment.add_image("theirs", picture, 7, dataformats="HWC")
    logger.experiment.flush()
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    found.Reload()
    ours, theirs = (found.Images(tag)[0] for tag in ("ours", "theirs"))
    assert (ours.step, ours.width, ours.height) == (theirs.step, theirs.width, theirs.height) == (7, 53, 37)
    for image in (ours, theirs):
        opened = Image.open(io.BytesIO(image.encoded_image_string))
        opened.load()  # checks the sums too
        np.testing.assert_array_equal(np.asarray(opened), picture)


def test_another_writer_is_given_the_array():
    class Writer:
        def __init__(self) -> None:
            self.taken: list[tuple[str, int, str]] = []

        def add_image(self, tag, picture, step, dataformats):
            assert picture.shape == (2, 3, 3)
            self.taken.append((tag, step, dataformats))

    writer = Writer()
    log_picture([SimpleNamespace(experiment=writer)], "tag", np.zeros((2, 3, 3), np.uint8), step=3)
    assert writer.taken == [("tag", 3, "HWC")]


class Shared(Logger):
    """All runs of this logger have one folder, as with a tracking server."""

    def __init__(
        self,
        folder,
        version,
    ) -> None:
        super().__init__()
        self._folder, self._version = folder, version

    name = property(lambda self: "project")
    version = property(lambda self: self._version)
    save_dir = property(lambda self: self._folder)

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *_, **__):
        pass


@pytest.mark.parametrize("folder", ["given", None])
def test_runs_that_share_a_folder_keep_their_results_apart(tmp_path, folder):
    where = tmp_path if folder is None else tmp_path / folder
    for version in ("a1", 7):
        logger = Shared(folder and str(where), version)
        fit(
            callbacks=[StiffnessCallback(probe_size=8)], logger=logger, max_epochs=1, default_root_dir=str(tmp_path)
        )
    for version in ("a1", "version_7"):
        files = sorted(path.name for path in (where / "project" / version / "stiffness").iterdir())
        assert files == ["step_00000000.npz", "step_00000005.npz"]


def test_nothing_is_drawn_in_a_fast_dev_run(monkeypatch):
    monkeypatch.setattr("lightning_stiffness.runlog.draw_picture", lambda *_: pytest.fail("a picture was drawn"))
    callback = StiffnessCallback(probe_size=8, on_error="raise")
    fit(callbacks=[callback], fast_dev_run=True)
    assert callback.history
