"""Other tensors in the place of a module's parameters, for the time of a ``with`` block.

``torch.func.functional_call`` loses parameters of modules that hang in two places and does not reach the
flat weights of recurrent layers; this does both, and puts the very same objects back.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def swapped(module: nn.Module, tensors: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Every use of a parameter sees the tensor given for it, wherever the parameter hangs.

    Args:
        module: the module; changed inside the block, the same objects in the same order after it.
        tensors: parameter → tensor to use in its place.
    """
    if any(isinstance(owner, torch.jit.ScriptModule) for owner in module.modules()):
        raise RuntimeError("a scripted module keeps its parameters where they cannot be exchanged")
    slots = [
        (owner._parameters, name, parameter)
        for owner in module.modules()
        for name, parameter in owner._parameters.items()
        if parameter is not None and parameter in tensors
    ]
    recurrent = [(owner, owner._flat_weights) for owner in module.modules() if isinstance(owner, nn.RNNBase)]
    try:
        for holder, name, parameter in slots:
            holder[name] = tensors[parameter]  # type: ignore[assignment]
        for owner, weights in recurrent:
            owner._flat_weights = [tensors.get(w, w) for w in weights]  # type: ignore[arg-type]
        yield
    finally:
        for holder, name, parameter in slots:
            holder[name] = parameter
        for owner, weights in recurrent:
            owner._flat_weights = weights
