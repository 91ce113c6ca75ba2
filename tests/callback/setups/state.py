"""Modules that change something of theirs in each forward pass: queues, teachers, counters, recurrent state."""

import collections
import copy
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


@setup("a queue of earlier features in a buffer")
def queue():
    class Queue(Plain):
        def __init__(self):
            super().__init__(small())
            self.register_buffer("queue", functional.normalize(torch.randn(32, 4), dim=1))
            self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

        def contrast(self, x, y):
            features = functional.normalize(self.net(x), dim=1)
            return functional.cross_entropy(features @ self.queue.T / 0.2, y), features

        def training_step(self, batch, batch_idx):
            loss, features = self.contrast(*batch)
            with torch.no_grad():
                places = (int(self.pointer) + torch.arange(len(features))) % len(self.queue)
                queue = self.queue.clone()
                queue[places] = features.detach()
                self.queue = queue  # the loss still needs the old one
                self.pointer += len(features)
            return loss

    return Run(Queue(), lambda module, batch: module.contrast(*batch)[0])


@setup("a teacher that follows the student in training_step")
def teacher():
    class Taught(Plain):
        def __init__(self):
            super().__init__()
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)

        def training_step(self, batch, batch_idx):
            with torch.no_grad():
                for mine, its in zip(self.net.parameters(), self.teacher.parameters(), strict=True):
                    its.lerp_(mine, 0.2)
                target = self.teacher(batch[0]).softmax(1)
            return functional.cross_entropy(self.net(batch[0]), target)

    def loss(module, batch):
        # each example meets the teacher one step further than it was
        module.teacher.load_state_dict({
            name: its + 0.2 * (module.net.state_dict()[name] - its) for name, its in module.started.items()
        })  # fmt: skip
        return functional.cross_entropy(module.net(batch[0]), module.teacher(batch[0]).softmax(1).detach())

    return Run(Taught(), with_start(loss), slow=True)


def with_start(loss):
    """The loss with the teacher as it was when the reference began."""

    def started(module, batch):
        if not hasattr(module, "started"):
            module.started = copy.deepcopy(module.teacher.state_dict())
        return loss(module, batch)

    return started


@setup("a teacher that follows in on_train_batch_end")
def teacher_by_hook():
    class Taught(Plain):
        def __init__(self):
            super().__init__()
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)

        def training_step(self, batch, batch_idx):
            return functional.mse_loss(self.net(batch[0]), self.teacher(batch[0]) + 1)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            for mine, its in zip(self.net.parameters(), self.teacher.parameters(), strict=True):
                its.data.lerp_(mine.data, 0.2)

    return Run(Taught(), lambda m, b: functional.mse_loss(m.net(b[0]), m.teacher(b[0]) + 1))


@setup("a running mean that forward updates in place, in eval mode too")
def running():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(144))
            self.scale = nn.Parameter(torch.ones(144))

        def forward(self, x):
            out = (x - self.mean) * self.scale
            with torch.no_grad():
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return out

    net = small()
    net.insert(1, Running())

    def loss(module, batch):
        x, y = batch
        return functional.cross_entropy(net_without(module.net)(
            (x.flatten(1) - module.net[1].mean) * module.net[1].scale), y)  # fmt: skip

    def net_without(net):
        return nn.Sequential(*list(net)[2:])

    return Run(Plain(net), loss)


@setup("counters, caches and queues as plain attributes")
def counters():
    class Counts(Plain):
        def __init__(self):
            super().__init__()
            self.calls, self.recent, self.cache, self.labels = 0, collections.deque(maxlen=5), {}, set()
            self.running = torch.zeros(4)

        def on_fit_start(self):
            self.running = self.running.to(self.device)

        def training_step(self, batch, batch_idx):
            self.calls += 1
            self.recent.append(len(batch[1]))
            self.cache[self.calls] = batch[1]
            self.labels.update(batch[1].tolist())
            self.running.add_(torch.bincount(batch[1], minlength=4))
            self.log_dict(
                {"calls": float(self.calls), "recent": float(sum(self.recent)), "cached": len(self.cache)}
            )
            self.log_dict({f"running_{i}": self.running[i] for i in range(4)})
            return cross_entropy(self, batch)

    return Run(Counts(), cross_entropy)


@setup("random numbers of Python, NumPy and torch in training_step")
def draws():
    class Draws(Plain):
        def __init__(self):
            super().__init__()
            self.generator = np.random.default_rng(0)
            self.own = torch.Generator().manual_seed(1)

        def training_step(self, batch, batch_idx):
            self.log("drawn", random.random() + float(self.generator.random()) + np.random.rand())  # noqa: NPY002
            self.log("own", torch.rand((), generator=self.own))
            x = batch[0] + torch.randn_like(batch[0]) if self.training else batch[0]
            return cross_entropy(self, (x, batch[1]))

    return Run(Draws(), cross_entropy)


@setup("a recurrent layer that keeps its state between batches")
def stateful():
    class Stateful(Plain):
        def __init__(self):
            super().__init__()
            self.rnn, self.head, self.state = nn.GRU(12, 6, batch_first=True), nn.Linear(6, 4), None

        def training_step(self, batch, batch_idx):
            x, y = batch
            state = None if self.state is None or self.state.shape[1] != len(y) else self.state
            out, last = self.rnn(x[:, 0], state)
            self.state = last.detach()
            return functional.cross_entropy(self.head(out[:, -1]), y)

    def loss(module, batch):  # of one example: the state is for another number of examples
        return functional.cross_entropy(module.head(module.rnn(batch[0][:, 0])[0][:, -1]), batch[1])

    return Run(Stateful(), loss)


class Watched(nn.Module):
    """A network beside the module that counts what it sees."""

    def __init__(self):
        super().__init__()
        self.net = small()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return self.net(x)


@setup("a frozen network in a global variable")
def beside():
    class Matches(Plain):
        def on_fit_start(self):
            TEACHER.to(self.device)

        def training_step(self, batch, batch_idx):
            target = TEACHER(batch[0])
            self.log("seen", TEACHER.seen)
            return functional.mse_loss(self.net(batch[0]), target)

    TEACHER.cpu().load_state_dict(STARTED)
    return Run(Matches(), lambda m, b: functional.mse_loss(m.net(b[0]), TEACHER.net(b[0].float()).double()))


TEACHER = Watched().requires_grad_(False)
STARTED = copy.deepcopy(TEACHER.state_dict())
