"""The data that ``--data`` names: a data module, a function, or a file of arrays."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lightning_stiffness.cli.finding import near_files
from lightning_stiffness.cli.naming import load_name
from lightning_stiffness.cli.problem import UsageError, note
from lightning_stiffness.compat import classes
from lightning_stiffness.storage import DAMAGE

VAL = ("val", "valid", "validation", "test")
"""Names of data that is not trained on, the first that is there is taken."""
FORMS = (
    "a LightningDataModule; a function that returns a training dataset or loader, or one for training and one for "
    "validation, as a pair or a mapping with 'train' and 'val'; or an .npz file"
)


@dataclass(frozen=True)
class Data:
    """Where examples come from."""

    loaders: dict[str, Any]
    """Split → loader, ``"train"`` first."""
    datamodule: Any = None
    class_names: list[str] | None = None


def load_data(spec: str, arguments: Mapping[str, Any], saved: Mapping[str, Any]) -> Data:
    """The data that an option names.

    Args:
        spec: a name to import, or a path that ends in ``.npz``.
        arguments: what a data module or a function is called with.
        saved: arguments of a data module that the checkpoint holds; those above go first.

    Returns:
        The data.

    Raises:
        UsageError: if there is none, or it is of another form.
    """
    if spec.endswith(".npz"):
        if arguments:
            raise UsageError(
                f"expected --data-args with a data module or a function, got them with the file {spec}"
            )
        return _of_arrays(spec)
    named = load_name("--data", spec)
    if inspect.isclass(named) and issubclass(named, classes("LightningDataModule")):
        known = inspect.signature(named).parameters
        named = _called(spec, named, {**{k: v for k, v in saved.items() if k in known}, **arguments})
    elif callable(named) and not isinstance(named, (Dataset, DataLoader, *classes("LightningDataModule"))):
        named = _called(spec, named, arguments)
    elif arguments:
        raise UsageError(
            f"expected --data-args with a data module's class or a function, and {spec} is a {type(named).__name__}"
        )
    if isinstance(named, classes("LightningDataModule")):
        return of_datamodule(named)
    return Data(_loaders(named, spec))


def of_datamodule(datamodule: Any) -> Data:
    """The loaders of a data module, prepared as for a fit."""
    datamodule.prepare_data()
    datamodule.setup("fit")
    return Data(_own_loaders(datamodule), datamodule)


def of_module(module: Any) -> Data:
    """The loaders of a LightningModule that has its own.

    Raises:
        UsageError: if it has none.
    """
    base = next(
        kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
    )
    if type(module).train_dataloader is base.train_dataloader:
        raise UsageError(f"expected --data, as {type(module).__name__} has no train_dataloader of its own: {FORMS}")
    module.prepare_data()
    return Data(_own_loaders(module))


def _own_loaders(owner: Any) -> dict[str, Any]:
    from_base = "pytorch_lightning", "lightning"
    has_val = type(owner).val_dataloader.__module__.split(".")[0] not in from_base
    return _loaders(
        {"train": owner.train_dataloader(), **({"val": owner.val_dataloader()} if has_val else {})},
        type(owner).__name__,
    )


def _called(spec: str, function: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise UsageError(
            f"{spec} cannot be called: {error}; arguments are given by --data-args, such as --data-args "
            f"'{{batch_size: 32}}'"
        ) from error
    return function(**arguments)


def _loaders(given: Any, spec: str) -> dict[str, Any]:
    if isinstance(given, Mapping):
        val = next((name for name in VAL if given.get(name) is not None), None)
        parts = {"train": given.get("train"), "val": None if val is None else given[val]}
    elif isinstance(given, tuple) and 1 <= len(given) <= 2:
        parts = dict(zip(("train", "val"), given, strict=False))
    else:
        parts = {"train": given}
    if parts["train"] is None:
        raise UsageError(f"expected --data to be {FORMS}; got {_told(given)} from {spec}")
    return {split: _loader(part, split, spec) for split, part in parts.items() if part is not None}


def _loader(part: Any, split: str, spec: str) -> Any:
    if split == "val" and isinstance(part, list | tuple) and part and isinstance(part[0], DataLoader):
        if len(part) > 1:
            note(f"stiffness is measured on the first of the {len(part)} validation loaders")
        part = part[0]
    several = isinstance(part, Mapping) or (
        isinstance(part, list | tuple) and part and isinstance(part[0], DataLoader)
    )
    if isinstance(part, DataLoader) or several:
        return part
    if isinstance(part, IterableDataset) or (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        if isinstance(part, torch.Tensor | np.ndarray):
            raise UsageError(
                f"expected --data to be {FORMS}; got an array for {split} from {spec}: pair it with labels in a "
                "TensorDataset"
            )
        return DataLoader(part)
    if hasattr(part, "__iter__") and not isinstance(part, str):
        return part
    raise UsageError(f"expected --data to be {FORMS}; got {_told(part)} for {split} from {spec}")


def _told(given: Any) -> str:
    return f"a mapping with {list(given)}" if isinstance(given, Mapping) else type(given).__name__


def _of_arrays(file: str) -> Data:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UsageError(
            f"expected --data to be a file of arrays, but there is nothing at {file}{near_files(path, '.npz')}"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DAMAGE as error:
        raise UsageError(f"{file} is damaged or no .npz file: {error}") from error
    val = next((name for name in VAL if f"x_{name}" in arrays), None)
    wanted = {"train": "train"} if val is None else {"train": "train", "val": val}
    missing = [f"{part}_{name}" for name in wanted.values() for part in "xy" if f"{part}_{name}" not in arrays]
    if missing:
        raise UsageError(
            f"expected arrays x_train, y_train and x_val, y_val (or x_test, y_test) in {file}, got "
            f"{sorted(arrays)}, without {missing}"
        )
    loaders = {}
    for split, name in wanted.items():
        x, y = (_tensor(f"{part}_{name}", arrays[f"{part}_{name}"], file) for part in "xy")
        if len(x) != len(y):
            raise UsageError(
                f"expected as many rows in x_{name} as in y_{name} of {file}, got {len(x)} and {len(y)}"
            )
        loaders[split] = DataLoader(TensorDataset(x, y))
    names = arrays.get("class_names")
    return Data(loaders, class_names=None if names is None else [str(name) for name in names])


def _tensor(name: str, array: np.ndarray, file: str) -> torch.Tensor:
    """An array as training would have it: floating point in float32, labels and tokens in int64; images of uint8
    stay as they are, since only the network knows how they are scaled."""
    if array.dtype.kind not in "fiub":
        raise UsageError(f"expected numbers in {name} of {file}, got {array.dtype}")
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array if array.dtype == np.uint8 and name.startswith("x") else array.astype(np.int64))
