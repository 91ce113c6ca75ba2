"""Examples that are computed otherwise by their place in the batch, in which no call mixes them."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import GradientGram, gradient_gram, parted
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_scales import off

N = 40


class Table(nn.Module):
    """With a row for each place, in which few are otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
        self.register_buffer("rows", torch.zeros(100, 8))
        self.rows[9::10] = 1.0  # type: ignore[operator]
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def each(module: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def tenth(n: int) -> Tensor:
    return torch.arange(n) % 10 == 9


def by_table(module: Any, batch: Any) -> Tensor:
    hidden = torch.tanh(module.first(batch[0])) + module.rows[: len(batch[0])]
    return nn.functional.cross_entropy(module.last(hidden), batch[1], reduction="none")


def by_index(module: Any, batch: Any) -> Tensor:
    hidden = torch.tanh(module.first(batch[0])) + module.rows[torch.arange(len(batch[0]))]
    return nn.functional.cross_entropy(module.last(hidden), batch[1], reduction="none")


def by_weight(module: Any, batch: Any) -> Tensor:
    return each(module, batch) * torch.where(tenth(len(batch[0])), 0.1, 1.0)


def by_flipped_inputs(module: Any, batch: Any) -> Tensor:
    return each(module, (torch.where(tenth(len(batch[0]))[:, None], batch[0].flip(1), batch[0]), batch[1]))


def by_list(module: Any, batch: Any) -> Tensor:
    return each(module, batch) * torch.tensor([0.1 if k % 10 == 9 else 1.0 for k in range(len(batch[0]))])


def by_array(module: Any, batch: Any) -> Tensor:
    """Of which no call tells."""
    weights = np.where(np.arange(len(batch[0])) % 10 == 9, 0.1, 1.0)
    return each(module, batch) * torch.from_numpy(weights)


def by_mask(module: Any, batch: Any) -> Tensor:
    mask = torch.from_numpy(np.arange(len(batch[0])) % 10 == 9)
    return torch.where(mask, 0.1 * each(module, batch), each(module, batch))


def by_plain_array(module: Any, batch: Any) -> Tensor:
    """The same for all."""
    return each(module, batch) * torch.from_numpy(np.full(len(batch[0]), 0.5))


def by_own_entry(module: Any, batch: Any) -> Tensor:
    """The places of all pick an entry of each: as any loss may."""
    logits = module(batch[0]).log_softmax(1)
    return -logits[torch.arange(len(logits)), batch[1]]


def by_flat_entry(module: Any, batch: Any) -> Tensor:
    logits = module(batch[0]).log_softmax(1)
    return -logits.reshape(-1)[torch.arange(len(logits)) * 4 + batch[1]]


def by_expanded(module: Any, batch: Any) -> Tensor:
    """A row that all share."""
    row = torch.ones(1, 8, dtype=torch.float64).expand(len(batch[0]), 8)
    hidden = torch.tanh(module.first(batch[0])) * row + torch.zeros(len(batch[0]), 8, dtype=torch.float64)
    return nn.functional.cross_entropy(module.last(hidden), batch[1], reduction="none")


def measured(loss: Any, engine: str) -> GradientGram:
    forget()
    torch.manual_seed(0)
    module, batch = Table(), (torch.randn(N, 6, dtype=torch.float64), torch.arange(N) % 4)
    return gradient_gram(module, batch, loss_fn=loss, engine=engine)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", [by_table, by_index, by_weight, by_flipped_inputs, by_list, by_array, by_mask])
def test_rows_that_differ_by_their_place(loss: Any) -> None:
    for whole in (loss, lambda m, b: loss(m, b).mean()):
        assert off(measured(whole, "auto"), measured(whole, "loop")) < 1e-9


@pytest.mark.parametrize("loss", [by_own_entry, by_flat_entry, by_expanded, by_plain_array])
def test_what_is_as_it_is_alone(monkeypatch: pytest.MonkeyPatch, loss: Any) -> None:
    looks: list[Any] = []
    monkeypatch.setattr(parted, "most_apart", lambda *given: looks.append(given))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measured(loss, "auto")
    assert not found.plan.fallbacks
    assert not looks
