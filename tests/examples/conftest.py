"""Made-up image data, its files, and the examples' own modules."""

import gzip
import importlib
import os
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REAL = Path(os.environ.get("STIFFNESS_DATA", ROOT.parent / "shared" / "data"))
"""Where real data sets lie, where they are at hand."""
BLOCKS = ("train-train", "train-val", "val-val")
FIGURES = ("class_matrix_train-val_cos.png", "distance_curve_train-val_cos.png")
Arrays = dict[str, NDArray[np.uint8]]


@pytest.fixture
def data_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The examples' readers, imported as the examples import them."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_data")


@pytest.fixture(scope="session")
def arrays() -> Arrays:
    """Noise with a bright column per class, so that there is something to learn: 60 training, 40 test images."""
    generator = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 60), ("test", 40)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = generator.integers(0, 100, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label : 2 * label + 3] = 255
        made[f"x_{part}"], made[f"y_{part}"] = images, labels
    return made


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The IDX format, written out from its description."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, arrays: Arrays, *, gz: bool) -> Path:
    """MNIST's four files in ``folder``."""
    folder.mkdir(parents=True)
    for key, name in {
        "x_train": "train-images-idx3-ubyte",
        "y_train": "train-labels-idx1-ubyte",
        "x_test": "t10k-images-idx3-ubyte",
        "y_test": "t10k-labels-idx1-ubyte",
    }.items():
        content = idx_bytes(arrays[key])
        (folder / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(content) if gz else content)
    return folder


def run_example(script: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an example as a person would, from ``cwd``."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), "--accelerator", "cpu", *options],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_to_logs(script: str, folder: Path, *options: str) -> tuple[str, Path]:
    """Run an example in ``folder``; what it printed, and the folder of its logs."""
    done = run_example(script, *options, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder / logs_in(done.stdout)


def logs_in(printed: str) -> str:
    """The folder of its logs, as an example prints it."""
    logs = re.search(r"^Logs: +(.+)$", printed, re.MULTILINE)
    assert logs, printed
    return logs[1]


class InProcess:
    """Runs examples as a person would, but in the process of the tests: nothing has to be imported anew."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(EXAMPLES))

    def __call__(self, script: str, *options: str) -> tuple[str, Path]:
        """Run an example; what it printed, and the folder of its logs."""
        self.start(script, *options)
        printed = self.capsys.readouterr().out
        return printed, self.folder / logs_in(printed)

    def refused(self, script: str, *options: str) -> str:
        """Run an example with options that it refuses; what it says, in one line."""
        with pytest.raises(SystemExit) as stopped:
            self.start(script, *options)
        assert stopped.value.code == 2
        return " ".join(self.capsys.readouterr().err.split())

    def start(self, script: str, *options: str) -> None:
        """Run it to its end, whatever that is."""
        threads = torch.get_num_threads()
        self.monkeypatch.setattr("sys.argv", [script, "--accelerator", "cpu", *options])
        try:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        finally:
            torch.set_num_threads(threads)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Runs examples in ``tmp_path``."""
    return InProcess(tmp_path, monkeypatch, capsys)


def events(logs: Path) -> EventAccumulator:
    """All that TensorBoard finds in the logs."""
    return EventAccumulator(str(logs), size_guidance={"scalars": 0, "images": 0}).Reload()


def assert_stiffness_logged(logs: Path, moments: int, *more: str) -> None:
    """Every number of every block and measure is there, at every moment, and in its range.

    Args:
        logs: of one run.
        moments: how often it was measured.
        more: further names, such as ``within_superclass``.
    """
    logged = events(logs)
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            for name in ("within_class", "between_class", "overall", *more):
                values = [point.value for point in logged.Scalars(f"stiffness/{block}/{measure}/{name}")]
                assert len(values) == moments
                assert all(-1 <= value <= 1 for value in values)
            assert len(logged.Scalars(f"stiffness/{block}/{measure}/critical_length")) == moments
    for part in ("train", "val"):
        assert all(0 < point.value < 20 for point in logged.Scalars(f"loss/{part}"))
        assert all(0 <= point.value <= 1 for point in logged.Scalars(f"accuracy/{part}"))


def assert_pictures(printed: str, folder: Path, *names: str) -> None:
    """The PNGs that an example names are there, and show something."""
    paths = [folder / line for line in re.findall(r"^(?:Figures:)? +(\S+\.png)$", printed, re.MULTILINE)]
    assert [path.name for path in paths] == list(names)
    for path in paths:
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 400
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def data_or_default(name: str) -> tuple[str, ...]:
    """Options for the real data where it is at hand, else for what comes with the example."""
    path = REAL / name / f"{name}.npz"
    return ("--data", str(path) if path.exists() else "embedded")
