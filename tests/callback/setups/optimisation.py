"""What happens between a loss and a step: accumulation, clipping, schedulers, averages, manual optimization."""

import copy

import lightning.pytorch
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch import nn
from torch.nn import functional

from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


@setup("gradients accumulated and clipped")
def accumulated():
    return Run(
        Plain(), cross_entropy, loader={"batch_size": 4},
        trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    )  # fmt: skip


@setup("clipping by value, in the module's own hook")
def clipped():
    class Clips(Plain):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            self.clip_gradients(optimizer, 0.01, "value")

        def on_before_optimizer_step(self, optimizer):
            self.log_dict({f"norm/{n}": p.grad.norm() for n, p in self.named_parameters()})

    return Run(Clips(), cross_entropy)


def scheduled(make):
    class Scheduled(Plain):
        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return {"optimizer": optimizer, "lr_scheduler": make(optimizer)}

        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            return loss

    return Run(Scheduled(), cross_entropy)


@setup("a scheduler that steps every batch")
def one_cycle():
    return scheduled(
        lambda o: {"scheduler": torch.optim.lr_scheduler.OneCycleLR(o, 0.02, total_steps=6), "interval": "step"}
    )


@setup("ReduceLROnPlateau on a training metric")
def plateau():
    return scheduled(
        lambda o: {"scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0), "monitor": "train_loss"}
    )


class Average(pl.Callback):
    """Validates with a running average of the weights, and gives the trained ones back."""

    def on_fit_start(self, trainer, pl_module):
        self.average = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer, pl_module, *_):
        for name, value in pl_module.state_dict().items():
            self.average[name].lerp_(value, 0.3)

    def on_validation_epoch_start(self, trainer, pl_module):
        self.trained = copy.deepcopy(pl_module.state_dict())
        pl_module.load_state_dict(self.average)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.load_state_dict(self.trained)

    def state_dict(self):
        return {"average": self.average}


@setup("moving average of the weights, swapped in for validation")
def moving_average():
    return Run(Plain(), cross_entropy, callbacks=[Average()])


@setup("Lightning's own WeightAveraging", needs=lambda: (
    None if hasattr(pl.callbacks, "EMAWeightAveraging") else "this Lightning has no EMAWeightAveraging"
))  # fmt: skip
def weight_averaging():
    return Run(Plain(), cross_entropy, callbacks=[pl.callbacks.EMAWeightAveraging(decay=0.7)])


@setup("stochastic weight averaging")
def stochastic_averaging():
    swa = StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1, annealing_epochs=1)
    return Run(Plain(), cross_entropy, callbacks=[swa], trainer={"max_epochs": 3})


class Adversarial(pl.LightningModule):
    """A generator and a discriminator, two optimizers, manual optimization."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 144))
        self.discriminator = small()

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        x, _ = batch
        made = self.generator(torch.randn(len(x), 3, device=self.device))
        for optimizer, images, sign in ((second, made.detach(), 1), (second, x, -1), (first, made, -1)):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            loss = functional.softplus(sign * self.discriminator(images).sum(1)).mean()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)
        self.log("generator", loss)

    def validation_step(self, batch, batch_idx):
        self.log("real", self.discriminator(batch[0]).mean())

    def configure_optimizers(self):
        return [torch.optim.Adam(p.parameters(), lr=1e-2) for p in (self.generator, self.discriminator)]


@setup("adversarial training, manual, with loss_fn=")
def adversarial():
    def real(module, batch):
        return functional.softplus(-module.discriminator(batch[0]).sum(1))

    return Run(
        Adversarial(), lambda m, b: real(m, b).sum(), stiffness={"loss_fn": real, "parameters": ["discriminator"]},
        parameters=lambda name: name.startswith("discriminator"),
    )  # fmt: skip


@setup(
    "adversarial training, manual, without a loss", refused="Adversarial optimizes manually, so its training_step"
)
def adversarial_without():
    return Run(Adversarial())


@setup("manual optimization in lightning.pytorch, without a loss", refused="optimizes manually")
def manual_other_package():
    class Manual(lightning.pytorch.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.net = small()

        training_step = configure_optimizers = lambda self, *_: None

    return Run(Manual(), package=lightning.pytorch)
