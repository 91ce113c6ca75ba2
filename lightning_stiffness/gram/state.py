"""Measuring on a module without leaving a trace: modes, buffers, random state."""

import collections
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram.backends import DifferentiableRNNs, full_precision
from lightning_stiffness.gram.snapshot import Snapshot


@contextmanager
def measuring(module: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients in full precision; all of it undone at the end, also after an error.

    Inside: every submodule in eval mode, gradients on even under ``no_grad`` or ``inference_mode``, autocast
    and TF32 off. Afterwards: training flags per submodule, buffers, attributes, and the random state of
    Python, NumPy and torch are what they were.
    """
    flags = {submodule: submodule.training for submodule in module.modules()}
    with ExitStack() as stack:
        stack.enter_context(kept_random_state())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(kept_state(module))
        stack.enter_context(torch.enable_grad())
        for kind in {p.device.type for p in module.parameters()} | {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(full_precision())
        if DifferentiableRNNs.needed(module):
            stack.enter_context(DifferentiableRNNs())
        try:
            # nn.Module.eval() may be overridden, to keep some part in training mode
            for submodule, flag in flags.items():
                if flag:
                    submodule.training = False
            yield
        finally:
            for submodule, flag in flags.items():
                if submodule.training != flag:
                    submodule.training = flag


@contextmanager
def kept_random_state() -> Iterator[None]:
    """The random state of Python, NumPy and torch (all devices in use) is at the end what it was before."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if initialized else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random state from a seed inside, what it was before outside.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0):
        ...     _ = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    with kept_random_state():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the state that user code draws from
        torch.manual_seed(seed)
        yield


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """What a forward pass may change beside the parameters is at the end what it was before.

    Kept: buffers (same tensors, same values), and the plain attributes of every submodule with the contents
    of its lists, dicts, sets and queues, which running means, metric states and caches live in.
    """
    tensors: list[Tensor] = []
    owners: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = []
    contents: list[tuple[Any, Any]] = []
    for owner in module.modules():
        if isinstance(owner, torch.jit.ScriptModule):  # its attributes live in C++, out of reach
            values = [buffer for _, buffer in owner.named_buffers(recurse=False)]
        else:
            attributes = owner.__dict__.copy()
            buffers = attributes["_buffers"]
            owners.append((owner, attributes, buffers.copy()))
            values = [buffer for buffer in buffers.values() if buffer is not None]
            for key, value in attributes.items():
                kind = type(value)
                if kind in _PLAIN or key in _STRUCTURE:
                    continue
                if kind in _CONTAINERS:
                    contents.append((value, value.copy()))
                elif isinstance(value, Tensor):
                    values.append(value)
        tensors += [tensor for tensor in values if not is_lazy(tensor)]  # a lazy tensor has no value yet
    snapshot = Snapshot(tensors)
    try:
        yield
    finally:
        for owner, attributes, buffers in owners:
            present = owner.__dict__
            present.update(attributes)
            if len(present) != len(attributes):
                for name in present.keys() - attributes.keys():
                    del present[name]
            _refill(attributes["_buffers"], buffers)
        for container, before in contents:
            _refill(container, before)
        snapshot.put_back()


_STRUCTURE = frozenset({"_parameters", "_buffers", "_modules"})
_CONTAINERS = frozenset({list, dict, set, collections.deque})
_PLAIN = frozenset(
    {bool, int, float, str, type(None), collections.OrderedDict}
)  # most of them, seen first for speed


def _refill(container: Any, before: Any) -> None:
    """The container with its earlier contents, in place; untouched where nothing changed."""
    if len(container) == len(before) and (
        not before or all(a is b for a, b in zip(_entries(container), _entries(before), strict=True))
    ):
        return
    container.clear()
    container.extend(before) if isinstance(container, list | collections.deque) else container.update(before)


def _entries(container: Any) -> list[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)
