"""The data of the image examples: from a file or folder, downloaded, or what comes with the examples."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from _idx import read_idx_folder
from _images import FASHION_MNIST, KEYS, MNIST, Images, Kind, checked_images
from _npz import read_arrays

EMBEDDED = "embedded"
"""What to pass as ``--data`` for the data that comes with the examples, whatever else is at hand."""
ABOUT_GREY = f".npz file or folder of IDX files, or '{EMBEDDED}' for the images that come with the example"
HERE = Path(__file__).parent / "data"
DIGITS = HERE / "mnist_digits.npz"
CLOTHES = HERE / "fashion_mnist_clothes.npz"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the IDX files."""
CLOTHES_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load_mnist(data: str | None) -> Images:
    """MNIST from ``data``; where that is None, downloaded if possible, else the digits kept here.

    Args:
        data: an ``.npz`` file, a folder of IDX files, or ``"embedded"``.

    Raises:
        ValueError: if ``data`` is not what it should be; the message says what was expected.
    """
    return load_grey(data, MNIST, embedded_digits, "digits")


def load_fashion_mnist(data: str | None) -> Images:
    """Fashion-MNIST, as :func:`load_mnist`; also from where Debian's package puts it."""
    if data is None and DEBIAN_FASHION_MNIST.is_dir():
        data = str(DEBIAN_FASHION_MNIST)
    images = load_grey(data, FASHION_MNIST, embedded_clothes, "clothes")
    return replace(images, class_names=images.class_names or list(CLOTHES_NAMES))


def load_grey(data: str | None, kind: Kind, embedded: Callable[[str], Images], noun: str) -> Images:
    """Grey images from a file, a folder, a download or, for want of these, what ``embedded`` gives."""
    if data == EMBEDDED:
        return embedded("asked for")
    if data is not None:
        path = Path(data).expanduser()
        if path.is_dir():
            return checked_images(read_idx_folder(path, kind), kind, path, f"{path} (IDX files)")
        if path.is_file():
            return read_npz(path, kind)
        raise ValueError(
            f"expected {data} to be an .npz file or a folder of {kind.name}'s IDX files, but there is nothing at "
            f"{path.absolute()}; without --data the example brings its own {noun}"
        )
    return downloaded_or(embedded, lambda root: _download(root, kind), kind)


def read_npz(path: Path, kind: Kind) -> Images:
    """Images from an ``.npz`` file with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``."""
    arrays = read_arrays(path, KEYS, ["class_names"])
    return checked_images(arrays, kind, path, str(path), arrays.get("class_names"))


def embedded_digits(why: str) -> Images:
    """The digits kept here; ``why`` says why they are used."""
    return replace(read_npz(DIGITS, MNIST), source=f"the MNIST digits that come with the example ({why})")


def embedded_clothes(why: str) -> Images:
    """The clothes kept here; ``why`` says why they are used."""
    source = f"the Fashion-MNIST clothes that come with the example ({why})"
    return replace(read_npz(CLOTHES, FASHION_MNIST), source=source)


def downloaded_or(embedded: Callable[[str], Images], download: Callable[[Path], Images], kind: Kind) -> Images:
    """What ``download`` gives, else what ``embedded`` gives, told why."""
    root = Path(torch.hub.get_dir()).parent / "datasets"
    try:
        with _short_timeout():
            return download(root)
    except ImportError:
        return embedded("torchvision is not installed")
    except (RuntimeError, OSError) as error:
        return embedded(f"torchvision could not give {kind.name}: {' '.join(str(error).split())[:200]}")


def _download(root: Path, kind: Kind) -> Images:
    from torchvision import datasets  # only here: an optional package, and slow to import

    get = {MNIST: datasets.MNIST, FASHION_MNIST: datasets.FashionMNIST}[kind]
    print(f"Looking for {kind.name} in {root}, else downloading it with torchvision …", flush=True)
    train, test = (get(root, train=train, download=True) for train in (True, False))
    arrays = [train.data.numpy(), train.targets.numpy(), test.data.numpy(), test.targets.numpy()]
    source = f"{kind.name}, as torchvision has it in {root}"
    return checked_images(dict(zip(KEYS, arrays, strict=True)), kind, root, source)


@contextmanager
def _short_timeout(seconds: float = 10) -> Iterator[None]:
    """Give up on a network that does not answer, rather than wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
