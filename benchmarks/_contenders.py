"""Ways to the Gram of per-example gradients: this package's engines, PyTorch's recipe, and other packages."""

import importlib.metadata
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import _peers as peers
import torch
from _zoo import Network, loss_fn
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness import gradient_gram

Compute = Callable[[], Tensor]
"""Forms the Gram ``[n, n]``."""


def mean_loss(module: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean of the examples' losses."""
    return loss_fn(module, batch).mean()


def engine(name: str, memory_budget: int | None = None, *, mean: bool = False) -> Callable[[Network, int], Compute]:
    """An engine of this package; by the mean of the losses, as a training step gives it, or by each."""
    loss = mean_loss if mean else loss_fn

    def prepare(network: Network, room: int) -> Compute:
        batch = (network.x, network.y)
        return lambda: (
            gradient_gram(network.module, batch, loss_fn=loss, engine=name, memory_budget=memory_budget).values
        )

    return prepare


def torch_func(network: Network, room: int) -> Compute:
    """The recipe of PyTorch's tutorial on per-sample gradients, then G Gᵀ parameter by parameter."""
    trained = {name: p.detach() for name, p in network.module.named_parameters() if p.requires_grad}
    rest = {name: p.detach() for name, p in network.module.named_parameters() if not p.requires_grad}
    rest.update(network.module.named_buffers())

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = torch.func.functional_call(network.module, (parameters, rest), (x[None],))
        return F.cross_entropy(output, y[None])

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    return lambda: peers.products(per_example(trained, network.x, network.y))


@dataclass(frozen=True)
class Contender:
    """One way to the Gram."""

    title: str
    prepare: Callable[[Network, int], Compute]
    """Network and bytes that may be used → what is timed; setting up is not."""
    held: float = 0
    """How many times all per-example gradients are held at once; 0 where they are not, or not all."""
    package: str | None = None
    """Distribution that has to be installed."""

    def needs(self, network: Network) -> int:
        """Bytes that it is known to need beforehand: ``held · n · p`` numbers of four bytes."""
        return int(self.held * network.n * network.size * 4)

    @property
    def version(self) -> str | None:
        """Version of the installed package; None where it is not installed."""
        try:
            return importlib.metadata.version(self.package or "lightning-stiffness")
        except importlib.metadata.PackageNotFoundError:
            return None


CONTENDERS: dict[str, Contender] = {
    "layerwise": Contender("layerwise (this package)", engine("layerwise")),
    "vmap": Contender("vmap (this package)", engine("vmap")),
    "loop": Contender("loop (this package)", engine("loop")),
    "torch.func": Contender("torch.func vmap(grad), G Gᵀ", torch_func, 1, "torch"),
    "backpack": Contender("BackPACK BatchGrad, G Gᵀ", peers.backpack, 1, "backpack-for-pytorch"),
    "opacus": Contender("Opacus GradSampleModule, G Gᵀ", peers.opacus, 2, "opacus"),
    "kronfluence": Contender("kronfluence identity", peers.kronfluence, 0, "kronfluence"),
    "nngeometry": Contender("nngeometry GramMatrix", peers.nngeometry, 0, "nngeometry"),
    "dattri": Contender("dattri TracIn", peers.dattri, 0, "dattri"),
}


def quiet() -> None:
    """Silence what the packages say about themselves; errors still come through."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
