"""Precisions, compilers, checkpoints: measured in full precision and uncompiled whatever the run does."""

import shutil

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.callback.runs import cnn
from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


@setup("bf16-mixed")
def bf16_mixed():
    return Run(Plain(cnn()), cross_entropy, trainer={"precision": "bf16-mixed"})


@setup("16-mixed")
def f16_mixed():
    return Run(Plain(), cross_entropy, trainer={"precision": "16-mixed"})


@setup("bf16-true")
def bf16_true():
    return Run(Plain(), cross_entropy, trainer={"precision": "bf16-true"})


@setup("64-true, tensors made on the way")
def double():
    class Makes(Plain):
        def training_step(self, batch, batch_idx):
            scale = torch.ones(4, device=self.device)
            scale[0] = 2
            return functional.cross_entropy(self.net(batch[0]) @ torch.diag(scale), batch[1])

    def loss(module, batch):
        return functional.cross_entropy(module.net(batch[0]) * torch.tensor([2.0, 1, 1, 1]).double(), batch[1])

    return Run(Makes(), loss, trainer={"precision": "64-true"})


@setup("half-precision data under 32-true")
def half_data():
    def collate(samples):
        x, y = torch.utils.data.default_collate(samples)
        return x.to(torch.bfloat16), y

    class Casts(Plain):
        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(batch[0].float()), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

    return Run(Casts(), lambda m, b: cross_entropy(m, (b[0].double(), b[1])), loader={"collate_fn": collate})


def no_compiler():
    # torch.compile itself asks for one even where the backend does not
    return None if shutil.which("c++") or shutil.which("cl") else "torch.compile needs a C++ compiler"


def no_compiled_part_inside():
    old = "the training itself fails: Dynamo before torch 2.5 does not find the attribute `_orig_mod`"
    return no_compiler() or (old if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5) else None)


@setup("torch.compile of the network", needs=no_compiled_part_inside)
def compiled_part():
    class Compiled(Plain):
        def __init__(self):
            super().__init__()
            self.net = torch.compile(self.net, backend="eager")
            self.step = torch.compile(self.logits, backend="eager")

        def logits(self, x):
            return self.net(x) + 0 * self.net._orig_mod[1].bias.sum()

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.step(batch[0]), batch[1])

    return Run(Compiled(), lambda m, b: functional.cross_entropy(m.net._orig_mod(b[0]), b[1]))


@setup("Module.compile in place", needs=no_compiler)
def compiled_in_place():
    module = Plain()
    module.net.compile(backend="eager")

    def loss(module, batch):
        x = batch[0]
        for layer in module.net:
            x = layer(x)
        return functional.cross_entropy(x, batch[1])

    return Run(module, loss)


@setup("torch.compile of the whole LightningModule", needs=no_compiler)
def compiled_whole():
    module = Plain()
    run = Run(module, cross_entropy)
    run.compile = True
    return run


class Checkpointed(Plain):
    """Forgets its activations and computes them again."""

    reentrant = False

    def __init__(self):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Flatten(), nn.Linear(144, 10)),
            nn.Sequential(nn.Tanh(), small_head()),
        )

    def logits(self, x):
        x = checkpoint(self.first, x, use_reentrant=self.reentrant)
        return checkpoint(self.second, x, use_reentrant=self.reentrant)

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.logits(batch[0]), batch[1])


def small_head():
    return nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.3), nn.Tanh(), nn.Linear(10, 4))


def uncheckpointed(module, batch):
    return functional.cross_entropy(module.second(module.first(batch[0])), batch[1])


@setup("activation checkpoints")
def checkpoints():
    return Run(Checkpointed(), uncheckpointed)


@setup("activation checkpoints, re-entrant")
def reentrant():
    class Reentrant(Checkpointed):
        reentrant = True

        def logits(self, x):
            return super().logits(x.requires_grad_())

    return Run(Reentrant(), uncheckpointed, slow=True)


@setup("autocast within the module, under 32-true")
def own_autocast():
    class Casts(Plain):
        def training_step(self, batch, batch_idx):
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                return functional.cross_entropy(self.net(batch[0]).float(), batch[1])

    return Run(Casts(small()), cross_entropy)
