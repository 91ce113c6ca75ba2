"""Objects of the trainer's, to read from; for parts of the module in training, those of its copy."""

import copy
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_stiffness.reach import is_users
from lightning_stiffness.refusal import UnusableTrainer
from lightning_stiffness.sources import private
from lightning_stiffness.trainer_view.plain import PLAIN, own

_FUNCTIONS = (types.MethodType, types.FunctionType, types.BuiltinFunctionType)
_SEQUENCES = (Sequence, Mapping, deque)
_TOLD = frozenset({"get_scale", "get_growth_factor", "is_enabled"})
"""Methods that tell a number and do nothing, as those of a loss scaler."""


def refused(path: str) -> UnusableTrainer:
    """The error for what would act on the run."""
    return UnusableTrainer(
        f"training_step uses trainer.{path}, which a measurement of stiffness cannot give: it would act on "
        "the run. Pass StiffnessCallback(loss_fn=...), or define stiffness_loss(self, batch) on the module"
    )


class Scene:
    """The module in training, its copy, and the views that one loss has asked for."""

    def __init__(self) -> None:
        self._pair: tuple[nn.Module, nn.Module] | None = None
        self._twins: dict[int, tuple[Any, Any]] = {}
        self._networks: dict[int, tuple[nn.Module, nn.Module]] = {}
        self.own_kinds: dict[int, type[ReadView]] = {}
        """Id of an object → the view it gets."""
        self.kinds: list[tuple[type, type[ReadView]]] = []
        """Class → the view that its instances get; the first that fits."""
        self.views: dict[int, ReadView] = {}
        self.keep: Callable[[Any], Any] | None = None
        """Sees to it that what a data set or a network holds is put back after each loss, or all of them."""
        self._kept: dict[int, Any] = {}

    def bind(self, module: nn.Module, shadow: nn.Module) -> None:
        """Say which copy of which module is measured on."""
        self._pair = module, shadow

    @property
    def shadow(self) -> nn.Module | None:
        """The copy; None before it is made."""
        return None if self._pair is None else self._pair[1]

    def twins(self) -> dict[int, tuple[Any, Any]]:
        """Id of each submodule, parameter and buffer in training → itself, and the copy's."""
        if not self._twins and self._pair is not None:
            module, shadow = self._pair
            for named in ("named_modules", "named_parameters", "named_buffers"):
                theirs = dict(getattr(shadow, named)(remove_duplicate=False))
                for name, part in getattr(module, named)(remove_duplicate=False):
                    if name in theirs:
                        self._twins[id(part)] = part, theirs[name]
        return self._twins

    def twin(self, value: Any) -> Any:
        """The copy's own for a part of the module in training; None for anything else."""
        found = self.twins().get(id(value)) if isinstance(value, nn.Module | Tensor) else None
        return None if found is None else found[1]

    def network(self, module: nn.Module, path: str) -> nn.Module:
        """A copy of a network that is no part of the module, such as the averaged one that a callback keeps."""
        if id(module) not in self._networks:
            memo = {key: twin for key, (_, twin) in self.twins().items()}
            try:
                with torch.no_grad():
                    twin = copy.deepcopy(module, memo).eval()
                    for tensor in (*twin.parameters(), *twin.buffers()):
                        if tensor.dtype in (torch.float16, torch.bfloat16):
                            tensor.data = tensor.data.float()
            except Exception as error:
                raise refused(path) from error
            self._networks[id(module)] = module, twin
            if self.keep is not None:
                self.keep(twin)
        return self._networks[id(module)][1]

    def dataset(self, dataset: Any, path: str) -> Any:
        """A data set whose items may be read: counters and random numbers of its own stay what they are."""
        if self.keep is None:
            raise refused(path)
        if id(dataset) not in self._kept:
            self.keep(dataset)
            self._kept[id(dataset)] = private(dataset)
        return self._kept[id(dataset)]

    def view(self, target: Any, path: str) -> "ReadView":
        """The view of an object, the same for as long as one loss is computed."""
        if id(target) not in self.views:
            found = (kind for of, kind in self.kinds if isinstance(target, of))
            kind = self.own_kinds.get(id(target)) or next(found, ReadView)
            self.views[id(target)] = kind(target, path, self)
        return self.views[id(target)]


class ReadView:
    """An object to read numbers, flags, strings, lengths and further such objects from.

    Methods of the user's own may be called, and read; those of libraries may not.

    Example:
        >>> view = ReadView([1.5, "a"], "loop", Scene())
        >>> len(view), view[1]
        (2, 'a')
    """

    def __init__(self, target: Any, path: str, scene: Scene) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_scene", scene)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # so that a step finds a callback by isinstance
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._target, name)
        return value if name in _TOLD else viewed(value, f"{self._path}.{name}", self._scene)

    def __len__(self) -> int:
        return len(self._target)

    def __bool__(self) -> bool:
        return bool(self._target)

    def __getitem__(self, key: Any) -> Any:
        path = f"{self._path}[{key!r}]"
        if isinstance(self._target, Dataset):
            return self._scene.dataset(self._target, path)[key]
        if not isinstance(self._target, _SEQUENCES):
            raise refused(path)
        return viewed(self._target[key], path, self._scene)

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self._target, _SEQUENCES):
            raise refused(f"{self._path}.__iter__")
        return (viewed(entry, f"{self._path}[…]", self._scene) for entry in self._target)

    def __call__(self, *_: Any, **__: Any) -> Any:  # noqa: D102
        raise refused(self._path)

    def __setattr__(self, name: str, _: Any) -> None:
        raise UnusableTrainer(f"a measurement of stiffness cannot set trainer.{self._path}.{name}")

    def __deepcopy__(self, _: Any) -> "ReadView":
        return self


def viewed(value: Any, path: str, scene: Scene) -> Any:
    """A value of the trainer's, such that nothing done with it reaches the run.

    Raises:
        UnusableTrainer: for a function, or a method of a library: it would act on the run; for a parameter that
            is none of the module's: its gradient would be missing.
    """
    if isinstance(value, PLAIN):
        return value
    twin = scene.twin(value)
    if twin is not None:
        return twin
    if isinstance(value, nn.Module):
        return scene.network(value, path)
    if isinstance(value, dict):
        return {key: viewed(entry, path, scene) for key, entry in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(viewed(entry, path, scene) for entry in value)
    if isinstance(value, np.ndarray) or (isinstance(value, Tensor) and not value.requires_grad):
        return own(value)
    if isinstance(value, types.MethodType) and is_users(value.__func__.__module__):
        # What the user's own method reads it reads through the view, and what it sets is refused by name
        return types.MethodType(value.__func__, scene.view(value.__self__, path.rpartition(".")[0]))
    if isinstance(value, (*_FUNCTIONS, Tensor)):
        raise refused(path)
    return scene.view(value, path)
