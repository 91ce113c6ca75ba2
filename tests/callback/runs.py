"""Small runs to measure in, and stiffness written out by hand from its definitions."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.devices import ACCELERATOR


def digits(
    n: int, seed: int = 0, classes: int = 4, noise: float = 0.7, dtype: torch.dtype = torch.float32
) -> TensorDataset:
    """Noisy copies of one pattern per class, [n, 1, 12, 12]: learnt within an epoch, as digits are."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 1, 12, 12, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    disturbance = torch.randn(n, 1, 12, 12, generator=generator)
    return TensorDataset((patterns[labels] + noise * disturbance).to(dtype), labels)


def fc() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Linear(20, 4))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(72, 4),
    )


class Classifier(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def loaders(train: Dataset[Any], val: Dataset[Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"train_dataloaders": DataLoader(train, batch_size=8, shuffle=True)}
    if val is not None:
        found["val_dataloaders"] = DataLoader(val, batch_size=16)
    return found


def fit(
    net: nn.Module | None = None,
    callbacks: Any = (),
    *,
    module: pl.LightningModule | None = None,
    train: Dataset[Any] | None = None,
    val: Dataset[Any] | None = None,
    max_epochs: int = 2,
    seed: int = 1,
    **options: Any,
) -> tuple[pl.LightningModule, pl.Trainer]:
    """A whole run; the network is built before the seed is set, so pass one made under a seed."""
    module = module or Classifier(net or fc())
    settings = {
        "accelerator": ACCELERATOR,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        **options,
    }
    trainer = pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), **settings)
    torch.manual_seed(seed)
    trainer.fit(module, **loaders(digits(40) if train is None else train, digits(24, 1) if val is None else val))
    return module, trainer


def gradients_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """One float64 gradient vector per example, by one backward pass each."""
    net = net.double().eval()
    rows = []
    for i in range(len(x)):
        loss = functional.cross_entropy(net(x[i : i + 1].double()), y[i : i + 1])
        rows.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(net.parameters()))]))
    return rows


def stiffness_by_hand(rows: list[Tensor], columns: list[Tensor], measure: str) -> list[list[float]]:
    table = []
    for a in rows:
        line = []
        for b in columns:
            dot = float((a * b).sum())
            if measure == "cos":
                line.append(dot / math.sqrt(float((a * a).sum())) / math.sqrt(float((b * b).sum())))
            else:
                line.append(0.0 if dot == 0 else math.copysign(1.0, dot))
        table.append(line)
    return table


def class_matrix_by_hand(
    table: list[list[float]], y: list[int], z: list[int], classes: int, symmetric: bool
) -> list[list[float]]:
    matrix = []
    for a in range(classes):
        line = []
        for b in range(classes):
            cell = [
                table[i][j]
                for i in range(len(y))
                for j in range(len(z))
                if y[i] == a and z[j] == b and not (symmetric and i == j)
            ]
            line.append(sum(cell) / len(cell))
        matrix.append(line)
    return matrix
