"""Plain arrays from an ``.npz`` file, with errors that say what is wrong with it."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _images import Array


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
    """Arrays from an ``.npz`` file.

    Args:
        path: the file.
        needed: names of arrays that it has to hold.
        optional: names of arrays that are read where it holds them.

    Raises:
        ValueError: if it is no such file, or an array is missing; the message lists those it holds.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            names = archive.files
            arrays = {key: archive[key] for key in (*needed, *optional) if key in names}
    except (AttributeError, EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"expected {path} to be an .npz file of plain arrays, which it is not: {error}") from error
    missing = [key for key in needed if key not in arrays]
    if missing:
        raise ValueError(
            f"expected the arrays {', '.join(needed)} in {path}, but {', '.join(missing)} is missing; "
            f"it holds {', '.join(names) or 'nothing'}"
        )
    return arrays
