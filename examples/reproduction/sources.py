"""Where the runs' data comes from: a folder of the data sets, else what the examples would take by themselves."""

import os
import zlib
from functools import lru_cache
from pathlib import Path

from _cifar import load_cifar
from _data import EMBEDDED, load_fashion_mnist, load_mnist
from _images import KEYS, Images

FOLDER = Path(os.environ.get("STIFFNESS_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Holds ``mnist/mnist.npz`` and so on."""
LOADERS = {
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar,
    "cifar100": lambda data: load_cifar(data, 100),
}
TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


@lru_cache(maxsize=4)
def load(name: str, folder: str | None) -> tuple[Images, str, str]:
    """One data set.

    Args:
        name: ``mnist``, ``fashion_mnist``, ``cifar10`` or ``cifar100``.
        folder: holds ``NAME/NAME.npz``; or ``"embedded"``; None: :data:`FOLDER` where it has that file.

    Returns:
        The images, a checksum of them, and what they are in words, without a path.

    Raises:
        ValueError: if the file is missing or not what it should be.
    """
    path = Path(FOLDER if folder in (None, EMBEDDED) else folder) / name / f"{name}.npz"
    if folder == EMBEDDED:
        images = LOADERS[name](EMBEDDED)
    elif path.is_file():
        images = LOADERS[name](str(path))
    elif folder is not None:
        raise ValueError(f"expected the folder {folder} to hold {name}/{name}.npz, which is missing")
    else:
        images = LOADERS[name](None)
    own = 0
    for key in KEYS:
        own = zlib.crc32(getattr(images, key).tobytes(), own)
    train, test = images.sizes
    source = images.source.split(" (")[0] if "the example" in images.source else f"part of {TITLES[name]}"
    if train >= 50_000:
        source = f"all of {TITLES[name]}"
    return images, f"{own:08x}", f"{source}: {train:,} training and {test:,} test images"


def groups_of(folder: str | None) -> tuple[list[list[int]], list[list[str]]]:
    """The groups of CIFAR-100's classes, level by level, and their names."""
    images = load("cifar100", folder)[0]
    return images.superclasses, images.superclass_names
