"""Few examples that are given something of their batch, or of its size."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import EngineRefusal, gradient_gram
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_few import FEW, N, agrees, batch_of
from tests.gram.test_hooked import loss_by


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


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("how", SHARES)
def test_shares_of_a_batch_beside_numbers_that_play_no_part(how: str, reduction: str) -> None:
    """Drawn as for a log."""

    def loss(module: Any, batch: Any) -> Tensor:
        _ = random.random(), torch.rand(2)
        return loss_by(reduction)(module, batch)

    forget()
    module = Shares(SHARES[how])
    for seed in range(2):
        assert agrees(module, batch_of(seed, 2), loss, mean=reduction == "mean").plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_shares_of_a_batch_beside_numbers_that_play_a_part_elsewhere() -> None:
    """In the gradients of some parameters, and in the losses."""

    class Both(Shares):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.rand_like(x[:, :1]) * self.noisy

    forget()
    module = Both(SHARES["row"])
    module.noisy = nn.Parameter(torch.ones(1, dtype=torch.float64))
    assert len(agrees(module, batch_of(0, 2), loss_by("none")).plan.fallbacks) == 5


class InHalf(Shares):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", ["full", "first", "row", "function"])
def test_shares_of_a_batch_in_half_precision(how: str, reduction: str) -> None:
    """Looked at in float64, which an autocast leaves as it is."""
    forget()
    module = InHalf(SHARES[how]).float()
    for seed in range(2):
        batch: Any = tuple(one.float() for one in batch_of(seed, 2))
        found, exact = (
            gradient_gram(module, batch, loss_fn=loss_by(reduction), engine=e) for e in ("auto", "loop")
        )
        cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, exact)]
        torch.testing.assert_close(*cosines, rtol=0, atol=1e-2)
    assert found.plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", ["full", "first", "row"])
def test_shares_in_half_precision_that_is_converted_to(how: str, reduction: str) -> None:
    """A copy in float64 rounds as well; also where the few come later, with other data."""

    class Converted(Shares):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).bfloat16().float()

    forget()
    module = Converted(SHARES[how]).float()
    for seed in range(3):
        batch = tuple(one.float() for one in batch_of(seed, 2 * (seed > 0)))
        gram = gradient_gram(module, batch, loss_fn=loss_by(reduction))
        assert gram.plan.fallbacks
        assert any("half precision" in reason for reason in gram.plan.fallbacks.values())


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


@pytest.mark.parametrize("engine", ["auto", "vmap"])
@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_text_of_values_is_none_of_torch_func_s(engine: str) -> None:
    """Which writes those of many examples as one text; where examples come and go there is no fast engine left."""
    forget()
    module = Shares(lambda h, few: h * (1 + few * (len(repr(h)) % 5)))
    for seed in range(4):
        if engine == "vmap":
            with pytest.raises(EngineRefusal, match="makes a text of values"):
                gradient_gram(module, batch_of(seed, 2), loss_fn=loss_by("none"), engine="vmap")
        else:
            assert agrees(module, batch_of(seed, 2), loss_by("none")).engine == "loop"
