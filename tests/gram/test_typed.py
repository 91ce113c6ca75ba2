"""Tensors that take no more than a type from another one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_scales import off

N, T = 12, 5


class Net(nn.Module):
    """With a constant that is put to the type of what it meets."""

    def __init__(self, constant: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.shift = nn.Parameter(torch.randn(8))
        self.register_buffer("places", torch.randn(T, 8, dtype=torch.float32))
        self.constant = constant
        self.double()
        self.places = self.places.float()  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        hidden = hidden + self.constant(self, hidden)
        return self.last(hidden.mean(1))


CONSTANTS = {
    "places": lambda m, h: m.places.type_as(h),
    "of the input": lambda m, h: m.places.to(h),
    "of the same type": lambda m, h: m.places.double().to(h),
    "arange": lambda m, h: torch.arange(T)[:, None].cos().to(h),
    "causal": lambda m, h: torch.ones(T, T).tril().to(h) @ h,
    "new": lambda m, h: h.new_tensor([0.5] * 8),
    "new ones": lambda m, h: h.new_ones(T, 8),
    "a parameter": lambda m, h: m.shift.to(h),
    "a parameter by name": lambda m, h: m.shift.to(tensor=h),
}


def entropy(reduction: str) -> Any:
    return lambda module, batch: F.cross_entropy(module(batch[0]), batch[1], reduction=reduction)


@pytest.mark.filterwarnings("error:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("how", CONSTANTS)
def test_constants_keep_the_fast_way(how: str, reduction: str) -> None:
    forget()
    module, loss = Net(CONSTANTS[how]), entropy(reduction)
    for seed in range(3):
        torch.manual_seed(seed)
        batch = torch.randn(N, T, 6, dtype=torch.float64), torch.arange(N) % 3
        found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=engine) for engine in ("auto", "loop"))
        assert off(found, exact) < 1e-12
        assert not found.plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize(
    "constant",
    [
        lambda m, h: h.detach().mean((0, 1)).float().to(h),
        lambda m, h: h.new_tensor(h.detach().mean((0, 1)).tolist()),
        lambda m, h: h.detach().mean((0, 1)).type_as(m.places),
    ],
)
def test_what_is_made_of_all_examples_stays_that(constant: Any, reduction: str) -> None:
    forget()
    module, loss = Net(constant), entropy(reduction)
    batch = torch.randn(N, T, 6, dtype=torch.float64), torch.arange(N) % 3
    found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=engine) for engine in ("auto", "loop"))
    assert found.plan.fallbacks
    assert off(found, exact) < 1e-9


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_bias_of_which_differences_know_nothing() -> None:
    """Alone its gradient is zero, in a batch it may be rounding: no reason to say that examples meet each other."""

    def loss(module: nn.Module, batch: Any) -> Tensor:
        return F.triplet_margin_loss(*map(module, batch), reduction="none")

    for seed in range(6):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))
        batch = tuple(torch.randn(14, 6) for _ in range(3))
        found = gradient_gram(module, batch, loss_fn=loss, parameters=["2.bias"])
        assert float(found.norms.max()) < 1e-6


@pytest.mark.filterwarnings("ignore:stiffness of .* every gradient is exactly 0")
@pytest.mark.filterwarnings("error:stiffness of")
@pytest.mark.parametrize("engine", ["auto", "loop", "vmap"])
def test_parameters_without_entries(engine: str) -> None:
    module = nn.Linear(4, 3)
    module.empty = nn.Parameter(torch.zeros(0, 3))

    def loss(module: Any, batch: Any) -> Tensor:
        return module(batch).square().sum(1) + module.empty.sum()

    for names in (["empty"], None):
        settings = {"parameters": names, "memory_budget": 10_000, "engine": engine}
        found = gradient_gram(module, torch.randn(5, 4), loss_fn=loss, **settings)  # type: ignore[arg-type]
        assert bool(found.values.any()) == (names is None)
