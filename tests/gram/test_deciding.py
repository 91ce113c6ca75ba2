"""Modules that decide for all examples together, by how far they have come with them, what to compute."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_stiffness.gram import coupled, gradient_gram
from lightning_stiffness.gram.familiar import forget

N = 40


class Exit(nn.Module):
    """Leaves early where the first head is sure of all examples."""

    def __init__(self):
        super().__init__()
        self.first, self.early = nn.Linear(6, 8), nn.Linear(8, 4)
        self.second, self.late = nn.Linear(8, 8), nn.Linear(8, 4)
        self.double()

    def is_sure(self, logits):
        return (logits.softmax(-1).amax(-1) > 0.7).all()

    def forward(self, x):
        h = torch.relu(self.first(x))
        logits = self.early(h)
        if self.is_sure(logits):
            return logits
        return self.late(torch.relu(self.second(h)))


class ByItem(Exit):
    """The same by a number that Python compares."""

    def is_sure(self, logits):
        return logits.detach().softmax(-1).amax(-1).min().item() > 0.7


class FixedPoint(nn.Module):
    """Iterates until all examples have arrived."""

    def __init__(self):
        super().__init__()
        self.inject, self.cell, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.double()

    def forward(self, x):
        u = self.inject(x)
        z = torch.zeros_like(u)
        for _ in range(60):
            before, z = z, torch.tanh(0.3 * self.cell(z) + u)
            if (z - before).norm() < 1e-3 * z.norm():
                break
        return self.out(z)


class Padded(nn.Module):
    """Leaves its mask out where nothing is padded, and tells its accuracy to a log."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, 4)
        self.told = 0.0
        self.double()

    def forward(self, x):
        mask = x[:, 0] != 0
        h = torch.tanh(self.first(x))
        h = h if mask.all() else h * mask[:, None]
        logits = self.out(h)
        self.told = (logits.argmax(1) == 0).double().mean().item()
        return logits


def each(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def batches(count, n=N):
    """New data each time, an example or two of which is soon sure."""
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 6, generator=generator, dtype=torch.float64) / 2
        x[n - 3] *= 20
        yield x, torch.randint(4, (n,), generator=generator)


def cosines(gram):
    return gram.values / gram.norms[:, None] / gram.norms[None, :]


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", [each, mean])
@pytest.mark.parametrize("kind", [Exit, ByItem, FixedPoint])
def test_every_measurement_is_right(kind, loss):
    forget()
    torch.manual_seed(0)
    module = kind()
    for batch in batches(8):
        found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
        torch.testing.assert_close(cosines(found), cosines(exact), rtol=0, atol=1e-5)


def alone(monkeypatch):
    """How many examples were taken alone for their losses, measurement by measurement."""
    counts, look = [], coupled.most_apart

    def counted(*given):
        counts[-1] += sum(part.stop - part.start == 1 for part in given[3])
        return look(*given)

    monkeypatch.setattr(coupled, "most_apart", counted)
    return counts


@pytest.mark.parametrize(("kind", "count"), [(Exit, N), (FixedPoint, N), (Padded, coupled.FEW)])
def test_all_examples_are_looked_at_where_they_decide(monkeypatch, kind, count):
    """By the values that they have come to: what is told of the data, or told at the end, decides on little."""
    forget()
    torch.manual_seed(0)
    module, counts = kind(), alone(monkeypatch)
    x = torch.randn(1, 6, dtype=torch.float64).expand(N, 6).contiguous()  # so that they decide alike
    for _ in range(3):
        counts.append(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient_gram(module, (x, torch.arange(N) % 4), loss_fn=each)
    assert counts == [N, count, count]
