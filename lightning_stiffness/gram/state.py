"""Measuring on a module without leaving a trace: modes, buffers, random state."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def measuring(module: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients in full precision; all of it undone at the end, also after an error.

    Inside: every submodule in eval mode, gradients on even under ``no_grad`` or ``inference_mode``, autocast
    and TF32 off. Afterwards: training flags per submodule, buffers, and the random state of Python, NumPy
    and torch are what they were.
    """
    flags = {submodule: submodule.training for submodule in module.modules()}
    with ExitStack() as stack:
        stack.enter_context(kept_random_state())
        stack.enter_context(kept_buffers(module))
        stack.enter_context(torch.inference_mode(False))
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
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """The buffers of a module are at the end what they were before: same tensors, same values."""
    before = [
        (owner, name, buffer, None if buffer is None else buffer.detach().clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
    ]
    versions = [_version(buffer) for _, _, buffer, _ in before]
    try:
        yield
    finally:
        for (owner, name, buffer, copy), version in zip(before, versions, strict=True):
            owner._buffers[name] = buffer
            if buffer is not None and copy is not None and _version(buffer) != version:
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(copy)


def _version(tensor: Tensor | None) -> int:
    # Inference tensors keep no version: -1 never equals a later reading, so they are always written back.
    return -1 if tensor is None or tensor.is_inference() else tensor._version


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
