"""CIFAR-10 and CIFAR-100: from a file, from their own batches, downloaded, or shapes drawn in their place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from _cifar_files import TAR_ENDINGS, read_batches
from _data import EMBEDDED, downloaded_or
from _images import CIFAR10, CIFAR100, KEYS, Array, Images, Kind, checked_images
from _npz import read_arrays
from _shapes import draw_shapes

ABOUT_COLOUR = f".npz file, or folder or .tar.gz of CIFAR's Python batches, or '{EMBEDDED}' for shapes in its place"
KINDS = {10: CIFAR10, 100: CIFAR100}
FINE_KEYS = {key: key if key.startswith("x_") else f"{key}_fine" for key in KEYS}
"""What the arrays are called in a file with CIFAR-100's two levels of labels."""
COARSE_KEYS = ("y_train_coarse", "y_test_coarse")
LIVING = {
    **dict.fromkeys(("aquatic_mammals", "fish", "flowers", "fruit_and_vegetables", "insects"), True),
    **dict.fromkeys(("large_carnivores", "large_omnivores_and_herbivores", "medium_mammals"), True),
    **dict.fromkeys(("non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees"), True),
    **dict.fromkeys(("food_containers", "household_electrical_devices", "household_furniture"), False),
    **dict.fromkeys(("large_man-made_outdoor_things", "large_natural_outdoor_scenes"), False),
    **dict.fromkeys(("vehicles_1", "vehicles_2"), False),
}
"""CIFAR-100's super-classes: is what they show alive?"""
COARSE_NAMES = sorted(LIVING)
"""In the order of their labels, which is that of the alphabet."""


def load_cifar(data: str | None, classes: int = 10) -> Images:
    """CIFAR-10 or CIFAR-100 from ``data``; where that is None, downloaded if possible, else shapes in their place.

    Args:
        data: an ``.npz`` file, the folder or the ``.tar.gz`` of CIFAR's Python batches, or ``"embedded"``.
        classes: 10 or 100. A hundred classes have two levels of groups: the 20 super-classes, and living or not.

    Raises:
        ValueError: if ``data`` is not what it should be; the message says what was expected.
    """
    kind = KINDS[classes]
    if data == EMBEDDED:
        return draw_shapes(classes, "asked for")
    if data is None:
        return downloaded_or(lambda why: draw_shapes(classes, why), lambda root: _download(root, kind), kind)
    path = Path(data).expanduser()
    if path.is_dir() or (path.is_file() and path.name.endswith(TAR_ENDINGS)):
        return _labelled(read_batches(path, kind), kind, path, f"{path} (Python batches)")
    if path.is_file():
        return read_npz(path, kind)
    raise ValueError(
        f"expected {data} to be an .npz file, or the folder or .tar.gz of {kind.name}'s Python batches, but there "
        f"is nothing at {path.absolute()}; without --data the example draws shapes instead"
    )


def read_npz(path: Path, kind: Kind) -> Images:
    """Images from an ``.npz`` file, with two levels of labels for CIFAR-100."""
    if kind is CIFAR10:
        arrays = read_arrays(path, KEYS, ["class_names"])
    else:
        needed, names = [*FINE_KEYS.values(), *COARSE_KEYS], ["fine_names", "coarse_names"]
        arrays = read_arrays(path, needed, names)
        arrays.update({key: arrays[name] for key, name in FINE_KEYS.items()})
        if "fine_names" in arrays:
            arrays["class_names"] = arrays["fine_names"]
    return _labelled(arrays, kind, path, str(path))


def _labelled(arrays: Mapping[str, Array], kind: Kind, path: Path, source: str) -> Images:
    """Images with the names of their classes and, for CIFAR-100, two levels of groups."""
    images = checked_images(arrays, kind, path, source, arrays.get("class_names"))
    if kind is CIFAR10:
        return images
    groups = group_of_class(arrays, kind, path)
    names = [str(name) for name in arrays.get("coarse_names", COARSE_NAMES)]
    if len(names) <= max(groups):
        raise ValueError(f"expected a name for each of {max(groups) + 1} super-classes in {path}, got {len(names)}")
    levels, level_names = [groups], [names]
    if set(names) <= set(LIVING):  # other groups than CIFAR-100's own have no second level
        levels.append([int(LIVING[names[group]]) for group in groups])
        level_names.append(["not living", "living"])
    return replace(images, superclasses=levels, superclass_names=level_names)


def group_of_class(arrays: Mapping[str, Array], kind: Kind, path: Path) -> list[int]:
    """The super-class of each class, from the two labels of every image.

    Raises:
        ValueError: if a class has images of two super-classes, or none at all.
    """
    fine = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64)
    coarse = np.concatenate([arrays[key] for key in COARSE_KEYS])
    if coarse.shape != fine.shape or not np.issubdtype(coarse.dtype, np.integer) or coarse.min() < 0:
        raise ValueError(
            f"expected {' and '.join(COARSE_KEYS)} in {path} to give each image a super-class from 0, got "
            f"{coarse.dtype} of shape {list(coarse.shape)} for {len(fine)} images"
        )
    pairs = np.unique(np.stack([fine, coarse.astype(np.int64)], 1), axis=0)
    if pairs[:, 0].tolist() != list(range(kind.classes)):
        odd = [label for label in range(kind.classes) if (pairs[:, 0] == label).sum() != 1]
        raise ValueError(
            f"expected images of each of the {kind.classes} classes in {path}, those of one class all in one "
            f"super-class; not so for class {', '.join(map(str, odd[:5]))}"
        )
    return [int(group) for group in pairs[:, 1]]


def _download(root: Path, kind: Kind) -> Images:
    from torchvision import datasets  # only here: an optional package, and slow to import

    get = {CIFAR10: datasets.CIFAR10, CIFAR100: datasets.CIFAR100}[kind]
    print(f"Looking for {kind.name} in {root}, else downloading it with torchvision …", flush=True)
    sets = [get(root, train=train, download=True) for train in (True, False)]
    source = f"{kind.name}, as torchvision has it in {root}"
    return _labelled(read_batches(root / sets[0].base_folder, kind), kind, root, source)
