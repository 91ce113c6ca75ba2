"""``lightning-stiffness measure``: mistakes in its options are told by name; what no file says is not told."""

import json
import re
from pathlib import Path

import pytest
import torch

from lightning_stiffness import StiffnessHistory
from tests.cli import networks

NAMES = "tests.cli.networks"


@pytest.fixture
def weights(tmp_path):
    """Weights by themselves, of a plain network and of a LightningModule."""
    torch.save(networks.Plain(6).state_dict(), tmp_path / "w.pt")
    torch.save(networks.Net(6).state_dict(), tmp_path / "net.pt")
    return tmp_path


def plain(*more):
    return (
        *("measure", "--module", f"{NAMES}:Plain", "--hparams", "{width: 6}", "--ckpt", "w.pt"),
        *("--loss", f"{NAMES}:loss", "--data", f"{NAMES}:both", "--resamples", 0, *more),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--probe-size", 1), "expected probe_size of at least 2, to have a pair to compare, got 1"),
        (("--probe-size", 1), "probe_size= --probe-size"),
        (("--splits", "train", "train"), "expected --splits to be one or more of ['train', 'val'], each once"),
        (("--loss", "torch.nn.functional:cross_entropy"), "got the function cross_entropy, which takes outputs"),
        (("--loss", "torch.nn:CrossEntropyLoss"), "got the class CrossEntropyLoss, which takes outputs"),
        (("--loss", f"{NAMES}:make_plain"), "called as loss_fn(module, batch), got the function make_plain, w"),
        (("--labels", f"{NAMES}:make_plain"), "called as label_fn(batch), got the function make_plain, which"),
        (("--inputs", f"{NAMES}:NAMES"), "it has no NAMES"),
        (("--inputs", "os:sep"), "expected input_fn to be a function of a batch that returns tensors"),
        (("--bins", 0), "expected bins of at least 1, got 0"),
        (("--superclasses", "[a, b]"), "expected superclasses to be a list of integers"),
        (("--hparams", "{widht: 6}"), "Plain cannot be made: --hparams has to hold arguments of it (width), got"),
        (("--hparams", "{widht: 6}"), "did you mean width?"),
    ],
    ids=lambda value: re.sub(r"\W+", " ", str(value))[:40],
)  # fmt: skip
@pytest.mark.usefixtures("weights")
def test_a_mistake_is_told_before_any_work(command, options, message):
    answer = command(*plain(*options))
    assert answer.code == 2
    assert message in answer.err
    assert "printed by the user's own code" not in answer.err
    assert not Path("measured").exists()


@pytest.mark.usefixtures("weights")
def test_a_misspelt_argument_of_a_lightning_module(command):
    one = ("measure", "--module", f"{NAMES}:Net", "--ckpt", "net.pt", "--data", f"{NAMES}:Data")
    answer = command(*one, "--hparams", "{widht: 3}")
    assert answer.code == 2
    assert (
        "Net cannot be made: --hparams has to hold arguments of it (width), got widht; did you mean wid"
        in answer.err
    )


def test_a_misspelt_argument_beside_those_of_a_checkpoint(command, tmp_path):
    networks.train(tmp_path)
    (file, *_) = sorted(tmp_path.glob("lightning_logs/version_0/checkpoints/*.ckpt"))
    one = ("measure", "--module", f"{NAMES}:Net", "--ckpt", file, "--data", f"{NAMES}:Data", "--resamples", 0)
    answer = command(*one, "--hparams", "{widht: 6}")
    assert (answer.code, answer.out) == (2, "")
    assert "got widht; did you mean width?" in answer.err
    shapes = command(*one, "--hparams", "{width: 3}")
    assert shapes.code == 2
    assert "are not those of Net" in shapes.err
    assert ".. " not in shapes.err
    # Further keywords are taken by a module that asks for them.
    (tmp_path / "free.py").write_text(
        f"from {NAMES} import Net\nclass Free(Net):\n"
        "    def __init__(self, width=8, **rest):\n        super().__init__(width)\n"
    )
    options = ("measure", "--module", "free:Free", "--ckpt", file, "--data", f"{NAMES}:Data", "--resamples", 0)
    assert command(*options, "--hparams", "{widht: 6}").code == 0


@pytest.mark.usefixtures("weights")
def test_an_epoch_that_nobody_knows_is_not_told(command):
    answer = command(*plain("--steps", 300))
    assert answer.code == 0
    assert "w.pt: step 300 (" in answer.err
    assert "epoch 0" not in answer.err + answer.out
    assert "step 300 (1 of 1)" in answer.out
    assert StiffnessHistory.load("measured")[0].step == 300
    told = json.loads(command("show", "measured", "--json").out)
    assert (told["step"], told["epoch"], told["epochs"]) == (300, None, [None])
    compared = command("compare", "measured")
    assert "step 300" in compared.out
    assert "epoch" not in compared.out
    again = json.loads(command(*plain("--steps", 300, "-o", "again", "--json")).out)
    assert again["results"][0]["epoch"] is None


@pytest.mark.usefixtures("weights")
def test_an_epoch_of_zero_that_the_file_tells_is_told(command):
    torch.save({"state_dict": torch.load("w.pt", weights_only=True), "step": 3, "epoch": 0}, "w.pt")
    answer = command(*plain())
    assert "w.pt: step 3, epoch 0 (" in answer.err
    assert "step 3, epoch 0 (1 of 1)" in answer.out


@pytest.mark.usefixtures("weights")
def test_the_splits_may_be_named_in_any_order(command):
    assert command(*plain("--splits", "val", "train")).code == 0
    assert StiffnessHistory.load("measured")[0].blocks == ["train-train", "train-val", "val-val"]
