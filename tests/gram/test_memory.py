"""The memory budget, held against every allocation that torch makes."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from lightning_stiffness.gram import BudgetError, GradientGram, gradient_gram

N = 24


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def peak_bytes(function: Callable[[], GradientGram]) -> tuple[int, GradientGram]:
    """Most bytes that torch held at a time above those before, and the result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = function()
    held = peak = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, result


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.first, self.second = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.two(F.relu(self.first(self.one(x))))))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(200, 32)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layers(self.words(ids)).mean(1))


def residual() -> tuple[nn.Module, Tensor]:
    blocks = [Residual(16) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(16 * 144, 10)
    ), torch.randn(N, 3, 12, 12)


def wide() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 10)), (
        torch.randn(N, 300)
    )


def tokens() -> tuple[nn.Module, Tensor]:
    return Tokens(), torch.randint(200, (N, 16))


@pytest.mark.parametrize("build", [residual, wide, tokens])
def test_peak_stays_within_the_budget(build: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    torch.manual_seed(0)
    module, x = build()
    module.eval()
    batch = x, torch.arange(N) % 10
    expected = gradient_gram(module, batch, loss_fn=loss)
    norms = expected.norms[:, None] * expected.norms
    with pytest.raises(BudgetError) as refused:
        gradient_gram(module, batch, loss_fn=loss, memory_budget=1)
    said = re.search(r"take (\d+), the least that would do", str(refused.value))
    assert said is not None
    least = int(said.group(1))
    for budget in (least, 3 * least, 20 * least):
        peak, gram = peak_bytes(
            lambda budget=budget: gradient_gram(module, batch, loss_fn=loss, memory_budget=budget)
        )
        assert peak <= 1.25 * budget
        assert ((gram.values - expected.values).abs() / norms).max() < 1e-6
        assert not gram.plan.fallbacks
