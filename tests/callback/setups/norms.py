"""Normalisation, reparametrisation, and parameters that are frozen, thawed, shared or added."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from tests.callback.runs import cnn
from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


@setup("batch norm and dropout")
def batch_norm():
    return Run(Plain(cnn()), cross_entropy, stiffness={"at_start": True})


@setup("frozen batch norm, by train() overridden")
def frozen_batch_norm():
    class Frozen(Plain):
        def __init__(self):
            super().__init__(cnn())
            self.net[1].requires_grad_(False)

        def train(self, mode=True):
            super().train(mode)
            self.net[1].eval()
            return self

    return Run(Frozen(), cross_entropy)


def with_linear(change):
    net = small()
    net[1] = change(net[1])
    return Run(Plain(net), cross_entropy, stiffness={"at_start": True})


@setup("weight norm, older")
def old_weight_norm():
    return with_linear(nn.utils.weight_norm)


@setup("weight norm, as a parametrisation")
def weight_norm():
    return with_linear(parametrizations.weight_norm)


@setup("spectral norm, older")
def old_spectral_norm():
    run = with_linear(nn.utils.spectral_norm)

    def loss(module, batch):
        first = module.net[1]
        with torch.no_grad():
            u, v = first.weight_u, first.weight_v
        weight = first.weight_orig / (u @ first.weight_orig @ v)
        hidden = functional.linear(batch[0].flatten(1), weight, first.bias)
        return functional.cross_entropy(module.net[3](hidden.tanh()), batch[1])

    run.loss = loss
    return run


@setup("spectral norm, as a parametrisation")
def spectral_norm():
    return with_linear(parametrizations.spectral_norm)


@setup("a parametrisation of one's own")
def parametrised():
    class Symmetric(nn.Module):
        def forward(self, weight):
            return weight - weight.mean(1, keepdim=True)

    def change(linear):
        parametrize.register_parametrization(linear, "weight", Symmetric())
        return linear

    return with_linear(change)


@setup("backbone frozen, then thawed")
def finetuning():
    class Thaw(BaseFinetuning):
        def freeze_before_training(self, pl_module):
            self.freeze(pl_module.net[1])

        def finetune_function(self, pl_module, epoch, optimizer):
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.net[1], optimizer)

    class Tuned(Plain):
        def configure_optimizers(self):
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    return Run(Tuned(), cross_entropy, callbacks=[Thaw()])


@setup("frozen parameters")
def frozen():
    module = Plain()
    module.net[1].weight.requires_grad_(False)
    return Run(module, cross_entropy)


@setup("tied weights")
def tied():
    class Tied(Plain):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(144, 10), nn.Linear(10, 144)
            self.again = self.encoder  # one layer under two names, used twice
            self.head = nn.Linear(10, 4)

        def logits(self, x):
            code = self.encoder(x.flatten(1)).tanh()
            back = functional.linear(code, self.encoder.weight.t()) + self.decoder(code)
            return self.head(self.again(back).tanh())

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.logits(batch[0]), batch[1])

    return Run(Tied(), lambda module, batch: functional.cross_entropy(module.logits(batch[0]), batch[1]))


class LoRA(nn.Module):
    """A frozen linear layer with a trained change of low rank."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, base.in_features) / 12)
        self.b = nn.Parameter(torch.randn(base.out_features, 2) / 2)

    def forward(self, x):
        return self.base(x) + functional.linear(x, self.b @ self.a)


@setup("low-rank adapters")
def lora():
    return with_linear(LoRA)


@setup("parameters used only in validation")
def validation_only():
    class Probed(Plain):
        def __init__(self):
            super().__init__()
            self.only_validation = nn.Linear(4, 4)

        def validation_step(self, batch, batch_idx):
            self.log("probe", self.only_validation(self.net(batch[0])).mean())

    return Run(Probed(), cross_entropy)


@setup("layers made in configure_model, and lazy ones")
def lazily():
    class Lazy(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = None

        def configure_model(self):
            if self.net is None:
                self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10), nn.Tanh(), nn.LazyLinear(4))
                self.net(torch.zeros(1, 1, 12, 12))

        training_step = Plain.training_step
        validation_step = Plain.validation_step
        configure_optimizers = Plain.configure_optimizers

    return Run(Lazy(), cross_entropy)


@setup("pruned weights")
def pruned():
    def change(linear):
        prune.random_unstructured(linear, "weight", 0.4)
        return linear

    return with_linear(change)


class Auxiliary(nn.Module):
    """Returns a second output in training mode, as Inception does."""

    def __init__(self):
        super().__init__()
        self.body, self.head = small(), nn.Linear(144, 4)

    def forward(self, x):
        return (self.body(x), self.head(x.flatten(1))) if self.training else self.body(x)


class TwoOutputs(Plain):
    def training_step(self, batch, batch_idx):
        logits, auxiliary = self.net(batch[0])
        return functional.cross_entropy(logits, batch[1]) + 0.3 * functional.cross_entropy(auxiliary, batch[1])


@setup("a second output in training mode only", refused="fails on a copy of the module in evaluation mode")
def two_outputs():
    return Run(TwoOutputs(Auxiliary()))


@setup("a second output in training mode only, with loss_fn=")
def two_outputs_told():
    def given(module, batch):
        return functional.cross_entropy(module.net(batch[0]), batch[1], reduction="none")

    return Run(TwoOutputs(Auxiliary()), cross_entropy, stiffness={"loss_fn": given})


@setup("an embedding whose rows are kept short in forward")
def max_norm():
    class Short(Plain):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(4, 5, max_norm=0.5)
            self.head = nn.Linear(5, 4)

        def training_step(self, batch, batch_idx):
            ids = (batch[0].flatten(1)[:, :6] > 0).sum(1) % 4
            return functional.cross_entropy(self.net(batch[0]) + self.head(self.embedding(ids)), batch[1])

    def loss(module, batch):
        ids = (batch[0].flatten(1)[:, :6] > 0).sum(1) % 4
        rows = module.embedding.weight
        with torch.no_grad():  # the shortened row is what is differentiated, as in forward
            rows *= (0.5 / rows.norm(dim=1, keepdim=True)).clamp(max=1)
        return functional.cross_entropy(module.net(batch[0]) + module.head(rows[ids]), batch[1])

    return Run(Short(), loss, slow=True)


@setup("hooks on the gradients of parameters")
def gradient_hooks():
    class Clamps(Plain):
        def on_fit_start(self):  # a change of the training's steps, not of the loss
            for parameter in self.parameters():
                parameter.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))

    return Run(Clamps(), cross_entropy)


@setup("a scripted submodule")
def scripted():
    return Run(Plain(torch.jit.script(small())), cross_entropy, slow=True)


@setup("a LightningModule within another, with hyperparameters")
def within():
    class Inner(Plain):
        def __init__(self, width, smoothing=0.1):
            super().__init__(small(width))
            self.save_hyperparameters()

        def loss(self, batch):
            loss = functional.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=self.hparams.smoothing)
            return loss * (1 + self.trainer.current_epoch)

    class Outer(Plain):
        def __init__(self):
            super().__init__()
            self.net = Inner(7)
            self.save_hyperparameters({"outer": 1})

        def training_step(self, batch, batch_idx):
            return self.net.loss(batch)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.net.loss(batch))

    def loss(module, batch):
        return functional.cross_entropy(module.net.net(batch[0]), batch[1], label_smoothing=0.1)

    return Run(Outer(), loss)
