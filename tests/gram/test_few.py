"""Few examples that are treated by a number of all of them, and that first come in a later measurement."""

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.coupled import _of_a_sum
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


def test_a_constant_beside_a_sum_is_none_of_the_examples() -> None:
    losses, constant = torch.rand(N, dtype=torch.float64), 3.0
    parts, factors = _of_a_sum(N)
    made = sum(f * (losses[part].sum() + constant) for part, f in zip(parts, factors, strict=True))
    torch.testing.assert_close(made, losses.sum() + constant)
