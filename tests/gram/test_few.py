"""Few examples that are treated by a number of all of them, and that first come in a later measurement."""

import statistics
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import GradientGram, gradient_gram
from lightning_stiffness.gram.apart import of_a_sum, one_by_one, pieces_of
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_hooked import loss_by

N, FEW = 40, 2.6

NUMBERS: dict[str, Callable[[Tensor], float]] = {
    "distinct": lambda h: len(set(h.argmax(1).tolist())) / 8,
    "bins": lambda h: (torch.bincount(h.argmax(1), minlength=8) > 0).sum().item() / 8,
    "counter": lambda h: max(Counter(h.argmax(1).tolist()).values()) / len(h),
    "parity": lambda h: round(float(h.detach().sum()) * 10) % 2,
    "digits": lambda h: int(float(h.detach().mean()) * 1e4) % 3,
    "array": lambda h: float(h.detach().numpy().mean()),
    "median": lambda h: statistics.median(h[:, 0].tolist()),
}
"""What Python makes of the values of all examples."""


class Few(nn.Module):
    """Scales the features of some examples by a number of all."""

    def __init__(self, number: Callable[[Tensor], float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.number = number
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.first(x).tanh()).tanh()
        return self.last(h * (1 + (x[:, :1] > FEW) * self.number(h)))


def batch_of(seed: int, few: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 6, dtype=torch.float64, generator=generator)
    x[:, 0].clamp_(max=FEW - 0.1)
    x[7 : 7 + 13 * few : 13, 0] = FEW + 0.4
    return x, torch.randn(N, 1, dtype=torch.float64, generator=generator)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("of", NUMBERS)
def test_numbers_of_all(of: str, reduction: str) -> None:
    forget()
    module: Any = Few(NUMBERS[of])
    for seed, few in enumerate((0, 0, 1, 2, 2, 2)):
        batch = batch_of(seed, few)
        found, exact = (
            gradient_gram(module, batch, loss_fn=loss_by(reduction), engine=e) for e in ("auto", "loop")
        )
        scale = 1.0 if reduction != "mean" else (exact.norms / found.norms)[:, None] * (exact.norms / found.norms)
        torch.testing.assert_close(found.values * scale, exact.values, rtol=1e-8, atol=1e-8)
    assert found.plan.fallbacks


class Hidden(torch.autograd.Function):
    """Nothing, whose gradient for some examples holds that of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, few: Tensor) -> Tensor:
        ctx.save_for_backward(few)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient + ctx.saved_tensors[0] * gradient.mean(0), None


def hooked(hidden: Tensor, few: Tensor) -> Tensor:
    if hidden.requires_grad:
        hidden.register_hook(lambda g: g * (1 + few * g.norm()))
    return hidden


class Counting:
    """Gives the sum of all numbers that it was given before."""

    def __init__(self) -> None:
        self.total = 0.0

    def __call__(self, number: float) -> float:
        self.total += number
        return self.total


SHARES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "filled": lambda h, few: h * (1 + few * h.new_full((len(h), 1), 1 / len(h))),
    "full": lambda h, few: h * (1 + few * torch.full((1,), 1 / len(h), dtype=h.dtype)),
    "entry": lambda h, few: h * (1 + few * torch.linspace(1, 2, 50, dtype=h.dtype)[len(h)]),
    "narrow": lambda h, few: h * (1 + few * torch.linspace(1, 2, 50, dtype=h.dtype).narrow(0, len(h), 1)),
    "first": lambda h, few: h * (1 + few * (h.detach().argmax(0)[0] == 0)),
    "row": lambda h, few: h + few * h[:1],
    "last row": lambda h, few: h + few * h.select(0, len(h) - 1),
    "hook": hooked,
    "function": lambda h, few: Hidden.apply(h, few),
    "text": lambda h, few: h * (1 + len(repr(h)) % 5),
    "counted": lambda h, few: h * (1 + few * h.detach().clone().apply_(Counting())),
}
"""What few examples are given of a batch, or of its size; and what all are by a text of all values."""


class Shares(nn.Module):
    def __init__(self, share: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.share = nn.Linear(6, 8), nn.Linear(8, 1), share
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.share(self.first(x).tanh(), (x[:, :1] > FEW).to(x)))


def agrees(module: nn.Module, batch: Any, loss: Any, *, mean: bool = False) -> GradientGram:
    found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
    scale = (exact.norms / found.norms)[:, None] * (exact.norms / found.norms) if mean else 1.0
    torch.testing.assert_close(found.values * scale, exact.values, rtol=1e-8, atol=1e-8)
    return found


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", SHARES)
def test_shares_of_a_batch(how: str, reduction: str) -> None:
    """At once, and where the few come later, with other data."""
    for first in (1, 0):
        forget()
        module = Shares(SHARES[how])
        for seed, few in enumerate((first, 1, 2)):
            found = agrees(module, batch_of(seed, few), loss_by(reduction), mean=reduction == "mean")
    assert found.plan.fallbacks


def written(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    table[ids] = rows
    return table


TABLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "memory": lambda table, ids, h: h + written(table.clone(), ids, h.detach())[ids],
    "with gradient": lambda table, ids, h: 2 * h + written(table.clone(), ids, h)[ids],
    "average": lambda table, ids, h: h + written(table, ids, 0.9 * table[ids] + 0.1 * h.detach())[ids],
    "columns": lambda table, ids, h: h + written(table.T.clone().T, ids, h.detach())[ids],
    "seen": lambda table, ids, h: h * (1 + written(table[:, 0] > 9, ids, ids >= 0)[(ids + 1) % 997][:, None]),
}
"""Tables in which examples have a row by their number, as a memory of the nodes of a graph has."""


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", TABLES)
def test_a_row_that_two_examples_write_to(how: str, reduction: str) -> None:
    def loss(module: Any, batch: Any) -> Tensor:
        h = TABLES[how](module.table, batch[2], module[0](batch[0]).tanh())
        losses = (module[1](h) - batch[1]).square()[:, 0]
        return losses if reduction == "none" else getattr(losses, reduction)()

    forget()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 1)).double()
    module.register_buffer("table", torch.zeros(997, 8, dtype=torch.float64))
    for seed in range(3):
        ids = torch.randperm(997)[:N]
        ids[21] = ids[30] if how != "seen" else (ids[30] + 1) % 997
        found = agrees(module, (*batch_of(seed, 0), ids), loss, mean=reduction == "mean")
        assert found.plan.fallbacks


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


@pytest.mark.parametrize("size", [*range(2, 30), 97, 500])
def test_no_two_examples_are_together_in_both_ways_to_part_a_batch(size: int) -> None:
    places = [
        {place: k for k, part in enumerate(pieces_of(size, turn)) for place in range(size)[part]}
        for turn in range(2)
    ]
    assert len({(places[0][place], places[1][place]) for place in range(size)}) == size
