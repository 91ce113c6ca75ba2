"""Shapes in CIFAR's place: balanced, the same each time, told apart by what they show; and the clothes."""

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import EXAMPLES, REAL, Arrays, write_idx


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return {name: importlib.import_module(name) for name in ("_shapes", "_data", "_cifar")}


@pytest.mark.parametrize("classes", [10, 100])
def test_shapes(modules, classes: int) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    images = modules["_shapes"].draw_shapes(classes, "for a test")
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert images.x_train.shape == (5000, 32, 32, 3)
    assert images.x_test.shape == (1000, 32, 32, 3)
    assert images.y_train[: 2 * classes].tolist() == [*range(classes)] * 2
    assert (np.bincount(images.y_test) == 1000 // classes).all()
    assert len(set(images.class_names)) == classes
    assert "not CIFAR (for a test)" in images.source
    again = modules["_shapes"].draw_shapes(classes, "for a test")
    np.testing.assert_array_equal(images.x_train, again.x_train)
    assert (images.x_train != modules["_shapes"].draw_shapes(classes, "", seed=1).x_train).any()


def test_shapes_are_told_apart_by_a_nearest_neighbour(modules) -> None:
    """By colour and form: on shuffled labels this is 0.01."""
    images = modules["_shapes"].draw_shapes(100, "")
    train, test = (part.reshape(len(part), -1).astype(np.float32) for part in (images.x_train, images.x_test))
    squares = (train**2).sum(1) - 2 * test @ train.T
    assert (images.y_train[squares.argmin(1)] == images.y_test).mean() > 0.1


def test_shapes_have_two_levels_of_groups(modules) -> None:
    images = modules["_shapes"].draw_shapes(100, "")
    groups, kinds = images.superclasses
    assert np.bincount(groups).tolist() == [5] * 20
    assert np.bincount(kinds).tolist() == [50, 50]
    assert images.superclass_names[0][groups[0]] == images.class_names[0].split()[1]
    assert modules["_shapes"].draw_shapes(10, "").superclasses == []


def test_embedded_clothes(modules) -> None:
    assert (EXAMPLES / "data" / "fashion_mnist_clothes.npz").stat().st_size < 1_500_000
    images = modules["_data"].load_fashion_mnist("embedded")
    assert (len(images.x_train), len(images.x_test)) == (2500, 500)
    np.testing.assert_array_equal(np.bincount(images.y_train), np.full(10, 250))
    np.testing.assert_array_equal(np.bincount(images.y_test), np.full(10, 50))
    together = [image.tobytes() for part in (images.x_train, images.x_test) for image in part]
    assert len(set(together)) == 3000
    assert images.class_names[9] == "Ankle boot"


@pytest.mark.skipif(
    not (REAL / "fashion_mnist").exists(), reason="images of Fashion-MNIST are not at hand (STIFFNESS_DATA)"
)
def test_embedded_clothes_are_fashion_mnist_pixel_for_pixel(modules) -> None:
    load = modules["_data"].load_fashion_mnist
    real, clothes = load(str(REAL / "fashion_mnist" / "fashion_mnist.npz")), load("embedded")
    for part in ("train", "test"):
        labels = dict(
            zip((x.tobytes() for x in getattr(real, f"x_{part}")), getattr(real, f"y_{part}"), strict=True)
        )
        found = [labels.get(image.tobytes()) for image in getattr(clothes, f"x_{part}")]
        assert found == getattr(clothes, f"y_{part}").tolist()


def test_fashion_mnist_where_debian_puts_it(
    modules, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_idx(tmp_path / "fashion-mnist", arrays, gz=True)
    monkeypatch.setattr(modules["_data"], "DEBIAN_FASHION_MNIST", folder)
    images = modules["_data"].load_fashion_mnist(None)
    np.testing.assert_array_equal(images.x_train, arrays["x_train"])
    assert images.class_names == list(modules["_data"].CLOTHES_NAMES)


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar"])
def test_without_torchvision_what_comes_along_is_used(
    modules, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(modules["_data"], "DEBIAN_FASHION_MNIST", tmp_path / "nowhere")
    load = {"fashion_mnist": modules["_data"].load_fashion_mnist, "cifar": modules["_cifar"].load_cifar}[name]
    assert "torchvision is not installed" in load(None).source


def test_the_builder_takes_the_first_of_each_class() -> None:
    spec = importlib.util.spec_from_file_location(
        "build_fashion_mnist_clothes", EXAMPLES / "data" / "build_fashion_mnist_clothes.py"
    )
    builder = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    try:
        spec.loader.exec_module(builder)
    finally:
        sys.path[:] = path
    labels = np.repeat(np.arange(10, dtype=np.uint8), 3)[::-1].copy()
    images = np.arange(30, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    chosen, own = builder.first_of_each(images, labels, 2)
    assert own.tolist() == [*range(10)] * 2
    assert chosen[:, 0, 0].tolist() == [3 * (9 - label) + turn for turn in range(2) for label in range(10)]
    with pytest.raises(ValueError, match="at least 4 images of each class, there are fewer of 0, 1"):
        builder.first_of_each(images, labels, 4)
