"""What the code of some objects leads to: namespaces, objects, containers and random generators."""

import copy
import functools
import itertools
import queue
import random
import sys
import sysconfig
import threading
import warnings
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Executor
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import ProxyTypes

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from lightning_stiffness.contents import entries_of, size_of

_LIBRARIES = frozenset(
    {"torch", "torchvision", "torchmetrics", "lightning", "pytorch_lightning", "numpy", "builtins", "abc", "typing"}
)
_CLOSED = frozenset(
    {"logging", "threading", "multiprocessing", "lightning", "pytorch_lightning", "lightning_stiffness"}
)
"""Libraries whose objects are not looked into."""
_SERVICES = frozenset(
    {
        *("wandb", "mlflow", "comet_ml", "neptune", "clearml", "aim", "tensorboard", "tensorboardX", "loguru"),
        *("tqdm", "rich", "ray", "dask", "distributed", "joblib", "psutil", "matplotlib", "plotly", "PIL", "cv2"),
        *("h5py", "zarr", "pandas", "polars", "pyarrow", "datasets", "fsspec", "requests", "urllib3", "sklearn"),
    }
)
"""Packages whose objects log, draw, fetch or hold data."""
_HOLDING = (SimpleNamespace, Optimizer, UserDict, UserList)
_INSTALLED = tuple({path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))})
_CONTAINERS = frozenset({list, dict, set, deque, OrderedDict, defaultdict, Counter})
_OWN_IDEAS = ("__init__", "__setitem__", "__iter__", "__len__", "clear", "update", "copy", "items")
_VALUES = (int, float, str, bool, type(None))
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
ITERATORS: tuple[type, ...] = (
    *(type(iter(kind())) for kind in (list, tuple)),
    type(iter(range(0))),
    itertools.count,
    itertools.cycle,
)
_ARRAYS = (Tensor, np.ndarray)
_PLAIN: tuple[type, ...] = (*_VALUES, bytes, Tensor, np.ndarray, type, ModuleType, *ProxyTypes)
NAMESPACES = (type, ModuleType)
_WORKING = (threading.Thread, threading.Condition, queue.Queue, Executor)
_BUSY = (*_WORKING, type(threading.Lock()), type(threading.RLock()))
"""What holds one of these, another thread may be working on."""
_REGISTRIES = frozenset(vars(nn.Module()))
_MANY = 1000
"""Longer containers hold data, not generators."""
_MOST = 100_000
"""Objects looked at."""
_SMALL = 1 << 20
"""Bytes up to which tensors of an object are counts rather than data."""
_SMALL_ARRAY = 1 << 24
"""The same for arrays of NumPy, whose changes can't be seen but by comparing them."""


def spaces_of(things: Iterable[Any]) -> list[Any]:
    """The objects, the classes and modules of Python that their code is written in, and what these import of the
    user's own."""
    found: dict[int, Any] = {}
    waiting: deque[Any] = deque()
    for thing in things:
        function = isinstance(thing, FunctionType | MethodType)
        if hasattr(thing, "__dict__") and not function and not isinstance(thing, nn.Module):
            found[id(thing)] = thing
        waiting.extend((thing,) if function else type(thing).__mro__)
    while waiting and len(found) < _MANY:
        owner = waiting.popleft()
        home = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", None) or ""
        if home.split(".")[0] in _LIBRARIES:
            continue
        for space in (owner, sys.modules.get(home)):
            if isinstance(space, NAMESPACES) and id(space) not in found:
                found[id(space)] = space
                waiting.extend(entry for entry in list(vars(space).values()) if _leads_on(entry))
    return list(found.values())


def _leads_on(entry: Any) -> bool:
    """Whether a global variable is a class, a function or a module of the user's own."""
    if isinstance(entry, ModuleType):
        return is_users(entry.__name__)
    return isinstance(entry, type | FunctionType) and is_users(entry.__module__)


def is_state(value: Any, *, whole: bool) -> bool:
    """Whether a value may be kept: the large tensors of a data set are its data, which nobody writes into."""
    if isinstance(value, Tensor):
        dense = value.layout == torch.strided and not value.is_meta and not value.is_quantized
        small = whole or value.numel() * value.element_size() <= _SMALL
        return type(value) is Tensor and dense and small and not value.is_inference()
    if type(value) is np.ndarray:
        return value.nbytes <= _SMALL_ARRAY and value.dtype != object
    return is_container(value) or isinstance(value, ITERATORS) or type(value) in _VALUES


def is_container(value: Any) -> bool:
    """Whether a value is kept with what is in it; not where it derives from a container and has ideas of its own.

    Example:
        >>> class Hyperparameters(dict):
        ...     def __getattr__(self, name):
        ...         return self[name]
        >>> is_container([]), is_container(Hyperparameters()), is_container("abc")
        (True, True, False)
    """
    kind = type(value)
    return kind in _CONTAINERS or (
        isinstance(value, dict) and all(getattr(kind, name) is getattr(dict, name) for name in _OWN_IDEAS)
    )


