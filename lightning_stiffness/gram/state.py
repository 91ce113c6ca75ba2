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

from lightning_stiffness.gram.backends import DifferentiableRNNs, full_precision


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
    tensors: dict[int, tuple[Tensor, Tensor]] = {}
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
        for tensor in values:
            if not is_lazy(tensor):  # a lazy tensor has no value yet
                tensors[id(tensor)] = (tensor, _copied(tensor))
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
        for tensor, before in tensors.values():
            if not _untouched(tensor, before):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    _restore(tensor, before)


def _copied(tensor: Tensor) -> Tensor:
    """The same values in memory of their own."""
    # clone does not know every kind of quantisation
    return copy.deepcopy(tensor.detach()) if tensor.is_quantized else tensor.detach().clone()


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes → the integers in which tensors are compared bit by bit."""
_USUAL = frozenset(
    {
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    }
)


def _untouched(tensor: Tensor, before: Tensor) -> bool:
    """A quick look at tensors of the usual kinds: whether they have the same bits. False for all others."""
    # By value: some kernels write into buffers without counting it as a new version.
    if tensor.dtype not in _USUAL or tensor.dtype != before.dtype or tensor.layout != torch.strided:
        return False
    kind = _INTEGERS[tensor.element_size()]
    try:
        return torch.equal(tensor.view(kind), before.view(kind))
    except Exception:  # an unusual kind
        return False


def _restore(tensor: Tensor, before: Tensor) -> None:
    """A tensor with its earlier values, in place; untouched where nothing changed."""
    if tensor.is_meta and before.is_meta:  # no values
        return
    now, then = _dense(tensor), _dense(before)
    if now is None or then is None or _form(tensor, now) != _form(before, then):
        # Resized, or other entries of a sparse tensor: there is no place for the earlier values in it. Or a layout
        # such as MKL-DNN's, which is private to its kernels: neither can its values be compared.
        tensor.data = before
        return
    for part, earlier in zip(now, then, strict=True):
        if not _same(part, earlier):
            _write(part, earlier)


def _dense(tensor: Tensor) -> list[Tensor] | None:
    """Dense tensors that share a tensor's memory and make it up; None where it gives none."""
    layout = tensor.layout
    if tensor.is_quantized:  # scale and zero point are written to no other tensor, even of the same memory
        return [tensor]
    tensor = tensor.detach()
    if tensor.is_nested:
        return list(tensor.unbind())
    if layout == torch.strided:
        return [tensor]
    if layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return None


def _form(tensor: Tensor, parts: list[Tensor]) -> tuple[Any, ...]:
    sparse = tensor.layout == torch.sparse_coo and tensor.is_coalesced()
    size = None if tensor.is_nested else tensor.shape  # that of nested tensors is in their parts
    return tensor.layout, tensor.device, sparse, size, [(part.shape, part.dtype) for part in parts]


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same bits: NaN is NaN, and 0 is not -0."""
    try:
        if a.is_quantized:
            return torch.equal(a, b)
        if a.is_complex():
            a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
        kind = _INTEGERS[a.element_size()]
        return torch.equal(a.resolve_neg().view(kind), b.resolve_neg().view(kind))
    except Exception:  # a class of tensors may know as little of comparing as it likes
        return False


def _write(tensor: Tensor, values: Tensor) -> None:
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:  # expanded: one place for all these values
            tensor, values = tensor.narrow(dim, 0, 1), values.narrow(dim, 0, 1)
    tensor.copy_(values)


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
