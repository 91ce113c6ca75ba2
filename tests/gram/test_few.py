"""Few examples that are treated by a number of all of them, and that first come in a later measurement."""

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import GradientGram, gradient_gram
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


def agrees(module: nn.Module, batch: Any, loss: Any, *, mean: bool = False) -> GradientGram:
    found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
    scale = (exact.norms / found.norms)[:, None] * (exact.norms / found.norms) if mean else 1.0
    torch.testing.assert_close(found.values * scale, exact.values, rtol=1e-8, atol=1e-8)
    return found


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("of", NUMBERS)
def test_numbers_of_all(of: str, reduction: str) -> None:
    forget()
    module: Any = Few(NUMBERS[of])
    for seed, few in enumerate((0, 0, 1, 2, 2, 2)):
        batch = batch_of(seed, few)
        found = agrees(module, batch, loss_by(reduction), mean=reduction == "mean")
    assert found.plan.fallbacks