def is_object(value: Any) -> bool:
    """Whether a value is an object whose attributes are its state, of a class of the user's own or of a package.

    Not those of Python's library, of torch or of what logs, draws and holds data, but for a few that hold state;
    nor modules of torch, whose state is told otherwise, or what another thread may be working on.

    Example:
        >>> is_object(SimpleNamespace(mean=0.0)), is_object(nn.Linear(1, 1)), is_object(3)
        (True, False, False)
    """
    if not (_has_state(type(value).__module__) or isinstance(value, _HOLDING)):
        return False
    if isinstance(value, (*_PLAIN, nn.Module)):
        return False
    entries = getattr(value, "__dict__", {})
    return isinstance(entries, dict) and not any(isinstance(one, _WORKING) for one in (value, *entries.values()))


@functools.cache
def _has_state(home: str) -> bool:
    stateless = {*_LIBRARIES, *_CLOSED, *_SERVICES, *sys.stdlib_module_names}
    return home == "__main__" or home.split(".")[0] not in stateless


def forked(iterator: Any) -> Any:
    """An iterator of its own at the same place; the iterator itself where there can be none (Python 3.14)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return copy.deepcopy(iterator)
        except TypeError:
            return iterator


class Reached:
    """What some objects lead to: random generators, objects of the user's own classes, and what these hold.

    Args:
        things: the objects; of networks among them, parameters and buffers are left out.
        further: objects to begin from beside them.
    """

    def __init__(self, things: Iterable[Any], further: Iterable[Any] = ()) -> None:
        self.generators: list[Any] = []
        self.objects: list[Any] = []
        self.contents: dict[int, Any] = {}
        self.tensors: list[Tensor] = []
        given = list(things)
        self._given = {id(thing) for thing in given}
        waiting, seen = deque((thing, True) for thing in (*given, *further)), set[tuple[int, bool]]()
        while waiting and len(seen) < _MOST:
            thing, own = waiting.popleft()
            if isinstance(thing, _ARRAYS):
                if own and is_state(thing, whole=False):
                    self.contents.setdefault(id(thing), thing)
                if isinstance(thing, Tensor):
                    self.tensors.append(thing)
            # what the user's own lead to counts as that, though an installed package may lead to it too
            if isinstance(thing, _PLAIN) or (id(thing), own) in seen or (id(thing), True) in seen:
                continue
            seen.add((id(thing), own))
            entries, own = self._inside(thing, own)
            waiting.extend((entry, own) for entry in entries)

    def _inside(self, thing: Any, own: bool) -> tuple[Iterable[Any], bool]:
        """What one of them holds, and whether that is the user's own; what it is itself is taken note of."""
        nothing: tuple[Iterable[Any], bool] = (), False
        if isinstance(thing, GENERATORS):
            self.generators.append(thing)
        elif isinstance(thing, list | dict | set | tuple | deque):
            if size_of(thing) > _MANY:
                return nothing
            if own and is_container(thing):
                self.contents[id(thing)] = thing
            return entries_of(thing), own
        elif isinstance(thing, Optimizer):  # which fills its containers whatever class it is of
            held = [thing.state, *thing.state.values(), thing.param_groups, *thing.param_groups]
            self.contents.update({id(entry): entry for entry in held if is_container(entry)})
            return held, own
        elif isinstance(thing, functools.partial):
            return [thing.func, *thing.args, *thing.keywords.values()], own
        elif isinstance(thing, MethodType):
            return [thing.__self__], own
        elif isinstance(thing, FunctionType):
            cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
            defaults = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
            return [*cells, *defaults], is_users(thing.__module__)
        elif type(thing).__module__.split(".")[0] not in _CLOSED and not isinstance(thing, _BUSY):
            entries = getattr(thing, "__dict__", None)
            if not isinstance(entries, dict):
                return nothing
            network = isinstance(thing, nn.Module)
            held = list(entries.values())
            if network:  # tensors, most of it, and hooks that there are none of
                tensors = id(thing) not in self._given
                held = [e for n, e in entries.items() if n not in _REGISTRIES or _followed(n, e, tensors)]
            if any(isinstance(entry, _BUSY) for entry in held):
                return nothing
            own = isinstance(thing, SimpleNamespace | Dataset) or is_users(type(thing).__module__)
            if own and not network:  # which kept_state keeps
                self.objects.append(thing)
            return held, own
        return nothing


def _followed(registry: str, entries: Any, tensors: bool) -> bool:
    return bool(entries) and (tensors or registry not in ("_parameters", "_buffers"))


@functools.cache
def is_users(home: str | None) -> bool:
    """Whether a module of Python is neither Python's, nor an installed package's, nor this one's.

    Example:
        >>> is_users("__main__"), is_users("torch.nn"), is_users("collections")
        (True, False, False)
    """
    if not home or home.split(".")[0] in (*_LIBRARIES, *_CLOSED):
        return False
    file = getattr(sys.modules.get(home), "__file__", None) or ""
    return home not in sys.builtin_module_names and not file.startswith(_INSTALLED) and "-packages" not in file


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # empty
        return False
