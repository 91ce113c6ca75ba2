"""Parameters that a forward pass replaces, or scales down to a largest norm: afterwards they are what they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def kept_parameters(module: nn.Module) -> Iterator[None]:
    """Keep a module's parameters against what its own forward pass does to them.

    Put back are parameters and submodules that were replaced (``self.layer = self.layer.to(dtype)``), the data
    of a parameter that was exchanged (``weight.data = ...``), and embeddings with ``max_norm``, whose rows torch
    scales down in place when they are looked up.

    Example:
        >>> net = nn.Embedding(3, 2, max_norm=0.1)
        >>> before = net.weight.detach().clone()
        >>> with kept_parameters(net):
        ...     _ = net(torch.tensor([1]))
        >>> torch.equal(net.weight, before)
        True
    """
    owners = [
        (owner, owner._parameters.copy(), owner._modules.copy())
        for owner in module.modules()
        if not isinstance(owner, torch.jit.ScriptModule)
    ]
    # The old data under a name of its own: nothing is copied
    data = [(parameter, parameter.data) for parameter in module.parameters() if not is_lazy(parameter)]
    scaled = [(weight, weight.detach().clone()) for weight in _scaled_in_place(module)]
    try:
        yield
    finally:
        for owner, parameters, modules in owners:
            for present, before in ((owner._parameters, parameters), (owner._modules, modules)):
                if any(present.get(name) is not value for name, value in before.items()):
                    present.update(before)  # type: ignore[arg-type]
        for parameter, old in data:
            if parameter.data_ptr() != old.data_ptr() or parameter.dtype != old.dtype:
                parameter.data = old
        for weight, copy in scaled:
            if not torch.equal(weight, copy):
                weight.data.copy_(copy)


def _scaled_in_place(module: nn.Module) -> list[Tensor]:
    found = (part for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag))
    return [part.weight for part in found if part.max_norm is not None]
