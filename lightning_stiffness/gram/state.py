"""Measuring on a module without leaving a trace: modes, buffers, random state."""

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_stiffness.gram.backends import DifferentiableRNNs, full_precision
from lightning_stiffness.gram.bare import bare
from lightning_stiffness.gram.held import Held
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.norms import sound_norms


@contextmanager
def measuring(
    module: nn.Module, further: Iterable[Any] = (), batches: Iterable[Tensor] = ()
) -> Iterator[KeptModule]:
    """Evaluation mode with gradients in full precision; all of it undone at the end, also after an error.

    Inside: every submodule in eval mode, gradients on even under ``no_grad`` or ``inference_mode``, autocast
    and TF32 off, parameters without ``.grad`` and hooks. Afterwards: training flags per submodule, parameters,
    buffers, attributes, and the random state of Python, NumPy and torch are what they were.

    Args:
        module: the module.
        further: objects that are kept with it, such as the loss function.
        batches: the tensors of the batches that losses are given.

    Yields:
        What keeps the module as it is here; its own forward pass may change it.
    """
    parts = [*module.modules()]
    flags = [part.training for part in parts]
    with ExitStack() as stack:
        stack.enter_context(kept_random_state())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        parameters = [p for part in parts for p in part._parameters.values() if p is not None]
        stack.enter_context(bare(parameters))
        for kind in {p.device.type for p in parameters} | {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(full_precision())
        if DifferentiableRNNs.needed(parts):
            stack.enter_context(DifferentiableRNNs())
        stack.enter_context(sound_norms())
        kept = None
        try:
            # nn.Module.eval() may be overridden, to keep some part in training mode
            for part, flag in zip(parts, flags, strict=True):
                if flag:
                    part.training = False
            kept = KeptModule(parts, further, batches)
            yield kept
        finally:
            if kept is not None:
                kept.put_back()
            for part, flag in zip(parts, flags, strict=True):
                if part.training != flag:
                    part.training = flag


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
def kept_state(module: nn.Module) -> Iterator[Held]:
    """What a forward pass may change beside the parameters is at the end what it was before.

    Yields:
        What is kept: buffers, and the attributes of every submodule with what their containers and objects hold.
    """
    held = Held(module.modules())
    try:
        yield held
    finally:
        held.put_back()
