"""What examples of a batch do to each other from a later measurement on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram.apart import of_a_sum, one_by_one, pieces_of
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_few import FEW, N, agrees, batch_of
from tests.gram.test_shares import Hidden


class Later(Hidden):
    """The same for a batch alone."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Hidden.backward(ctx, gradient) if len(gradient) > 1 else (gradient, None)


class Comes(nn.Module):
    """Does something to some examples, which no example is one of at first."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.how = nn.Linear(6, 8), nn.Linear(8, 1), how
        self.register_buffer("limit", torch.tensor(9.0))
        self.register_buffer("table", torch.zeros(997, 8))
        self.stopped = torch.zeros(2 * N, 1)
        self.double()

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        h = self.first(x).tanh()
        few = x[:, :1] > self.limit
        if self.how == "function":
            return self.last(Later.apply(h, few.to(h)))
        if self.how == "place":
            return self.last(torch.where(self.stopped[: len(h)] > 0, h.detach(), h))
        self.table[(ids[few[:, 0]] + 7) % 997] = h.detach()[few[:, 0]]
        return self.last(h + self.table[ids])


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", ["function", "place", "neighbour"])
def test_what_comes_in_a_later_measurement(how: str, reduction: str) -> None:
    """Of the same data and the same calls; neighbours are written to one another's rows of a table."""
    for seed in range(2):
        forget()
        module: Any = Comes(how)
        x, y = batch_of(seed, 2)
        batch = x, y, 7 * torch.arange(N)

        def loss(module: Any, batch: Any) -> Tensor:
            losses = (module(batch[0], batch[2]) - batch[1]).square()[:, 0]
            return losses if reduction == "none" else getattr(losses, reduction)()

        for turn in range(seed + 4):
            if turn == seed + 2:
                assert not found.plan.fallbacks  # noqa: F821 - of the turn before
                module.limit.fill_(FEW)
                module.stopped[23] = 1.0
            found = agrees(module, batch, loss, mean=reduction == "mean")
        assert found.plan.fallbacks


SURE = 0.8

LATER: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "FixMatch": lambda loss, guess, sure: loss + guess * sure * len(sure) / sure.sum().clamp(min=1),
    "by the mean": lambda loss, guess, sure: loss + guess * sure / sure.mean().clamp(min=1e-3),
    "by their share": lambda loss, guess, sure: loss + guess * sure * (sure.mean() > 0.1),
    "by the most": lambda loss, guess, sure: loss + guess * sure * (sure.mean() > 0.7),
    "of the batch": lambda loss, guess, sure: loss.mean() + (guess * sure).sum() / sure.sum().clamp(min=1),
}
"""Losses with a term over those examples of which the module is sure."""


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("how", LATER)
def test_a_term_that_comes_with_training(how: str, reduction: str) -> None:
    """Of the same data, it is over none at first."""

    def loss(module: Any, batch: Any) -> Tensor:
        logits = module(batch[0])
        sure = (logits.detach().softmax(1).amax(1) > SURE).to(logits)
        guess = F.cross_entropy(module(0.9 * batch[0]), logits.detach().argmax(1), reduction="none")
        losses = LATER[how](F.cross_entropy(logits, batch[1], reduction="none"), guess, sure)
        return losses if not losses.ndim else getattr(losses, reduction)()

    forget()
    torch.manual_seed(0)
    sizes, kind = (6, 8, 8, 3), {"dtype": torch.float64}
    layers = [nn.Linear(*pair, **kind) for pair in pairwise(sizes)]
    module = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(N, 6, generator=generator, **kind), torch.randint(3, (N,), generator=generator)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
    mean = reduction == "mean" or how == "of the batch"
    for _ in range(6):
        found = agrees(module, batch, loss, mean=mean)
        for _ in range(20):
            optimizer.zero_grad()
            loss(module, batch).mul(1.0 if mean else 1 / N).backward()
            optimizer.step()
    assert found.plan.fallbacks


@pytest.mark.parametrize("parts", [one_by_one(range(N)), pieces_of(N, 0), pieces_of(N, 1)])
def test_a_constant_beside_a_sum_is_none_of_the_examples(parts: list[slice]) -> None:
    losses, constant = torch.rand(N, dtype=torch.float64), 3.0
    made = sum(factor * (losses[part].sum() + constant) for part, factor in zip(*of_a_sum(parts), strict=True))
    torch.testing.assert_close(made, losses.sum() + constant)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_by_a_number_of_all_that_python_is_told(reduction: str) -> None:
    """Alone no example is surer than the mean of all; what parts of a batch have in common does not show it."""

    def loss(module: Any, batch: Any) -> Tensor:
        logits = module(batch[0])
        sure = logits.detach().softmax(1).amax(1)
        weights = torch.where(sure > max(0.9, float(sure.mean())), 0.1, 1.0).to(logits)
        losses = F.cross_entropy(logits, batch[1], reduction="none") * weights
        return losses.mean() if reduction == "mean" else losses.sum()

    forget()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4)).double()
    x = torch.randn(96, 8, dtype=torch.float64)
    batch = x, x[:, :4].argmax(1)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.5)
    for _ in range(6):
        found = agrees(module, batch, loss)
        for _ in range(6):
            optimizer.zero_grad()
            loss(module, batch).div(96 if reduction == "sum" else 1).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
    assert found.plan.fallbacks


@pytest.mark.parametrize("size", [*range(2, 30), 97, 500])
def test_no_two_examples_are_together_in_both_ways_to_part_a_batch(size: int) -> None:
    places = [
        {place: k for k, part in enumerate(pieces_of(size, turn)) for place in range(size)[part]}
        for turn in range(2)
    ]
    assert len({(places[0][place], places[1][place]) for place in range(size)}) == size
