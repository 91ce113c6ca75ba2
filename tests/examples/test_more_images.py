"""The other examples on images, from a shell: what they print, log and leave behind."""

import importlib
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_stiffness import StiffnessHistory, StiffnessResult

from .conftest import (
    EXAMPLES,
    FIGURES,
    InProcess,
    assert_pictures,
    assert_stiffness_logged,
    data_or_default,
)

SHORT = ("--max_epochs", "1", "--limit", "120", "--probe_size", "40")


def measured(logs: Path) -> list[StiffnessResult]:
    """What was saved, in the order of the steps."""
    return [StiffnessResult.load(path) for path in sorted((logs / "stiffness").glob("step_*.npz"))]


def test_fashion_mnist(example: InProcess, tmp_path: Path) -> None:
    printed, logs = example("fashion_mnist.py", "--model", "cnn", *data_or_default("fashion_mnist"), *SHORT)
    assert re.search(r"^Data: .*[Ff]ashion.*: 120 training and 120 test images\.$", printed, re.MULTILINE)
    assert logs.parent.name == "fashion-mnist-cnn"
    assert_stiffness_logged(logs, 2)
    assert_pictures(printed, tmp_path, *FIGURES)
    assert "trouser" in [name.lower() for name in measured(logs)[-1].class_names or []]


def test_cifar10_resnet20(example: InProcess, tmp_path: Path) -> None:
    printed, logs = example(
        *("cifar.py", "--model", "resnet20", *data_or_default("cifar10")),
        *("--max_epochs", "1", "--limit", "40", "--probe_size", "20"),
    )
    assert logs.parent.name == "cifar10-resnet20"
    assert "groups" not in printed
    assert_stiffness_logged(logs, 2)
    assert_pictures(printed, tmp_path, *FIGURES)


def test_cifar100_has_two_levels_of_groups(example: InProcess, tmp_path: Path) -> None:
    options = ("--max_epochs", "1", "--limit", "200", "--probe_size", "200")
    printed, logs = example("cifar.py", "--classes", "100", *data_or_default("cifar100"), *options)
    names = [f"{kind}_superclass{level}" for kind in ("within", "between") for level in ("", "_2")]
    assert_stiffness_logged(logs, 2, *names)
    assert_pictures(printed, tmp_path, *FIGURES)
    last = measured(logs)[-1]
    assert [len(set(groups)) for groups in last.superclass_levels] == [20, 2]
    assert [len(names) for names in last.superclass_names] == [20, 2]
    told = re.findall(
        r"^train-val (cos|sign), classes in (\d+) groups: within one (\S+) → (\S+), .*p = (\S+) at the end$",
        printed,
        re.MULTILINE,
    )
    assert [(measure, groups) for measure, groups, *_ in told] == [
        ("cos", "20"), ("sign", "20"), ("cos", "2"), ("sign", "2")
    ]  # fmt: skip
    for measure, groups, _, end, p_value in told:
        name = "within_superclass" + ("" if groups == "20" else "_2")
        assert float(end) == pytest.approx(last.summary["train-val"][measure][name], abs=6e-5)
        assert 0 < float(p_value) <= 1


def test_without_lightning(example: InProcess, tmp_path: Path) -> None:
    printed, logs = example("plain_pytorch.py", "--data", "embedded", "--max_epochs", "2", *SHORT[2:])
    assert [result.epoch for result in measured(logs)] == [0, 1, 2]
    assert len(StiffnessHistory.load(logs)) == 3  # where the tab in TensorBoard finds them
    assert_pictures(printed, tmp_path, *FIGURES)
    for epoch, result in enumerate(measured(logs)):
        line = re.search(rf"^epoch {epoch}: .*within a class (\S+), between (\S+)$", printed, re.MULTILINE)
        assert line, printed
        numbers = result.summary["train-val"]["cos"]
        assert float(line[1]) == pytest.approx(numbers["within_class"], abs=6e-4)
        assert float(line[2]) == pytest.approx(numbers["between_class"], abs=6e-4)
    helped, hurt = (
        [float(value) for value in re.findall(r"\(([+-]\d\.\d\d)\)", line)]
        for line in re.findall(r"^  (?:helped|hurt) most .*$", printed, re.MULTILINE)
    )
    assert len(helped) == len(hurt) == 4
    assert 1 >= helped[0] >= helped[3] >= hurt[3] >= hurt[0] >= -1


def test_plain_pytorch_loads_no_lightning(tmp_path: Path) -> None:
    """Its report and networks are those of the other examples, which do."""
    code = (
        f"import sys; sys.path.insert(0, {json.dumps(str(EXAMPLES))}); import plain_pytorch; "
        "assert not {'pytorch_lightning', 'lightning', 'torchmetrics'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_learning_rates_share_a_folder_and_a_figure(example: InProcess, tmp_path: Path) -> None:
    printed, folder = example(*("learning_rates.py", "--data", "embedded", "--lr", "3e-3", "1e-3", *SHORT))
    assert_pictures(printed, tmp_path, "learning_rates.png")
    runs = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [run.name for run in runs] == ["lr_0.001", "lr_0.003"]
    first, second = (measured(run) for run in runs)
    for run, results in zip(runs, (first, second), strict=True):
        assert_stiffness_logged(run, 2)
        last = results[-1].summary["train-val"]["cos"]["within_class"]
        row = re.search(rf"^ +{run.name[3:]} +(\S+) \[", printed, re.MULTILINE)
        assert row, printed
        assert float(row[1]) == pytest.approx(last, rel=1e-3)
    # The same start, another end.
    start, end = ([results[at].class_matrix["val-val"]["cos"] for results in (first, second)] for at in (0, -1))
    np.testing.assert_array_equal(*start)
    assert not np.allclose(*end)


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("fashion_mnist.py", ["--data", "nowhere"], "a folder of Fashion-MNIST's IDX files, but there is nothing"),
        (
            "cifar.py",
            ["--data", "nowhere"],
            "the folder or .tar.gz of CIFAR-10's Python batches, but there is noth",
        ),
        ("cifar.py", ["--data", "."], "CIFAR-10's Python batches in ., but data_batch_1, data_batch_2"),
        ("learning_rates.py", ["--lr", "1e-3", "0"], "expected a number above 0, got '0'"),
        ("learning_rates.py", ["--model", "resnet20"], "expected --model fc or cnn for mnist, got resnet20"),
    ],
)
def test_wrong_options_are_one_line(
    example: InProcess, tmp_path: Path, script: str, options: list[str], message: str
) -> None:
    assert message in example.refused(script, *options)
    assert not list(tmp_path.glob("runs/*"))


def test_advice_that_nobody_asked_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning logs it under one name or another, depending on which of its packages was imported last."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    importlib.import_module("_options")._quieten()
    names = [name for name in logging.root.manager.loggerDict if name.endswith(".utilities.rank_zero")]
    assert "pytorch_lightning.utilities.rank_zero" in names
    for name in names:
        logger = logging.getLogger(name)
        advice, fact = (
            logging.LogRecord(name, logging.INFO, "", 0, text, None, None) for text in ("💡 Tip: buy", "fitted")
        )
        assert not logger.filter(advice), name
        assert logger.filter(fact), name
