"""IDX files, the form in which MNIST and Fashion-MNIST are distributed."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from _images import Array, Kind

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def read_idx_folder(folder: Path, kind: Kind) -> dict[str, Array]:
    """The arrays of the four IDX files, plain or ``.gz``, in the folder or where torchvision puts them in it.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    places = [folder, *(folder / name / "raw" for name in ("MNIST", "FashionMNIST")), folder / "raw"]
    found = [{key: _idx_file(place, name) for key, name in IDX_FILES.items()} for place in places]
    files = max(found, key=lambda candidate: sum(path is not None for path in candidate.values()))
    missing = [IDX_FILES[key] for key, path in files.items() if path is None]
    if missing:
        archives = [path.name for path in sorted(folder.glob("*.npz"))]
        hint = f"; for the arrays in it pass --data {folder / archives[0]}" if archives else ""
        raise ValueError(
            f"expected {kind.name}'s four IDX files in {folder}, each plain or .gz, but {', '.join(missing)} is "
            f"missing{hint}"
        )
    return {key: read_idx(path) for key, path in files.items() if path}


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
