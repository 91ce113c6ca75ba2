"""Labelled images for the examples: from an .npz file, from IDX files, downloaded, or the digits kept here."""

import gzip
import socket
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

DIGITS = Path(__file__).parent / "data" / "mnist_digits.npz"
EMBEDDED = "embedded"
"""What to pass as ``--data`` for the digits kept here, whatever else is at hand."""
KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
CLASSES = 10

Array = NDArray[Any]


@dataclass(frozen=True)
class Images:
    """Grey images ``[n, 28, 28]``, uint8, with labels ``[n]`` from 0 to 9, in a training and a test part."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    source: str
    """Where they come from, in words."""

    def limited(self, limit: int | None) -> "Images":
        """The first ``limit`` training and the first ``limit`` test images."""
        return replace(self, **{key: getattr(self, key)[:limit] for key in KEYS})

    def datasets(self) -> tuple[TensorDataset, TensorDataset]:
        """Training and test part as (image ``[1, 28, 28]`` float in [0, 1], label) pairs."""
        return _dataset(self.x_train, self.y_train), _dataset(self.x_test, self.y_test)


def load_mnist(data: str | None) -> Images:
    """MNIST from ``data``; where that is None, downloaded if possible, else the digits kept here.

    Args:
        data: an ``.npz`` file, a folder of IDX files, or ``"embedded"``.

    Raises:
        ValueError: if ``data`` is not what it should be; the message says what was expected.
    """
    if data == EMBEDDED:
        return _embedded("asked for")
    if data is not None:
        path = Path(data).expanduser()
        if path.is_dir():
            return read_idx_folder(path)
        if path.is_file():
            return read_npz(path)
        raise ValueError(
            f"expected {data} to be an .npz file or a folder of MNIST's IDX files, but there is nothing at "
            f"{path.absolute()}; without --data the example brings its own digits"
        )
    try:
        return _download()
    except ImportError:
        return _embedded("torchvision is not installed")
    except (RuntimeError, OSError) as error:
        return _embedded(f"torchvision could not give it: {' '.join(str(error).split())[:200]}")


def read_npz(path: Path) -> Images:
    """Images from an ``.npz`` file with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            names = archive.files
            arrays = {key: archive[key] for key in KEYS if key in names}
    except (AttributeError, EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"expected {path} to be an .npz file of plain arrays, which it is not: {error}") from error
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"expected the arrays {', '.join(KEYS)} in {path}, but {', '.join(missing)} is missing; "
            f"it holds {', '.join(names) or 'nothing'}"
        )
    return _checked(arrays, path, str(path))


def read_idx_folder(folder: Path) -> Images:
    """Images from MNIST's four IDX files, plain or ``.gz``, in the folder or its ``MNIST/raw`` or ``raw``."""
    places = [folder, folder / "MNIST" / "raw", folder / "raw"]
    found = [{key: _idx_file(place, name) for key, name in IDX_FILES.items()} for place in places]
    files = max(found, key=lambda candidate: sum(path is not None for path in candidate.values()))
    missing = [IDX_FILES[key] for key, path in files.items() if path is None]
    if missing:
        archives = [path.name for path in sorted(folder.glob("*.npz"))]
        hint = f"; for the arrays in it pass --data {folder / archives[0]}" if archives else ""
        raise ValueError(
            f"expected MNIST's four IDX files in {folder}, each plain or .gz, but {', '.join(missing)} is missing"
            + hint
        )
    return _checked({key: read_idx(path) for key, path in files.items() if path}, folder, f"{folder} (IDX files)")


def read_idx(path: Path) -> Array:
    """One IDX file of unsigned bytes, plain or gzipped.

    Two zero bytes, the type (8: unsigned byte), the number of axes, each axis's length as a big-endian
    32-bit integer, then the values in row-major order.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}; fetch it again") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"expected an IDX file of unsigned bytes, which starts with 00 00 08, but {path} starts with "
            f"{content[:4].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").tolist() if len(content) >= start else []
    size = int(np.prod(shape, dtype=np.int64))
    if len(shape) != content[3] or len(content) != start + size:
        raise ValueError(
            f"{path} is damaged: its header announces values of shape {shape}, {start + size} bytes in all, but it "
            f"has {len(content)}; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def _idx_file(folder: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")  # some copies are called train-images.idx3-ubyte
    names = (name, dotted, f"{name}.gz", f"{dotted}.gz")
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def _checked(arrays: dict[str, Array], path: Path, source: str) -> Images:
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
            raise ValueError(
                f"expected x_{part} in {path} to be uint8 (pixels 0 to 255) of shape [n, 28, 28], got "
                f"{images.dtype} of shape {list(images.shape)}"
            )
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"expected y_{part} in {path} to be integers of shape [n], got {labels.dtype} of shape "
                f"{list(labels.shape)}"
            )
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"expected as many labels as images in {path}, at least one, got {len(images)} images in x_{part} "
                f"and {len(labels)} labels in y_{part}"
            )
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise ValueError(
                f"expected labels from 0 to {CLASSES - 1} in {path}, but y_{part} runs from {labels.min()} to "
                f"{labels.max()}"
            )
    return Images(**arrays, source=source)


def _embedded(why: str) -> Images:
    return replace(read_npz(DIGITS), source=f"the MNIST digits that come with the example ({why})")


def _download() -> Images:
    from torchvision.datasets import MNIST  # only here: an optional package, and slow to import

    root = Path(torch.hub.get_dir()).parent / "datasets"
    print(f"Looking for MNIST in {root}, else downloading it with torchvision …", flush=True)
    with _short_timeout():
        train, test = (MNIST(root, train=train, download=True) for train in (True, False))
    arrays = [train.data.numpy(), train.targets.numpy(), test.data.numpy(), test.targets.numpy()]
    return _checked(dict(zip(KEYS, arrays, strict=True)), root, f"MNIST, as torchvision has it in {root}")


@contextmanager
def _short_timeout(seconds: float = 10) -> Iterator[None]:
    """Give up on a network that does not answer, rather than wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _dataset(images: Array, labels: Array) -> TensorDataset:
    pixels = torch.from_numpy(images).unsqueeze(1).float() / 255
    return TensorDataset(pixels, torch.from_numpy(labels.astype(np.int64)))
