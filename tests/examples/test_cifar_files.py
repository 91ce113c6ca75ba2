"""CIFAR's own files and their like are read bit for bit, and nothing that a file names is run."""

import importlib
import os
import pickle
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .conftest import EXAMPLES

COARSE = np.arange(100) // 5


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_cifar")


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(images: np.ndarray) -> np.ndarray:
    """As CIFAR has them: 1024 red values, 1024 green ones, 1024 blue ones."""
    return np.concatenate([images[..., channel].reshape(len(images), 1024) for channel in range(3)], axis=1)


def write_cifar10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The seven files, 20 images each; all training images and their labels."""
    folder.mkdir(parents=True)
    images, labels = pictures(120, 0), np.arange(120) % 10
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for place, name in enumerate(names):
        own = slice(20 * place, 20 * place + 20)
        content = {"batch_label": name, "labels": labels[own].tolist(), "data": rows(images[own]), "filenames": []}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = {"label_names": [f"kind {label}" for label in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return images, labels


def write_cifar100(folder: Path) -> np.ndarray:
    folder.mkdir(parents=True)
    images, fine = pictures(300, 1), np.arange(300) % 100
    for name, own in (("train", slice(0, 200)), ("test", slice(200, 300))):
        content = {
            "fine_labels": fine[own].tolist(),
            "coarse_labels": COARSE[fine[own]].tolist(),
            "data": rows(images[own]),
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = importlib.import_module("_cifar").COARSE_NAMES
    meta = {"fine_label_names": [f"kind {label}" for label in range(100)], "coarse_label_names": names}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return images


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_cifar10_batches(cifar: ModuleType, tmp_path: Path, inside: str) -> None:
    images, labels = write_cifar10(tmp_path / "data" / inside)
    read = cifar.load_cifar(str(tmp_path / "data"))
    np.testing.assert_array_equal(read.x_train, images[:100])
    np.testing.assert_array_equal(read.x_test, images[100:])
    np.testing.assert_array_equal(read.y_train, labels[:100])
    np.testing.assert_array_equal(read.y_test, labels[100:])
    assert read.class_names == [f"kind {label}" for label in range(10)]
    assert read.superclasses == []
    image, label = read.datasets()[0][7]
    assert image.shape == (3, 32, 32)
    np.testing.assert_allclose(image.numpy().transpose(1, 2, 0) * 255, images[7], rtol=0, atol=1e-4)
    assert int(label) == 7


def test_the_packed_archive(cifar: ModuleType, tmp_path: Path) -> None:
    images, _ = write_cifar10(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    before = sorted(tmp_path.rglob("*"))
    read = cifar.load_cifar(str(tmp_path / "cifar-10-python.tar.gz"))
    np.testing.assert_array_equal(read.x_train, images[:100])
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked


def test_files_of_an_older_numpy_and_of_bytes(cifar: ModuleType, tmp_path: Path) -> None:
    """Since 2.0 numpy has another name for what rebuilds arrays; Python 2 wrote texts as bytes."""
    images, _ = write_cifar10(tmp_path / "data")
    for path in (tmp_path / "data").iterdir():
        content = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        path.write_bytes(content)
    path = tmp_path / "data" / "test_batch"
    content = {b"labels": [number % 10 for number in range(20)], b"data": rows(images[100:])}
    path.write_bytes(pickle.dumps(content, protocol=2))
    np.testing.assert_array_equal(cifar.load_cifar(str(tmp_path / "data")).x_test, images[100:])


def test_cifar100_has_its_groups(cifar: ModuleType, tmp_path: Path) -> None:
    images = write_cifar100(tmp_path / "cifar-100-python")
    read = cifar.load_cifar(str(tmp_path), 100)
    np.testing.assert_array_equal(read.x_train, images[:200])
    fine, living = read.superclasses
    assert fine == COARSE.tolist()
    names = read.superclass_names[0]
    assert {names[group] for group, alive in zip(fine, living, strict=True) if not alive} == {
        *("food_containers", "household_electrical_devices", "household_furniture", "vehicles_1", "vehicles_2"),
        *("large_man-made_outdoor_things", "large_natural_outdoor_scenes"),
    }
    assert read.superclass_names[1] == ["not living", "living"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_a_file_names_is_not_run(
    cifar: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data")
    (tmp_path / "data" / "data_batch_3").write_bytes(pickle.dumps({"data": Evil()}, protocol=protocol))
    with pytest.raises(ValueError, match=r"data_batch_3.*it names posix\.mkdir, which CIFAR's files do not"):
        cifar.load_cifar(str(tmp_path / "data"))
    assert not (tmp_path / "made by a pickle").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"CIFAR-10's Python batches in .*, but data_batch_2 is missing$"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:500]),
            r"CIFAR's Python batches in .*data_batch_2",
        ),
        (lambda path: path.write_bytes(b"no pickle"), r"CIFAR's Python batches in .*data_batch_2"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), r"CIFAR's Python batches in .*data_batch_2"),
        (lambda path: path.write_bytes(pickle.dumps({"labels": [1]})), r"could not be read: KeyError: 'data'"),
    ],
)
def test_damaged_batches(cifar: ModuleType, tmp_path: Path, spoil: object, message: str) -> None:
    write_cifar10(tmp_path / "data")
    spoil(tmp_path / "data" / "data_batch_2")  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        cifar.load_cifar(str(tmp_path / "data"))


def test_a_damaged_archive(cifar: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "cifar.tar.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(ValueError, match=r"Python batches in .*cifar\.tar\.gz, which could not be read"):
        cifar.load_cifar(str(tmp_path / "cifar.tar.gz"))


def cifar100_arrays() -> dict[str, np.ndarray]:
    fine = np.arange(200, dtype=np.uint8) % 100
    images = pictures(200, 2)
    levels = {"fine": fine, "coarse": COARSE[fine]}
    arrays = {f"y_{part}_{level}": labels for part in ("train", "test") for level, labels in levels.items()}
    return {**arrays, "x_train": images, "x_test": images[::-1]}


def test_cifar100_npz(cifar: ModuleType, tmp_path: Path) -> None:
    arrays = cifar100_arrays()
    np.savez(tmp_path / "own.npz", **arrays, coarse_names=np.array([f"group {one}" for one in range(20)]))
    read = cifar.load_cifar(str(tmp_path / "own.npz"), 100)
    np.testing.assert_array_equal(read.x_test, arrays["x_test"])
    np.testing.assert_array_equal(read.y_train, arrays["y_train_fine"])
    assert read.superclasses == [COARSE.tolist()]  # groups of other names are neither living nor not
    np.savez(tmp_path / "plain.npz", **arrays)
    assert len(cifar.load_cifar(str(tmp_path / "plain.npz"), 100).superclasses) == 2


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        ({}, 10, r"expected the arrays x_train, y_train, x_test, y_test in .*, but y_train, y_test is missing"),
        ({"y_test_coarse": np.zeros(200, int)}, 100, r"all in one super-class; not so for class 5, 6, 7, 8, 9"),
        ({"y_test_coarse": np.zeros(199, int)}, 100, r"to give each image a super-class from 0, got int64"),
        ({"y_train_fine": np.full(200, 100)}, 100, r"expected labels from 0 to 99 .* 100 to 100"),
        (
            {"x_train": pictures(200, 2)[:, :, :, 0]},
            100,
            r"x_train of CIFAR-100 .*\[n, 32, 32, 3\], got",
        ),
        ({"coarse_names": np.array(["one"])}, 100, r"a name for each of 20 super-classes .*, got 1"),
        ({"fine_names": np.array(["one"])}, 100, r"expected 100 names of classes in .*, got 1"),
    ],
)
def test_wrong_npz(cifar: ModuleType, tmp_path: Path, change: dict, classes: int, message: str) -> None:
    np.savez(tmp_path / "own.npz", **{**cifar100_arrays(), **change})
    with pytest.raises(ValueError, match=message):
        cifar.load_cifar(str(tmp_path / "own.npz"), classes)
