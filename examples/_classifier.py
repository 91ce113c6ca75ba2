"""The LightningModule that trains a network on images."""

import torch
from _networks import COLOUR_NETWORKS, NETWORKS
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy


class ImageClassifier(LightningModule):
    """A classifier trained with Adam at a constant learning rate, as in the paper."""

    def __init__(
        self, model: str = "fc", lr: float = 1e-3, classes: int = 10, channels: int = 1, side: int = 28
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = {**NETWORKS, **COLOUR_NETWORKS}[model](classes, channels, side)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of images ``[n, channels, side, side]``."""
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
