"""The networks of Fort et al. (arXiv:1901.09491v3) for 28×28 images, as LightningModules."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy


def fully_connected(classes: int = 10) -> nn.Sequential:
    """784 → 500 → 300 → 100 → classes, with ReLU in between."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 500),
        nn.ReLU(),
        nn.Linear(500, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def convolutional(classes: int = 10) -> nn.Sequential:
    """Three 3×3 convolutions of 16, 32 and 32 channels, each with ReLU and 2×2 max-pooling, then a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 28 → 14
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 14 → 7
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 7 → 3
        nn.Flatten(),
        nn.Linear(32 * 3 * 3, classes),
    )


NETWORKS = {"fc": fully_connected, "cnn": convolutional}


class ImageClassifier(LightningModule):
    """A classifier trained with Adam at a constant learning rate, as in the paper."""

    def __init__(self, model: str = "fc", lr: float = 1e-3, classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = NETWORKS[model](classes)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of images ``[n, 1, 28, 28]``."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Mean cross-entropy of the batch."""
        images, labels = batch
        logits = self(images)
        loss = cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("loss/train", loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("accuracy/train", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log loss and accuracy on examples that are not trained on."""
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("loss/val", cross_entropy(logits, labels), prog_bar=True)
        self.log("accuracy/val", self.val_accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant learning rate."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
