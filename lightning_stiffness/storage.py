"""Arrays and plain values in one ``.npz`` file: no pickle, whole or not at all."""

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def write_file(path: str | Path, arrays: dict[str, Array], meta: dict[str, Any]) -> Path:
    """Write named arrays and JSON values to one file; its folder is made where it is missing.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_file(Path(folder) / "deep" / "a.npz", {"x": np.zeros(2)}, {"step": 3})
        ...     read_file(path)
        ({'x': array([0., 0.])}, {'step': 3})
    """
    held: dict[str, Any] = {"meta": np.array(json.dumps(meta)), **arrays}
    with whole_file(path) as stream:
        np.savez_compressed(stream, **held)
    return Path(path)


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write, which comes to its place whole or not at all; its folder is made where it is missing.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder) / "deep" / "a.txt") as stream:
        ...         _ = stream.write(b"all of it")
        ...     (Path(folder) / "deep" / "a.txt").read_text()
        'all of it'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there: a run killed meanwhile leaves no half file.
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read_file(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and values that :func:`write_file` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: if the file is damaged or another
            program's.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, dict(json.loads(str(arrays.pop("meta")[()])))


DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged or foreign file can raise."""
