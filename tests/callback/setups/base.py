"""What a set-up is, and the registry they enter by a decorator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tests.callback.runs import digits


def pixels_and_class(batch: Any) -> int:
    """The class of a batch ``(x, y)`` of one example."""
    return int(batch[1])


@dataclass
class Run:
    """One run, made anew for each fit: nothing in it has been trained yet."""

    module: Any
    loss: Callable[[Any, Any], Tensor] | None = None
    """The loss of a batch of one example, written without ``training_step``: what the numbers are held to."""
    label: Callable[[Any], int] | None = pixels_and_class
    """The class of a batch of one example; None where there are no classes."""
    train: Dataset[Any] = field(default_factory=lambda: digits(24, noise=3))
    val: Dataset[Any] | None = field(default_factory=lambda: digits(16, 1, noise=3))
    datamodule: Any = None
    loader: dict[str, Any] = field(default_factory=dict)
    """Arguments of the training loader."""
    callbacks: list[Any] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    stiffness: dict[str, Any] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    """Plain attributes of the module that its loss depends on."""
    batch: Callable[[Any], Any] = lambda batch: batch
    """What the run's own hooks make of a collated batch, for ``loss``."""
    own_loaders: bool = False
    """Whether the module itself makes the loaders."""
    parameters: Callable[[str], bool] = lambda name: True
    """Which parameters are measured, by name."""
    slow: bool = False
    """Whether some of it is beyond one batched pass, which the callback says."""
    compile: bool = False
    """Whether the whole module goes through ``torch.compile``."""
    package: Any = pl


@dataclass(frozen=True)
class Setup:
    """A named way to make a run, and what the callback does in it."""

    name: str
    make: Callable[[], Run]
    refused: str | None = None
    """The words it is refused in; None: it works."""
    needs: Callable[[], str | None] = lambda: None
    """Why it cannot run here; None if it can."""


SETUPS: dict[str, Setup] = {}


def setup(name: str, **options: Any) -> Callable[[Callable[[], Run]], Callable[[], Run]]:
    """Registers a function that makes a :class:`Run`; as a name, what a user would call it."""

    def register(make: Callable[[], Run]) -> Callable[[], Run]:
        assert name not in SETUPS, name
        SETUPS[name] = Setup(name, make, **options)
        return make

    return register


def small(width: int = 10) -> nn.Sequential:
    """784 is not needed to see a network learn: [n, 1, 12, 12] to 4 classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(144, width), nn.Tanh(), nn.Linear(width, 4))


def cross_entropy(module: Any, batch: Any) -> Tensor:
    """The plain loss of ``module.net`` on ``(x, y)``."""
    x, y = batch
    return functional.cross_entropy(module.net(x), y)


class Plain(pl.LightningModule):
    """A classifier to derive from, with nothing but what a fit needs."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = small() if net is None else net

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(self, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", cross_entropy(self, batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)
