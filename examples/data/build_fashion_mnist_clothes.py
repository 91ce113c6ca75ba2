"""Build fashion_mnist_clothes.npz, the images of clothes that the examples fall back on.

    python examples/data/build_fashion_mnist_clothes.py FOLDER

FOLDER holds Fashion-MNIST's four IDX files, plain or .gz, as Debian's package ``dataset-fashion-mnist`` puts them
in ``/usr/share/datasets/fashion-mnist``. The same files give the same arrays.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from _data import CLOTHES_NAMES
from _idx import read_idx_folder
from _images import FASHION_MNIST, checked_images

TRAIN_PER_CLASS = 250
TEST_PER_CLASS = 50
OUTPUT = Path(__file__).with_name("fashion_mnist_clothes.npz")


def first_of_each(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first ``count`` images of each class, in the order 0, 1, …, 9, 0, 1, …: any first part is balanced.

    Raises:
        ValueError: if a class has fewer.
    """
    places = [np.flatnonzero(labels == label)[:count] for label in range(FASHION_MNIST.classes)]
    short = [str(label) for label, own in enumerate(places) if len(own) < count]
    if short:
        raise ValueError(f"expected at least {count} images of each class, there are fewer of {', '.join(short)}")
    order = np.stack(places, axis=1).ravel()
    return images[order], labels[order]


def main() -> None:
    """Read the four files and write the one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the IDX files")
    folder = parser.parse_args().folder
    try:
        whole = checked_images(read_idx_folder(folder, FASHION_MNIST), FASHION_MNIST, folder, str(folder))
        x_train, y_train = first_of_each(whole.x_train, whole.y_train, TRAIN_PER_CLASS)
        x_test, y_test = first_of_each(whole.x_test, whole.y_test, TEST_PER_CLASS)
    except ValueError as error:
        parser.error(str(error))
    names = np.array(CLOTHES_NAMES)
    np.savez_compressed(OUTPUT, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=names)
    print(f"{OUTPUT}: {len(x_train)} training and {len(x_test)} test images, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
