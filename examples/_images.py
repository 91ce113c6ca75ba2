"""Labelled images: what every reader of image files gives back, checked once and for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

Array = NDArray[Any]
KEYS = ("x_train", "y_train", "x_test", "y_test")


class Kind(NamedTuple):
    """What the images of a data set have to be like."""

    name: str
    shape: tuple[int, ...]
    """Of one image: height, width and, where it has colours, channels."""
    classes: int


MNIST = Kind("MNIST", (28, 28), 10)
FASHION_MNIST = Kind("Fashion-MNIST", (28, 28), 10)
CIFAR10 = Kind("CIFAR-10", (32, 32, 3), 10)
CIFAR100 = Kind("CIFAR-100", (32, 32, 3), 100)


@dataclass(frozen=True)
class Images:
    """Images, uint8, grey ``[n, 28, 28]`` or coloured ``[n, 32, 32, 3]``, with labels ``[n]``, in two parts."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    source: str
    """Where they come from, in words."""
    class_names: list[str] | None = None
    superclasses: list[list[int]] = field(default_factory=list)
    """Group of each class, on one level of groups or more."""
    superclass_names: list[list[str]] = field(default_factory=list)
    """Names of the groups of each level."""
    noun: str = "images"

    @property
    def sizes(self) -> tuple[int, int]:
        """How many are for training, and how many for testing."""
        return len(self.x_train), len(self.x_test)

    def limited(self, limit: int | None) -> "Images":
        """The first ``limit`` training and the first ``limit`` test images."""
        return replace(self, **{key: getattr(self, key)[:limit] for key in KEYS})

    def datasets(self) -> tuple[TensorDataset, TensorDataset]:
        """Training and test part as (image ``[channels, height, width]`` float in [0, 1], label) pairs."""
        return _dataset(self.x_train, self.y_train), _dataset(self.x_test, self.y_test)


def checked_images(
    arrays: Mapping[str, Array], kind: Kind, path: Path, source: str, class_names: Sequence[str] | None = None
) -> Images:
    """Images of the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``, where they are what they should be.

    Args:
        arrays: name → array.
        kind: what they should be like.
        path: where they were read, for the errors.
        source: where they come from, in words.
        class_names: name of each class.

    Raises:
        ValueError: if they are not; the message says what was expected and what was found.
    """
    for part in ("train", "test"):
        _check_part(arrays[f"x_{part}"], arrays[f"y_{part}"], part, kind, path)
    if class_names is not None and len(class_names) != kind.classes:
        raise ValueError(f"expected {kind.classes} names of classes in {path}, got {len(class_names)}")
    names = None if class_names is None else [str(name) for name in class_names]
    return Images(**{key: arrays[key] for key in KEYS}, source=source, class_names=names)


def _check_part(images: Array, labels: Array, part: str, kind: Kind, path: Path) -> None:
    if images.ndim < 3 or images.shape[1:] != kind.shape or images.dtype != np.uint8:
        raise ValueError(
            f"expected x_{part} of {kind.name} in {path} to be uint8 (pixels 0 to 255) of shape "
            f"[n, {', '.join(map(str, kind.shape))}], got {images.dtype} of shape {list(images.shape)}"
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"expected y_{part} in {path} to be integers of shape [n], got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"expected as many labels as images in {path}, at least one, got {len(images)} images in x_{part} "
            f"and {len(labels)} labels in y_{part}"
        )
    if labels.min() < 0 or labels.max() >= kind.classes:
        raise ValueError(
            f"expected labels from 0 to {kind.classes - 1} in {path}, but y_{part} runs from {labels.min()} to "
            f"{labels.max()}"
        )


def _dataset(images: Array, labels: Array) -> TensorDataset:
    pixels = torch.from_numpy(images).float() / 255
    channels_first = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return TensorDataset(channels_first, torch.from_numpy(labels.astype(np.int64)))
