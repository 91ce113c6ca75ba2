"""Modules that read callbacks and data sets of their trainer in ``training_step``."""

import copy

import pytorch_lightning as pl
import torch
from torch.nn import functional

from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy, setup


class Weight(pl.Callback):
    """A weight of the loss that follows training."""

    def __init__(self):
        self.value, self.tensor = 1.0, torch.ones(2)

    def on_train_batch_end(self, *_):
        self.value *= 0.9
        self.tensor = self.tensor + 1


@setup("a callback found by its type, and read")
def reads_callback():
    class Reads(Plain):
        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            loss = functional.cross_entropy(logits, batch[1])
            for callback in self.trainer.callbacks:
                if isinstance(callback, Weight):
                    loss = loss + callback.value * callback.tensor.sum() * logits.square().mean()
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", cross_entropy(self, batch))

    def loss(module, batch):  # after six batches of training
        logits = module.net(batch[0])
        return functional.cross_entropy(logits, batch[1]) + 0.9**6 * 14 * logits.square().mean()

    return Run(Reads(), loss, callbacks=[Weight()])


class Schedule(pl.Callback):
    """A weight of the loss that is asked for."""

    steps = 0

    def on_train_batch_end(self, *_):
        self.steps += 1

    def weight(self):
        return self.scaled(0.9**self.steps)

    def scaled(self, value):
        return 2 * value


class Counted(torch.utils.data.Dataset):
    """Knows how many examples of each class it has."""

    def __init__(self, n, seed):
        self.held = digits(n, seed, noise=3)
        self.labels = [int(y) for _, y in self.held]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.held[i]

    def rarity(self):
        return len(self) / torch.bincount(torch.tensor(self.labels)) + float(self[0][1])


@setup("methods of one's own, of a callback and a data set, that read")
def reads_by_methods():
    class Reads(Plain):
        def training_step(self, batch, batch_idx):
            schedule = next(c for c in self.trainer.callbacks if isinstance(c, Schedule))
            return self.loss(batch, schedule.weight(), self.trainer.train_dataloader.dataset.rarity())

        def loss(self, batch, weight, rarity):
            logits = self.net(batch[0])
            loss = functional.cross_entropy(logits, batch[1], weight=rarity.to(logits.device, logits.dtype))
            return loss + weight * logits.square().mean()

    def loss(module, batch):  # after six batches
        return module.loss(batch, 2 * 0.9**6, Counted(24, 0).rarity())

    return Run(Reads(), loss, train=Counted(24, 0), val=Counted(16, 1), callbacks=[Schedule()])


@setup("a method of a callback that sets something", refused="cannot set trainer.callbacks.steps")
def sets_by_method():
    class Counts(Schedule):
        def weight(self):
            self.steps += 1
            return float(self.steps)

    class Uses(Plain):
        def training_step(self, batch, batch_idx):
            return self.trainer.callbacks[0].weight() * cross_entropy(self, batch)

    return Run(Uses(), callbacks=[Counts()])


class Averages(pl.Callback):
    """Keeps a moving average of the network, and the network."""

    def on_fit_start(self, trainer, pl_module):
        self.live, self.average = pl_module.net, copy.deepcopy(pl_module.net).requires_grad_(False)

    def on_train_batch_end(self, trainer, pl_module, *_):
        with torch.no_grad():
            for its, mine in zip(self.average.parameters(), pl_module.net.parameters(), strict=True):
                its.lerp_(mine, 0.2)
        pl_module.averaged = [copy.deepcopy(self.average)]


@setup("networks that a callback keeps, in the loss")
def of_callback():
    class Uses(Plain):
        averaged = None

        def training_step(self, batch, batch_idx):
            kept = next(c for c in self.trainer.callbacks if isinstance(c, Averages))
            target = kept.average(batch[0])
            assert kept.live is self.net
            return functional.cross_entropy(kept.live(batch[0]), batch[1]) + functional.mse_loss(
                self.net(batch[0]), target
            )

        def loss(self, batch):
            logits, teacher = self.net(batch[0]), self.averaged[0].to(batch[0].device, torch.double)
            return functional.cross_entropy(logits, batch[1]) + functional.mse_loss(logits, teacher(batch[0]))

    return Run(Uses(), lambda m, b: m.loss(b), callbacks=[Averages()], attributes=("averaged",))


@setup("a trained network of a callback in the loss", refused="is not among its named_parameters()")
def callback_network():
    class Holds(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            self.net = Plain().net.to(pl_module.device)

    class Uses(Plain):
        def training_step(self, batch, batch_idx):
            return cross_entropy(self, batch) + self.trainer.callbacks[0].net(batch[0]).square().mean()

    return Run(Uses(), callbacks=[Holds()])
