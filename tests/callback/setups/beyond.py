"""What a step changes beyond its module: networks, optimizers, counters, random generators."""

import copy
import itertools
import random

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


def follow(teacher, net):
    """One step of a moving average."""
    with torch.no_grad():
        for its, mine in zip(teacher.parameters(), net.parameters(), strict=True):
            its.lerp_(mine.to(its.dtype), 0.2)


def taught(module, teacher, batch):
    logits = module.net(batch[0])
    with torch.no_grad():
        target = teacher(batch[0])
    return functional.cross_entropy(logits, batch[1]) + functional.mse_loss(logits, target)


def after_following(module, teacher, batch):
    """The loss after one step of the teacher from where it was."""
    twin = copy.deepcopy(teacher).to(batch[0].device, torch.double)
    follow(twin, module.net)
    return taught(module, twin, batch)


class Holder:
    """An object that keeps a network and a counter."""

    def __init__(self, net=None):
        self.net, self.calls, self.seen = net, 0, []

    def weight(self):
        self.calls += 1
        self.seen.append(self.calls)
        return len(self.seen) / 10


@setup("a teacher in a list, which follows in training_step")
def listed_teacher():
    class Taught(Plain):
        def __init__(self):
            super().__init__()
            self.teachers = [copy.deepcopy(self.net).requires_grad_(False)]

        def on_fit_start(self):
            self.teachers[0].to(self.device)

        def training_step(self, batch, batch_idx):
            follow(self.teachers[0], self.net)
            return taught(self, self.teachers[0], batch)

    return Run(Taught(), lambda m, b: after_following(m, m.teachers[0], b), attributes=("teachers",))


@setup("a teacher in an object, whose tensors training_step replaces")
def replaced_teacher():
    class Taught(Plain):
        def __init__(self):
            super().__init__()
            self.holder = Holder(copy.deepcopy(self.net).requires_grad_(False))

        def on_fit_start(self):
            self.holder.net.to(self.device)

        def training_step(self, batch, batch_idx):
            for its, mine in zip(self.holder.net.parameters(), self.net.parameters(), strict=True):
                its.data = its.data * 0.8 + mine.data * 0.2
            return taught(self, self.holder.net, batch)

    return Run(Taught(), lambda m, b: after_following(m, m.holder.net, b), attributes=("holder",))


GLOBAL = {"teacher": small(), "remembered": small(), "calls": 0, "head": None, "optimizer": None}


@setup("a teacher in a global variable, which follows in training_step")
def global_teacher():
    class Taught(Plain):
        def on_fit_start(self):
            GLOBAL["teacher"].to(self.device)

        def training_step(self, batch, batch_idx):
            follow(GLOBAL["teacher"], self.net)
            self.log("teacher", sum(p.sum() for p in GLOBAL["teacher"].parameters()))
            return taught(self, GLOBAL["teacher"], batch)

        def on_train_batch_end(self, *_):
            GLOBAL["remembered"] = copy.deepcopy(GLOBAL["teacher"])

    GLOBAL["teacher"] = small().requires_grad_(False)
    return Run(Taught(), lambda m, b: after_following(m, GLOBAL["remembered"], b))


@setup("a head in a global variable, trained in training_step by an optimizer of its own")
def global_head():
    class Watches(Plain):
        def on_fit_start(self):
            GLOBAL["head"].to(self.device)

        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            head, optimizer = GLOBAL["head"], GLOBAL["optimizer"]
            optimizer.zero_grad()
            loss = functional.cross_entropy(head(logits.detach()), batch[1])
            loss.backward()
            optimizer.step()
            moments = [state["exp_avg"].sum() for state in optimizer.state.values()]
            self.log_dict({"head": loss.detach(), "steps": float(len(moments)), "moment": moments[0]})
            self.log("gradient", head.weight.grad.norm())
            return functional.cross_entropy(logits, batch[1])

    GLOBAL["head"] = nn.Linear(4, 4)
    GLOBAL["optimizer"] = torch.optim.Adam(GLOBAL["head"].parameters(), lr=0.1)
    return Run(Watches(), cross_entropy, slow=True)


