"""Data sets, loaders, workers and data modules."""

import random

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, WeightedRandomSampler

from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy, setup


class Counted(Dataset):
    """Counts how often it was asked, and adds noise of the run's own random state."""

    def __init__(self, n, seed, noise):
        self.items, self.noise, self.asked = digits(n, seed, noise=3), noise, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.asked += 1
        x, y = self.items[i]
        return x + self.noise * torch.randn_like(x), y


@setup("random augmentation in the dataset")
def augmented():
    class Watches(Plain):
        def training_step(self, batch, batch_idx):
            self.log("asked", float(self.trainer.train_dataloader.dataset.asked))
            return cross_entropy(self, batch)

    # the noise of a probe is drawn once, with the callback's seed: too small to matter to the numbers
    return Run(Watches(), cross_entropy, train=Counted(24, 0, 1e-9))


@setup("two workers, kept between epochs")
def workers():
    loader = {"num_workers": 2, "persistent_workers": True, "batch_size": 12}
    return Run(Plain(), cross_entropy, train=Counted(24, 0, 1e-9), loader=loader)


@setup("two workers, started anew each epoch")
def fresh_workers():
    loader = {"num_workers": 2, "prefetch_factor": 1, "batch_size": 12}
    return Run(Plain(), cross_entropy, train=Counted(24, 0, 1e-9), loader=loader)


@setup("Subset and ConcatDataset")
def combined():
    first, second = digits(20, 4, noise=3), digits(20, 5, noise=3)
    train = ConcatDataset([Subset(first, range(3, 15)), Subset(second, range(12))])
    return Run(Plain(), cross_entropy, train=train, val=Subset(digits(30, 1, noise=3), range(5, 25)))


@setup("a sampler with weights and a generator of its own")
def sampler():
    generator = torch.Generator().manual_seed(7)
    weights = torch.rand(24, generator=torch.Generator().manual_seed(8))
    loader = {"shuffle": False, "sampler": WeightedRandomSampler(weights, 24, generator=generator)}
    return Run(Plain(), cross_entropy, loader=loader)


@setup("no validation data")
def no_validation():
    return Run(Plain(), cross_entropy, val=None, stiffness={"splits": ("train",)})


@setup("a data module that makes its data in setup")
def data_module():
    class Data(pl.LightningDataModule):
        def setup(self, stage):
            self.train, self.val = digits(24, noise=3), digits(16, 1, noise=3)
            self.rng, self.calls = np.random.default_rng(1), []

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=8, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.val, batch_size=8)

        def on_before_batch_transfer(self, batch, dataloader_idx):
            self.calls.append(self.rng.random() + NOISE.random())
            return batch[0] / 2 + 1e-7 * len(self.calls) + 1e-7 * self.calls[-1], batch[1]

    NOISE.bit_generator.state = np.random.default_rng(3).bit_generator.state
    return Run(Plain(), lambda m, b: cross_entropy(m, (b[0] / 2, b[1])), datamodule=Data())


@setup("loaders of the module, made anew each epoch")
def module_loaders():
    class Loads(Plain):
        def train_dataloader(self):
            return DataLoader(digits(24, noise=3), batch_size=8, shuffle=True)

        def val_dataloader(self):
            return DataLoader(digits(16, 1, noise=3), batch_size=8)

    run = Run(Loads(), cross_entropy, trainer={"reload_dataloaders_every_n_epochs": 1})
    run.own_loaders = True
    return run


NOISE = np.random.default_rng(3)
CHOICE = random.Random(4)


class Drawn(Dataset):
    """Noise from a generator that the data set keeps, as many do, or from one beside it."""

    def __init__(self, n, seed, keeps):
        self.items, self.keeps = digits(n, seed, noise=3), keeps
        self.rng, self.own = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        x, y = self.items[i]
        noise = self.rng.random() + float(torch.rand((), generator=self.own)) if self.keeps else NOISE.random()
        return x + 1e-9 * noise, y


@setup("a generator of random numbers that the data set keeps")
def own_generator():
    return Run(Plain(), cross_entropy, train=Drawn(24, 0, True), val=Drawn(16, 1, True))


@setup("generators of random numbers in global variables")
def global_generator():
    class Draws(Plain):
        def training_step(self, batch, batch_idx):
            self.log_dict({"drawn": CHOICE.random(), "noise": float(NOISE.random())})
            return cross_entropy(self, batch)

    NOISE.bit_generator.state = np.random.default_rng(3).bit_generator.state
    CHOICE.seed(4)
    return Run(Draws(), cross_entropy, train=Drawn(24, 0, False), val=Drawn(16, 1, False))
