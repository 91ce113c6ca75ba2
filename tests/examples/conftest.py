"""Made-up image data, its files, and the examples' own modules."""

import gzip
import importlib
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
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
