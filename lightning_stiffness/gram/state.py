"""Measuring on a module without leaving a trace: modes, buffers, random state."""

import collections
import copy
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


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
        stack.enter_context(_full_precision())
        try:
            # nn.Module.eval() may be overridden, to keep some part in training mode
            for submodule in flags:
                submodule.training = False
            yield
        finally:
            for submodule, flag in flags.items():
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
def kept_state(module: nn.Module) -> Iterator[None]:
    """What a forward pass may change beside the parameters is at the end what it was before.

    Kept: buffers (same tensors, same values), and the plain attributes of every submodule with the contents
    of its lists, dicts, sets and queues, which running means, metric states and caches live in.
    """
    tensors: dict[int, tuple[Tensor, Tensor]] = {}
    owners = []
    for owner in module.modules():
        if isinstance(owner, torch.jit.ScriptModule):  # its attributes live in C++, out of reach
            attributes: dict[str, Any] = {}
            buffers: dict[str, Tensor | None] = dict(owner.named_buffers(recurse=False))
        else:
            attributes = {k: v for k, v in owner.__dict__.items() if k not in _STRUCTURE}
            buffers = dict(owner._buffers)
        contents = [(value, copy.copy(value)) for value in attributes.values() if type(value) in _CONTAINERS]
        owners.append((owner, attributes, buffers, contents))
        for tensor in (*buffers.values(), *attributes.values()):
            if isinstance(tensor, Tensor) and not is_lazy(tensor):  # a lazy tensor has no value yet
                tensors[id(tensor)] = (tensor, tensor.detach().clone())
    try:
        yield
    finally:
        for owner, attributes, buffers, contents in owners:
            if isinstance(owner, torch.jit.ScriptModule):
                continue
            for name in owner.__dict__.keys() - attributes.keys() - _STRUCTURE:
                del owner.__dict__[name]
            owner.__dict__.update(attributes)
            _refill(owner._buffers, buffers)
            for container, before in contents:
                _refill(container, before)
        for tensor, before in tensors.values():
            # By value: some kernels write into buffers without counting it as a new version.
            if not torch.equal(tensor, before):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.detach().copy_(before)


_STRUCTURE = frozenset({"_parameters", "_buffers", "_modules"})
_CONTAINERS = (list, dict, set, collections.deque)


def _refill(container: Any, before: Any) -> None:
    """The container with its earlier contents, in place; untouched where nothing changed."""
    if len(container) == len(before) and all(
        a is b for a, b in zip(_entries(container), _entries(before), strict=True)
    ):
        return
    container.clear()
    container.extend(before) if isinstance(container, list | collections.deque) else container.update(before)


def _entries(container: Any) -> list[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Matrix products of float32 in float32, on processor and GPU."""
    precision = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32 if torch.cuda.is_available() else None
    try:
        torch.set_float32_matmul_precision("highest")
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
