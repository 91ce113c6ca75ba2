"""CIFAR's own files: Python batches, in a folder or a .tar.gz, unpickled without running anything they name."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from _images import CIFAR10, Array, Kind

TAR_ENDINGS = (".tar.gz", ".tgz", ".tar")
FILES = {
    "CIFAR-10": ([f"data_batch_{number}" for number in range(1, 6)], "test_batch", "batches.meta"),
    "CIFAR-100": (["train"], "test", "meta"),
}
"""Kind → the files of the training part, of the test part, and of the names."""
_LARGEST = 2**29
"""Bytes; the largest of the files has 155 million."""


def read_batches(path: Path, kind: Kind) -> dict[str, Array]:
    """The arrays of CIFAR's Python batches, by the names that the ``.npz`` files have.

    Args:
        path: the folder that holds them or holds ``cifar-10-batches-py`` or ``cifar-100-python``; or the archive.
        kind: CIFAR-10 or CIFAR-100.

    Raises:
        ValueError: if a file is missing, damaged, or holds something else than CIFAR's files do.
    """
    train, test, meta = FILES[kind.name]
    wanted = [*train, test, meta]
    contents = dict(_folder(path, wanted) if path.is_dir() else _archive(path, wanted))
    missing = [name for name in wanted if name not in contents]
    if missing:
        archives = [one.name for one in sorted(path.glob("*.npz"))] if path.is_dir() else []
        hint = f"; for the arrays in it pass --data {path / archives[0]}" if archives else ""
        raise ValueError(
            f"expected {kind.name}'s Python batches in {path}, but {', '.join(missing)} is missing{hint}"
        )
    loaded = {name: unpickle(content, path / name) for name, content in contents.items()}
    arrays: dict[str, Array] = {}
    with _damage(path):
        for part, names in (("train", train), ("test", [test])):
            rows = np.concatenate([np.asarray(loaded[name]["data"], np.uint8) for name in names])
            # Each row holds the red plane, the green one, the blue one.
            arrays[f"x_{part}"] = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()
            levels = {"": "labels"} if kind is CIFAR10 else {"": "fine_labels", "_coarse": "coarse_labels"}
            for level, key in levels.items():
                labels = [label for name in names for label in loaded[name][key]]
                arrays[f"y_{part}{level}"] = np.asarray(labels, np.int64)
        names_of = {"class_names": "label_names" if kind is CIFAR10 else "fine_label_names"}
        if kind is not CIFAR10:
            names_of["coarse_names"] = "coarse_label_names"
        arrays |= {ours: np.asarray([str(name) for name in loaded[meta][key]]) for ours, key in names_of.items()}
    return arrays


def unpickle(content: bytes, path: Path) -> dict[str, Any]:
    """What one of the files holds: a dictionary of lists, texts and arrays.

    A pickle can name any function to call. Only what rebuilds an array is let through; whatever else a file
    names is refused before it is imported.

    Raises:
        ValueError: if it is damaged, or names anything else.
    """
    with _damage(path):
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in found.items()}


class _Unpickler(pickle.Unpickler):
    """Knows arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "_reconstruct":
            return _reconstruct
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which CIFAR's files do not; nothing of it was run. Is it from a source "
            "that you trust?"
        )


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> Array:
    """The empty array that a pickle fills."""
    return np.ndarray.__new__(np.ndarray, shape, np.dtype(code if isinstance(code, str) else code.decode()))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a damaged file provokes, as one kind of error that names it."""
    try:
        yield
    except (
        *(pickle.UnpicklingError, EOFError, KeyError, IndexError, AttributeError, TypeError, ValueError),
        *(UnicodeError, OverflowError, MemoryError, tarfile.TarError, zlib.error, OSError),
    ) as error:
        raise ValueError(
            f"expected CIFAR's Python batches in {path}, which could not be read: {type(error).__name__}: {error}"
        ) from error


def _folder(path: Path, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    places = [path, *(path / name for name in ("cifar-10-batches-py", "cifar-100-python"))]
    held = max(places, key=lambda place: sum((place / name).is_file() for name in wanted))
    for name in wanted:
        if (held / name).is_file():
            yield name, (held / name).read_bytes()


def _archive(path: Path, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """Read in memory: nothing of the archive is written anywhere."""
    with _damage(path), tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            file = archive.extractfile(member) if member.isfile() and member.size < _LARGEST else None
            if name in wanted and file is not None:
                yield name, file.read()
