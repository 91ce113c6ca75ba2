"""Settings and state of optimizers and schedulers, and which parameters are trained, in ``training_step``."""

import torch
from torch.nn import functional

from tests.callback.setups.base import Plain, Run, cross_entropy, setup


class Decays(Plain):
    """Trained with momentum and a learning rate of 0.1, 0.01 in the second epoch, 0.001 at its end."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def penalised(module, batch, weight):
    logits = module.net(batch[0])
    return functional.cross_entropy(logits, batch[1]) + 100 * weight * logits.square().mean()


def reading(rate):
    """A run whose loss depends on the learning rate, read in some way."""

    class Reads(Decays):
        def training_step(self, batch, batch_idx):
            self.log("rate", rate(self))
            return penalised(self, batch, rate(self))

    return Run(Reads(), lambda module, batch: penalised(module, batch, 0.001))


@setup("the learning rate of the run's scheduler in the loss")
def last_rate():
    return reading(lambda module: module.lr_schedulers().get_last_lr()[0])


@setup("the learning rate of trainer.lr_scheduler_configs in the loss")
def configured_rate():
    def rate(module):
        config = module.trainer.lr_scheduler_configs[0]
        assert config.interval == "epoch"
        assert config.scheduler.optimizer.param_groups[0]["momentum"] == 0.9
        return config.scheduler.get_last_lr()[0]

    return reading(rate)


@setup("the learning rate of the optimizer in the loss")
def group_rate():
    return reading(lambda module: module.optimizers().param_groups[0]["lr"])


@setup("a learning rate that training_step sets and reads again")
def warm_up():
    class Warms(Decays):
        def training_step(self, batch, batch_idx):
            for group in self.optimizers().param_groups:
                group["lr"] = 0.1 * min(1.0, (self.global_step + 1) / 10)
            self.trainer.last_seen = self.global_step
            return penalised(self, batch, self.trainer.optimizers[0].param_groups[0]["lr"])

    return Run(Warms(), lambda module, batch: penalised(module, batch, 0.07))


@setup("the momentum of the optimizer in the loss")
def momentum():
    def weight(size):
        return 1e-3 / (1 + size)

    class Reads(Decays):
        def size(self, state):
            sizes = [entry["momentum_buffer"].square().sum() for entry in state.values()]
            return float(torch.stack([torch.zeros((), device=self.device), *sizes]).sum())

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            assert isinstance(optimizer, torch.optim.SGD)
            assert optimizer.param_groups[0]["params"][0] is self.net[1].weight
            known = optimizer.state.get(self.net[1].weight, {})
            self.log("known", float("momentum_buffer" in known))
            self.log("entries", float(len(optimizer.state_dict()["state"])))
            return penalised(self, batch, weight(self.size(optimizer.state)))

        def on_train_batch_end(self, *_):
            self.reached = self.size(self.trainer.optimizers[0].state)

    return Run(Reads(), lambda m, b: penalised(m, b, weight(m.reached)), attributes=("reached",))


def trained(flags):
    """A run whose step says which parameters are trained, after a first epoch with others."""

    class Says(Plain):
        def training_step(self, batch, batch_idx):
            flags(self)
            return cross_entropy(self, batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Run(Says(), cross_entropy, stiffness={"at_start": True}, slow=True)


@setup("parameters that training_step thaws in the second epoch")
def thawed():
    return trained(lambda module: module.net[1].requires_grad_(module.current_epoch > 0))


@setup("parameters that training_step freezes in the second epoch")
def frozen_later():
    def flags(module):
        for parameter in module.net[1].parameters():
            parameter.requires_grad = module.current_epoch < 1

    return trained(flags)


@setup("parameters that are frozen while the loss is computed")
def frozen_meanwhile():
    class Meanwhile(Plain):
        def training_step(self, batch, batch_idx):
            self.net[1].requires_grad_(False)
            loss = cross_entropy(self, batch)
            self.net[1].requires_grad_(True)
            return loss

    return Run(Meanwhile(), cross_entropy, parameters=lambda name: not name.startswith("net.1."), slow=True)
