"""The script that built the embedded digits gives pixels back exactly and keeps classes apart."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .conftest import EXAMPLES


@pytest.fixture
def builder() -> ModuleType:
    path = EXAMPLES / "data" / "build_mnist_digits.py"
    spec = importlib.util.spec_from_file_location("build_mnist_digits", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pixel_value_survives_the_rounding_to_three_decimals(builder: ModuleType, tmp_path: Path) -> None:
    pixels = np.resize(np.arange(256, dtype=np.uint8), (2, 28, 28))
    path = tmp_path / "3.json"
    path.write_text(json.dumps({"data": [round(float(value) / 255, 3) for value in pixels.ravel()]}))
    np.testing.assert_array_equal(builder.read_class(path), pixels)


def test_values_that_are_not_such_fractions_are_refused(builder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "3.json"
    path.write_text(json.dumps({"data": [0.0] * 783 + [0.002]}))  # half a pixel
    with pytest.raises(ValueError, match=r"expected fractions of 255 rounded to three decimals in .*3\.json"):
        builder.read_class(path)


def test_classes_take_turns(builder: ModuleType) -> None:
    classes = [np.full((3, 28, 28), 10 * digit, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None]
               for digit in range(10)]  # fmt: skip
    images, labels = builder.interleave(classes)
    assert labels.tolist() == list(range(10)) * 3
    assert images[:, 0, 0].tolist() == [10 * digit + turn for turn in range(3) for digit in range(10)]
