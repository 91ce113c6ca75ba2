"""Examples that are looked at because those compared say nothing of some parameters."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.check import Witness, spread
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.parts import Dense, Lookup, Outer, Part
from lightning_stiffness.gram.telling import telling
from tests.gram.test_scales import off

N = 20


def witness(positions: list[int], **of: str) -> Witness:
    """Parameter → whether its gradients are zero for each of the examples, one letter an example."""
    table = {name: [[float(a == b == "1") for b in letters] for a in letters] for name, letters in of.items()}
    return Witness(positions, table, dict.fromkeys(of, 1e-5))


def held(**parts: list[list[Part]]) -> Collected:
    sizes = [piece[0].n for piece in next(iter(parts.values()))]
    return Collected(parts, {name: {} for name in parts}, sizes)


def dense(*rows: float) -> Dense:
    return Dense(torch.tensor(rows, dtype=torch.float32)[:, None].repeat(1, 3), 1)


def test_nothing_where_every_parameter_is_told_of() -> None:
    collected = held(weight=[[dense(0, 1, 1, 1)]], bias=[[dense(1, 1, 1, 1)]])
    assert telling(collected, ["weight", "bias"], witness([1, 2], weight="10", bias="01"), 0, [(0, 4)]) == set()


def test_the_example_that_tells_of_most_comes_first() -> None:
    collected = held(
        a=[[dense(0, 0, 1, 0)], [dense(0, 1)]],
        b=[[dense(0, 0, 1, 1)], [dense(0, 0)]],
        c=[[dense(0, 0, 0, 0)], [dense(1, 0)]],
    )
    found = telling(collected, ["a", "b", "c"], witness([0, 1], a="00", b="00", c="00"), 100, [(100, 106)])
    assert found == set()  # of that batch none was compared
    found = telling(collected, ["a", "b", "c"], witness([100, 101], a="00", b="00", c="00"), 100, [(100, 106)])
    assert found == {102, 104}


def test_each_batch_by_itself() -> None:
    collected = held(a=[[dense(1, 1, 1)], [dense(0, 0, 1)]])
    assert telling(collected, ["a"], witness([1, 4], a="10"), 0, [(0, 3), (3, 6)]) == {5}


def test_one_factor_that_is_zero_is_enough_and_indices_are_none() -> None:
    left = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 2.0]]])
    right = torch.tensor([[[0.0]], [[1.0]], [[1.0]]])
    lookup = Lookup(torch.tensor([[0], [1], [1]]), torch.tensor([[[0.0]], [[0.0]], [[1.0]]]), 2)
    for part in (Outer(left, right), lookup):
        assert telling(held(a=[[part]]), ["a"], witness([0], a="0"), 0, [(0, 3)]) == {2}
    assert telling(held(a=[[part]], b=[[]]), ["b"], witness([0], a="0", b="0"), 0, [(0, 3)]) == set()  # unused


def test_all_of_a_few_are_looked_at() -> None:
    assert [spread(n, 6) for n in (1, 2, 5, 6)] == [[0], [0, 1], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]


class Heads(nn.Module):
    """The second head has labels of a few examples only, and is another in a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x).tanh()
        with torch.no_grad():
            scale = torch.empty(len(x), 1, dtype=x.dtype)
            torch.full((len(x), 1), 2.0 if len(x) > 1 else 1.0, dtype=x.dtype, out=scale)
        return self.first(hidden), (self.second(hidden) * scale)[:, 0]


def both(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    scores, rating = module(batch[0])
    return F.cross_entropy(scores, batch[1], reduction="none") + torch.where(batch[2] > 0, rating.square(), 0.0)


def mean_of_both(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return both(module, batch).mean()


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [both, mean_of_both])
def test_a_head_with_few_labels(loss_fn: object) -> None:
    torch.manual_seed(0)
    module = Heads().double()
    rare = torch.zeros(N).index_fill(0, torch.tensor([5, 11]), 1.0)
    batch = torch.randn(N, 6).double(), torch.arange(N) % 3, rare
    found = gradient_gram(module, batch, loss_fn=loss_fn)
    assert found.plan.fallbacks
    assert off(found, gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")) < 1e-12