def penalised(module, batch, weight):
    logits = module.net(batch[0])
    return functional.cross_entropy(logits, batch[1]) + weight * logits.square().mean()


def counting(module_class, **options):
    """A run whose loss depends on how often a step was made: six times in training, and once more."""
    return Run(module_class(), lambda module, batch: penalised(module, batch, 0.7), **options)


@setup("a counter in an object, in the loss")
def counter_in_object():
    class Counts(Plain):
        def __init__(self):
            super().__init__()
            self.holder = Holder()

        def training_step(self, batch, batch_idx):
            return penalised(self, batch, self.holder.weight())

    return counting(Counts)


@setup("a counter in a global variable, in the loss")
def counter_in_global():
    class Counts(Plain):
        def training_step(self, batch, batch_idx):
            GLOBAL["calls"] += 1
            return penalised(self, batch, GLOBAL["calls"] / 10)

    GLOBAL["calls"] = 0
    return counting(Counts)


@setup("a counter on the class, in the loss")
def counter_on_class():
    class Counts(Plain):
        calls = 0

        def training_step(self, batch, batch_idx):
            type(self).calls += 1
            return penalised(self, batch, self.calls / 10)

    return counting(Counts)


@setup("an iterator as an attribute, in the loss")
def iterator():
    class Counts(Plain):
        def __init__(self):
            super().__init__()
            self.numbers = itertools.count(1)

        def training_step(self, batch, batch_idx):
            return penalised(self, batch, next(self.numbers) / 10)

    return counting(Counts)


@setup("hyperparameters that a step changes, in the loss")
def hyperparameters():
    class Counts(Plain):
        def __init__(self, calls=0):
            super().__init__()
            self.save_hyperparameters()

        def training_step(self, batch, batch_idx):
            self.hparams.calls += 1
            return penalised(self, batch, self.hparams.calls / 10)

    return counting(Counts)


@setup("a counter of the data module, in the loss")
def counter_of_data():
    class Data(pl.LightningDataModule):
        calls = 0

        def setup(self, stage):
            self.train, self.val = digits(24, noise=3), digits(16, 1, noise=3)

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=8, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.val, batch_size=8)

    class Counts(Plain):
        def training_step(self, batch, batch_idx):
            self.trainer.datamodule.calls += 1
            return penalised(self, batch, self.trainer.datamodule.calls / 10)

    return counting(Counts, datamodule=Data())


DICE = {"numpy": np.random.default_rng(0)}


@setup("random numbers from generators of one's own, logged")
def own_generators():
    class Draws(Plain):
        def __init__(self):
            super().__init__()
            self.torch, self.held = torch.Generator().manual_seed(1), Holder()
            self.held.dice = random.Random(2)

        def training_step(self, batch, batch_idx):
            self.log("drawn", float(DICE["numpy"].random()) + self.held.dice.random())
            self.log("own", torch.rand((), generator=self.torch))
            return cross_entropy(self, batch)

    DICE["numpy"] = np.random.default_rng(0)
    return Run(Draws(), cross_entropy)


LARGE = {"tensor": torch.zeros(1_000_000), "array": np.zeros(1_000_000)}


@setup("large tensors and arrays in a global variable, written to in training_step")
def large():
    class Writes(Plain):
        def on_fit_start(self):
            LARGE["tensor"] = LARGE["tensor"].to(self.device)

        def training_step(self, batch, batch_idx):
            LARGE["tensor"][batch[1]] += 1
            LARGE["array"][:3] += 1
            self.log_dict({"tensor": LARGE["tensor"].sum(), "array": float(LARGE["array"].sum())})
            return penalised(self, batch, float(LARGE["array"][0]) / 10)

    LARGE.update(tensor=torch.zeros(1_000_000), array=np.zeros(1_000_000))
    return counting(Writes)
