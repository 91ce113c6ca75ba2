"""Losses that are more than a mean of cross entropies."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


@setup("class weights in a buffer")
def class_weights():
    class Weighted(Plain):
        def __init__(self):
            super().__init__()
            self.register_buffer("weights", torch.tensor([0.5, 1.0, 2.0, 4.0]))

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(batch[0]), batch[1], weight=self.weights)

    return Run(Weighted(), cross_entropy)  # of one example, a weighted mean is the plain loss


@setup("class weights, summed")
def class_weights_summed():
    class Weighted(Plain):
        weights = torch.tensor([0.5, 1.0, 2.0, 4.0])

        def training_step(self, batch, batch_idx):
            weights = self.weights.to(self.device)
            return functional.cross_entropy(self.net(batch[0]), batch[1], weight=weights, reduction="sum")

    return Run(Weighted(), cross_entropy)


@setup("label smoothing")
def smoothing():
    class Smooth(Plain):
        def __init__(self):
            super().__init__()
            self.criterion = nn.CrossEntropyLoss(label_smoothing=0.2)

        def training_step(self, batch, batch_idx):
            return self.criterion(self.net(batch[0]), batch[1])

    def loss(module, batch):
        x, y = batch
        target = 0.8 * functional.one_hot(y, 4) + 0.05
        return -(target * module.net(x).log_softmax(-1)).sum()

    return Run(Smooth(), loss)


@setup("auxiliary loss of a second head, and a penalty on the weights")
def auxiliary():
    class Auxiliary(Plain):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(144, 4)

        def training_step(self, batch, batch_idx):
            x, y = batch
            main = functional.cross_entropy(self.net(x), y)
            second = functional.cross_entropy(self.head(x.flatten(1)), y)
            penalty = 1e-2 * sum(p.square().sum() for p in self.parameters())
            self.log_dict({"main": main, "second": second})
            return main + 0.3 * second + penalty

    def loss(module, batch):
        x, y = batch
        heads = functional.cross_entropy(module.net(x), y) + 0.3 * functional.cross_entropy(
            module.head(x.flatten(1)), y
        )
        return heads + 1e-2 * sum(p.square().sum() for p in module.parameters())

    return Run(Auxiliary(), loss, slow=True)


@setup("stiffness_loss on the module")
def own_loss():
    class Own(Plain):
        def stiffness_loss(self, batch):
            x, y = batch
            return functional.cross_entropy(self.net(x), y, reduction="none") + self.net(x).square().sum(1)

    def loss(module, batch):
        return cross_entropy(module, batch) + module.net(batch[0]).square().sum()

    return Run(Own(), loss)


@setup("loss_fn= of the callback")
def given_loss():
    def squared(module, batch):
        return (module.net(batch[0]) - functional.one_hot(batch[1], 4)).square().sum(1)

    return Run(Plain(), lambda m, b: squared(m, b).sum(), stiffness={"loss_fn": squared})


@setup("regression")
def regression():
    class Regression(Plain):
        def training_step(self, batch, batch_idx):
            return functional.mse_loss(self.net(batch[0]).mean(1), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", functional.mse_loss(self.net(batch[0]).mean(1), batch[1]))

    def data(n, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 1, 12, 12, generator=generator)
        return torch.utils.data.TensorDataset(x, x[:, 0, :3].sum((1, 2)))

    return Run(
        Regression(),
        lambda m, b: (m.net(b[0]).mean() - b[1][0]) ** 2,
        label=None,
        train=data(24, 0),
        val=data(16, 1),
    )


@setup("several labels per example")
def multilabel():
    class Multilabel(Plain):
        def training_step(self, batch, batch_idx):
            return functional.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

    def data(n, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 1, 12, 12, generator=generator)
        return torch.utils.data.TensorDataset(x, (torch.rand(n, 4, generator=generator) < 0.4).float())

    def loss(module, batch):
        logits = module.net(batch[0])
        return -(batch[1] * logits.sigmoid().log() + (1 - batch[1]) * (-logits).sigmoid().log()).mean()

    return Run(Multilabel(small()), loss, label=None, train=data(24, 0), val=data(16, 1))


@setup("a loss that compares the examples of a batch", refused="compares the examples of a batch with each other")
def contrastive():
    class Contrastive(Plain):
        def training_step(self, batch, batch_idx):
            z = functional.normalize(self.net(batch[0]), dim=1)
            same = functional.normalize(self.net(batch[0] + 0.1), dim=1)
            return functional.cross_entropy(z @ same.T, torch.arange(len(z), device=self.device))

    return Run(Contrastive())


@setup("mixup in training_step")
def mixup():
    class Mixup(Plain):
        def training_step(self, batch, batch_idx):
            x, y = batch
            share, order = float(np.random.beta(0.4, 0.4)), torch.randperm(len(x))  # noqa: NPY002
            logits = self.net(share * x + (1 - share) * x[order])
            losses = [functional.cross_entropy(logits, target) for target in (y, y[order])]
            return share * losses[0] + (1 - share) * losses[1]

    return Run(Mixup(), cross_entropy, slow=True)  # an example alone is mixed with itself


@setup("a penalty on the gradient by the input")
def gradient_penalty():
    class Smooth(Plain):
        def penalised(self, batch):
            x, y = batch
            x = x.requires_grad_()
            logits = self.net(x)
            (slope,) = torch.autograd.grad(logits.logsumexp(1).sum(), x, create_graph=True)
            return functional.cross_entropy(logits, y) + slope.square().flatten(1).sum(1).mean()

        def training_step(self, batch, batch_idx):
            return self.penalised(batch)

    return Run(Smooth(), lambda module, batch: module.penalised(batch), slow=True)
