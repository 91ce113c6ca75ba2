"""A training script as a user has it: networks, data, and checkpoints of a short run."""

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


def dataset(size=60, seed=0):
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :3].argmax(1))


class Data(LightningDataModule):
    def __init__(self, batch_size=20):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        self.train, self.val = dataset(), dataset(40, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.hparams["batch_size"])

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return 2 * x, y


class Net(LightningModule):
    """Everything that a training step may lean on: metrics, logging, the trainer, the epoch, dropout, BatchNorm."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 3)
        )
        self.accuracy = MulticlassAccuracy(3)

    def setup(self, stage):
        self.scale = float(self.trainer.datamodule.hparams["batch_size"])

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy)
        # A loss that changes with the epoch: a measurement at another epoch gives other numbers.
        weight = 0.1 * self.current_epoch + 0.001 * self.trainer.global_step
        return self.scale * cross_entropy(logits, y) + weight * logits.square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("loss", cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Plain(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.net(x)


class Own(Net):
    """Has loaders of its own."""

    def setup(self, stage):
        self.scale = 1.0

    def train_dataloader(self):
        return DataLoader(dataset(), batch_size=20)


class Late(Own):
    """Makes its layers late, as for large models."""

    def __init__(self, width=8):
        super().__init__(width)
        self.width, self.net = width, None

    def configure_model(self):
        if self.net is None:
            self.net = nn.Sequential(nn.Linear(4, self.width), nn.ReLU(), nn.Linear(self.width, 3))


class Manual(Net):
    def __init__(self, width=8):
        super().__init__(width)
        self.automatic_optimization = False


class Needs(Net):
    """Has an argument that checkpoints do not hold."""

    def __init__(self, width=8, *, needed):
        super().__init__(width)
        self.save_hyperparameters(ignore=["needed"])
        self.needed = needed


class Broken(Own):
    def training_step(self, batch, batch_idx):
        return {}["nothing"]


def loss(module, batch):
    x, y = batch
    return cross_entropy(module(x), y, reduction="none")


def make_plain():
    print("printed by the user's own code")
    return Plain(6)


def both():
    return dataset(), dataset(40, seed=1)


def named():
    return {"train": DataLoader(dataset(), batch_size=20), "valid": dataset(40, seed=1)}


def only_numbers():
    return 3


def classes_of(batch):
    return batch[1] % 2


def train(folder):
    """Two epochs with a checkpoint at the end of each and behind each second batch; what the callback measured."""
    from pytorch_lightning import Trainer, seed_everything
    from pytorch_lightning.callbacks import ModelCheckpoint

    from lightning_stiffness import StiffnessCallback

    seed_everything(0, verbose=False)
    stiffness = StiffnessCallback(20, every_n_train_steps=2, resamples=20)
    trainer = Trainer(
        max_epochs=2,
        callbacks=[
            stiffness,
            ModelCheckpoint(save_top_k=-1, every_n_epochs=1),
            ModelCheckpoint(save_top_k=-1, every_n_train_steps=2, filename="batch-{step}"),
        ],
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(Net(6), datamodule=Data(10))
    return stiffness
