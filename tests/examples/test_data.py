"""The examples' readers give back what the files hold, and say what is wrong with a file."""

import gzip
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .conftest import EXAMPLES, ROOT, Arrays, idx_bytes, write_idx

KEYS = ("x_train", "y_train", "x_test", "y_test")
REAL = Path(os.environ.get("STIFFNESS_DATA", ROOT.parent / "shared" / "data")) / "mnist" / "mnist.npz"


def assert_same(images: object, arrays: Arrays) -> None:
    for key in KEYS:
        read = getattr(images, key)
        np.testing.assert_array_equal(read, arrays[key])
        assert read.dtype == arrays[key].dtype


def test_npz_is_read_bit_for_bit(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "digits.npz", **arrays)
    assert_same(data_module.load_mnist(str(tmp_path / "digits.npz")), arrays)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
def test_idx_is_read_bit_for_bit(
    data_module: ModuleType, arrays: Arrays, tmp_path: Path, gz: bool, inside: str
) -> None:
    write_idx(tmp_path / "digits" / inside, arrays, gz=gz)
    assert_same(data_module.load_mnist(str(tmp_path / "digits")), arrays)


def test_idx_names_with_a_dot(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "digits", arrays, gz=False)
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))
    assert_same(data_module.load_mnist(str(folder)), arrays)


def test_embedded_digits(data_module: ModuleType) -> None:
    path = EXAMPLES / "data" / "mnist_digits.npz"
    assert path.stat().st_size < 2_000_000
    images = data_module.load_mnist("embedded")
    assert images.x_train.shape == (5000, 28, 28)
    assert images.x_test.shape == (1000, 28, 28)
    np.testing.assert_array_equal(np.bincount(images.y_train), np.full(10, 500))
    np.testing.assert_array_equal(np.bincount(images.y_test), np.full(10, 100))
    together = [image.tobytes() for part in (images.x_train, images.x_test) for image in part]
    assert len(set(together)) == 6000  # no image twice, none in both parts
    assert "come with the example" in images.source


def test_embedded_digits_are_told_apart_by_a_nearest_neighbour(data_module: ModuleType) -> None:
    """Real digits with right labels: on shuffled labels or scrambled pixels this is 0.1."""
    images = data_module.load_mnist("embedded")
    train, test = (part.reshape(len(part), -1).astype(np.float32) for part in (images.x_train, images.x_test))
    squares = (train**2).sum(1) - 2 * test @ train.T
    assert (images.y_train[squares.argmin(1)] == images.y_test).mean() > 0.9


@pytest.mark.skipif(not REAL.exists(), reason="the first 10,000 images of MNIST are not at hand (STIFFNESS_DATA)")
def test_embedded_digits_are_mnist_pixel_for_pixel(data_module: ModuleType) -> None:
    mnist = data_module.load_mnist(str(REAL))
    labels = {image.tobytes(): label for image, label in zip(mnist.x_train, mnist.y_train, strict=True)}
    digits = data_module.load_mnist("embedded")
    for part in ("train", "test"):
        images = getattr(digits, f"x_{part}")
        assert [labels.get(image.tobytes()) for image in images] == getattr(digits, f"y_{part}").tolist()


def test_datasets_scale_pixels_and_keep_labels(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", **arrays)
    train, test = data_module.load_mnist(str(tmp_path / "digits.npz")).limited(50).datasets()
    assert (len(train), len(test)) == (50, 40)
    image, label = train[7]
    assert image.shape == (1, 28, 28)
    np.testing.assert_allclose(image[0].numpy() * 255, arrays["x_train"][7], rtol=0, atol=1e-4)
    assert int(label) == 7


def test_without_torchvision_the_embedded_digits_are_used(
    data_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    images = data_module.load_mnist(None)
    assert len(images.x_train) == 5000
    assert "torchvision is not installed" in images.source


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Error downloading train-images"), "Error downloading"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_a_failed_download_goes_on_with_the_embedded_digits(
    data_module: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(data_module, "_download", fail)
    images = data_module.load_mnist(None)
    assert len(images.x_train) == 5000
    assert f"torchvision could not give MNIST: {said}" in images.source


def _changed(arrays: Arrays, **changes: object) -> dict[str, object]:
    return {**arrays, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"x_train": a["x_train"]}, r"y_train, x_test, y_test is missing; it holds x_train"),
        (
            lambda a: _changed(a, x_test=a["x_test"][:, :20]),
            r"x_test .* uint8 .* \[n, 28, 28\], got uint8 .*\[40, 20",
        ),
        (lambda a: _changed(a, x_train=a["x_train"] / 255), r"x_train .* got float64 of shape \[60, 28, 28\]"),
        (lambda a: _changed(a, y_train=a["y_train"] * 1.0), r"y_train .* integers of shape \[n\], got float64"),
        (lambda a: _changed(a, y_test=np.eye(10, dtype=int)), r"y_test .* got int64 of shape \[10, 10\]"),
        (lambda a: _changed(a, y_test=a["y_test"][:-1]), r"got 40 images in x_test and 39 labels"),
        (lambda a: _changed(a, x_test=a["x_test"][:0], y_test=a["y_test"][:0]), r"at least one, got 0 images"),
        (lambda a: _changed(a, y_train=a["y_train"] + 1), r"labels from 0 to 9 .* y_train runs from 1 to 10"),
        (
            lambda a: _changed(a, x_train=a["x_train"].astype(object)),
            r"\.npz file of plain arrays, which it is not: .*pickle",
        ),
    ],
)
def test_wrong_npz(data_module: ModuleType, arrays: Arrays, tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, **change(arrays))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        data_module.load_mnist(str(path))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_npz(data_module: ModuleType, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected .*digits\.npz to be an \.npz file"):
        data_module.load_mnist(str(path))


def test_a_single_array_is_no_npz(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", arrays["x_train"])
    with pytest.raises(ValueError, match=r"expected .*digits\.npy to be an \.npz file"):
        data_module.load_mnist(str(tmp_path / "digits.npy"))


def test_a_damaged_npz(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    content[2000:2200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected .*digits\.npz to be an \.npz file"):
        data_module.load_mnist(str(path))


def test_a_missing_path(data_module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing at .*; without --data the example brings its own digits"):
        data_module.load_mnist(str(tmp_path / "nowhere"))


def test_missing_idx_files(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "digits", arrays, gz=True)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"four IDX files .* but t10k-labels-idx1-ubyte is missing$"):
        data_module.load_mnist(str(folder))


def test_a_folder_of_npz_files_is_pointed_out(data_module: ModuleType, arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", **arrays)
    with pytest.raises(ValueError, match=r"pass --data .*digits\.npz"):
        data_module.load_mnist(str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1], r"damaged: .* shape \[60, 28, 28\], 47056 bytes in all, but it has 47055"),
        (lambda content: content + b"\0", r"damaged: .* but it has 47057"),
        (lambda content: content[:9], r"is damaged"),
        (lambda content: b"", r"starts with 00 00 08, but .* starts with nothing"),
        (lambda content: b"\0\0\x0d" + content[3:], r"starts with 00 00 0d 03"),
        (lambda content: gzip.compress(content)[:-20], r"damaged: .*; fetch it again"),
    ],
)
def test_damaged_idx(data_module: ModuleType, arrays: Arrays, tmp_path: Path, spoil: object, message: str) -> None:
    folder = write_idx(tmp_path / "digits", arrays, gz=False)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(spoil(idx_bytes(arrays["x_train"])))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        data_module.load_mnist(str(folder))
