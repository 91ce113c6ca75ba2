"""examples/mnist.py from a shell: what it prints, logs and leaves behind, and what it refuses."""

import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from .conftest import (
    BLOCKS,
    FIGURES,
    ROOT,
    Arrays,
    assert_pictures,
    events,
    run_example,
    run_to_logs,
    write_idx,
)

# Lightning puts what it logs at the end of an epoch on the epoch's last batch: here two epochs of seven.
STEPS = [0, 6, 13]
# Where torchvision is installed, no --data means: try to download.
DEFAULT = () if importlib.util.find_spec("torchvision") is None else ("--data", "embedded")


def run_mnist(folder: Path, *options: str, epochs: int = 1) -> tuple[str, Path]:
    """Run the example in ``folder``; what it printed, and the folder of its logs."""
    return run_to_logs("mnist.py", folder, "--max_epochs", str(epochs), *options)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Two epochs of seven batches of 32 on the digits that come with the example."""
    folder = tmp_path_factory.mktemp("default")
    printed, logs = run_mnist(folder, *DEFAULT, "--limit", "200", "--probe_size", "40", epochs=2)
    return printed, logs, folder


def test_it_says_which_data_it_used(default_run: tuple[str, Path, Path]) -> None:
    assert re.search(
        r"^Data: the MNIST digits that come with the example \(.+\): 200 training and 200 test images\.$",
        default_run[0],
        re.MULTILINE,
    )


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("measure", ["cos", "sign"])
def test_scalars_before_training_and_after_each_epoch(
    default_run: tuple[str, Path, Path], block: str, measure: str
) -> None:
    logged = events(default_run[1])
    for name in ("within_class", "between_class", "overall", "critical_length"):
        points = logged.Scalars(f"stiffness/{block}/{measure}/{name}")
        assert [point.step for point in points] == STEPS
        if name != "critical_length":
            assert all(-1 <= point.value <= 1 for point in points)
            assert len({point.value for point in points}) > 1 or measure == "sign"


def test_images_before_training_and_after_each_epoch(default_run: tuple[str, Path, Path]) -> None:
    logged = events(default_run[1])
    for kind in ("class_matrix", "distance_curve"):
        assert [image.step for image in logged.Images(f"stiffness/train-val/cos/{kind}")] == STEPS


def test_the_table_holds_the_numbers_logged(default_run: tuple[str, Path, Path]) -> None:
    printed, logs, _ = default_run
    assert "Stiffness, epoch 0 (step 0) → epoch 2 (step 14)" in printed
    logged = events(logs)
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            row = re.search(
                rf"^{block} +{measure} +(\S+) → (\S+) +(\S+) → (\S+) +\S+ → \S+$", printed, re.MULTILINE
            )
            assert row, printed
            for first, last, name in ((row[1], row[2], "within_class"), (row[3], row[4], "between_class")):
                points = logged.Scalars(f"stiffness/{block}/{measure}/{name}")
                assert float(first) == pytest.approx(points[0].value, abs=6e-5)
                assert float(last) == pytest.approx(points[-1].value, abs=6e-5)


def test_loss_and_accuracy_are_printed_and_logged(default_run: tuple[str, Path, Path]) -> None:
    printed, logs, _ = default_run
    logged = events(logs)
    assert [point.step for point in logged.Scalars("loss/val")] == STEPS[1:]  # beside the stiffness
    for part in ("train", "val"):
        row = re.search(rf"^{part} +(\d+\.\d+) +(\d+\.\d+)$", printed, re.MULTILINE)
        assert row, printed
        assert float(row[1]) == pytest.approx(logged.Scalars(f"loss/{part}")[-1].value, abs=6e-5)
        assert float(row[2]) == pytest.approx(logged.Scalars(f"accuracy/{part}")[-1].value, abs=6e-5)


def test_figures_are_left_beside_the_logs(default_run: tuple[str, Path, Path]) -> None:
    printed, logs, folder = default_run
    assert_pictures(printed, folder, *FIGURES)
    assert all((logs / name).exists() for name in FIGURES)


def test_the_tensorboard_line_names_the_logs(default_run: tuple[str, Path, Path]) -> None:
    printed, logs, folder = default_run
    line = re.search(r"^To see it all: (\S*tensorboard) --logdir (\S+)$", printed, re.MULTILINE)
    assert line, printed
    assert (folder / line[2]).resolve() in logs.resolve().parents


def test_cnn_on_an_npz_file(arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", **arrays)
    printed, logs = run_mnist(
        tmp_path, "--data", "noise.npz", "--model", "cnn", "--probe_size", "20", "--log_dir", "some where"
    )
    assert "Data: noise.npz: 60 training and 40 test images." in printed
    assert logs.parent.name == "mnist-cnn"
    assert "--logdir 'some where'" in printed
    points = events(logs).Scalars("stiffness/train-val/sign/between_class")
    assert [point.step for point in points] == [0, 1]


def test_idx_files_plain_and_gzipped_give_the_same_run(arrays: Arrays, tmp_path: Path) -> None:
    """The same data, options and seed: the same numbers to the last digit printed."""
    tables = []
    for gz in (False, True):
        write_idx(tmp_path / str(gz) / "digits", arrays, gz=gz)
        printed, _ = run_mnist(tmp_path / str(gz), "--data", "digits", "--model", "cnn", "--probe_size", "20")
        assert "Data: digits (IDX files): 60 training and 40 test images." in printed
        tables.append(re.findall(r"^(?:train|val).*$", printed, re.MULTILINE))
    assert len(tables[0]) == 8  # six of stiffness, two of loss and accuracy
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere.npz"], "expected nowhere.npz to be an .npz file or a folder of MNIST's IDX files"),
        (["--data", "."], "but train-images-idx3-ubyte, train-labels-idx1-ubyte"),
        (["--data", "wrong.npz"], "y_train, x_test, y_test is missing; it holds x_train"),
        (["--data", "noise.npz", "--probe_size", "41"], "expected --probe_size from 2 to 40, the number of images"),
        (["--data", "noise.npz", "--probe_size", "1"], "expected --probe_size from 2 to 40, the number of images"),
        (["--data", "noise.npz", "--log_dir", "noise.npz"], "expected --log_dir to be a folder that can be made"),
        (["--lr", "-1"], "expected a number above 0, got '-1'"),
        (["--lr", "fast"], "expected a number above 0, got 'fast'"),
        (["--max_epochs", "0"], "expected a whole number from 1, got '0'"),
        (["--limit", "1.5"], "expected a whole number from 1, got '1.5'"),
        (["--model", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_wrong_options_are_refused_before_training(
    arrays: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    np.savez(tmp_path / "noise.npz", **arrays)
    np.savez(tmp_path / "wrong.npz", x_train=arrays["x_train"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    module = importlib.import_module("_options")
    load = importlib.import_module("_data").load_mnist
    monkeypatch.setattr("sys.argv", ["mnist.py", *options])
    if options == ["--data", "."]:
        (tmp_path / "noise.npz").unlink()
    with pytest.raises(SystemExit) as stopped:
        module.read_options(module.example_parser("", ["fc", "cnn"], data=""), lambda options: load(options.data))
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_wrong_path_is_one_line_not_a_traceback(tmp_path: Path) -> None:
    done = run_example("mnist.py", "--data", "nowhere.npz", cwd=tmp_path)
    assert done.returncode == 2
    assert "mnist.py: error: expected nowhere.npz to be" in done.stderr
    assert "Traceback" not in done.stderr
