"""Examples that a module puts in another order, whatever the calls: no layer is given another example's rows."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.order import ELSEWHERE
from tests.gram.test_scales import off

DOUBLE = torch.float64


def written(x, order):
    out = torch.zeros_like(x)
    out[order] = x
    return out


def folded(x, order):
    twice = torch.stack([x, x], 1).flatten(0, 1)
    return twice[torch.stack([2 * order, 2 * order + 1], 1).flatten()].unflatten(0, (-1, 2)).mean(1)


WAYS = {
    "list": lambda x, order: x[order.tolist()],
    "list and columns": lambda x, order: x[order.tolist(), :],
    "array": lambda x, order: x[order.numpy()],
    "int32": lambda x, order: x[order.int()],
    "both axes": lambda x, order: x[order[:, None], torch.arange(x.shape[1])],
    "embedding": lambda x, order: functional.embedding(order, x),
    "take": lambda x, order: torch.take(x, order[:, None] * x.shape[1] + torch.arange(x.shape[1])),
    "index_copy": lambda x, order: torch.zeros_like(x).index_copy(0, order, x),
    "index_put": lambda x, order: torch.zeros_like(x).index_put((order,), x),
    "index_add": lambda x, order: torch.zeros_like(x).index_add(0, order, x),
    "scatter": lambda x, order: torch.zeros_like(x).scatter(0, order[:, None].expand_as(x), x),
    "written": written,
    "folded": folded,
}


class Reorders(nn.Module):
    """Two layers for examples by some order of theirs; the losses are in the order that they came in."""

    def __init__(self, way) -> None:
        super().__init__()
        self.first, self.last, self.way = nn.Linear(6, 8), nn.Linear(8, 3), way

    def forward(self, x):
        order = x[:, 0].argsort(stable=True)
        return self.way(self.last(self.first(self.way(x, order)).tanh()), order.argsort())


class Kinds(nn.Module):
    """Short examples first, then long ones, each kind in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        short = x[:, 0] < 0.5
        hidden = self.last(self.first(torch.cat([x[short], x[~short]])).tanh())
        out, count = torch.empty_like(hidden), int(short.sum())
        out[short], out[~short] = hidden[:count], hidden[count:]
        return out


def loss_fn(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_whatever_the_calls(way, cross):
    torch.manual_seed(0)
    net, x, y = Reorders(WAYS[way]).double(), torch.randn(24, 6, dtype=DOUBLE), torch.arange(24) % 3
    x[:, 0] = torch.linspace(-1, 1, 24)
    x[[3, 4], 0] = x[[4, 3], 0]  # the only ones out of order
    x[[15, 16], 0] = x[[16, 15], 0]
    halves = ((x[:12], y[:12]), (x[12:], y[12:])) if cross else ((x, y), None)
    for _ in range(2):
        found = gradient_gram(net, *halves, loss_fn=loss_fn)
        assert off(found, gradient_gram(net, *halves, loss_fn=loss_fn, engine="loop")) < 1e-9
        assert ELSEWHERE in found.plan.fallbacks.values()


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_kinds_of_examples_apart():
    torch.manual_seed(0)
    net, x, y = Kinds().double(), torch.randn(10, 6, dtype=DOUBLE), torch.arange(10) % 3
    x[:, 0] = torch.tensor([0.0, 0, 0, 1, 0, 0, 1, 1, 1, 1])  # those compared stay in their places
    found = gradient_gram(net, (x, y), loss_fn=loss_fn)
    assert off(found, gradient_gram(net, (x, y), loss_fn=loss_fn, engine="loop")) < 1e-9
    assert found.plan.fallbacks


class Graphs(nn.Module):
    """Attention between neighbours, which are masked: a softmax does not see what is the same for all of a node."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.source, self.target = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x, near):
        h = self.layer(x)
        scores = (h @ self.target)[:, :, None] + (h @ self.source)[:, None, :]
        scores = functional.leaky_relu(scores, 0.2).masked_fill(near == 0, -1e9)
        weights = scores.softmax(-1)
        weights = weights.masked_select(near.any(2, keepdim=True).expand_as(near)).view_as(near)
        return self.last((weights @ h).relu().sum(1))


def test_rows_that_are_nothing_but_rounding():
    """Those of nodes whose neighbours are all on one side of the kink, in float32."""
    for seed in range(10):
        torch.manual_seed(seed)
        near = (torch.rand(12, 6, 6) < 0.4) | torch.eye(6, dtype=torch.bool)
        batch = torch.randn(12, 6, 4), near, torch.arange(12) % 3

        def loss(module, batch):
            return functional.cross_entropy(module(*batch[:2]), batch[2], reduction="none")

        assert ELSEWHERE not in gradient_gram(Graphs(), batch, loss_fn=loss).plan.fallbacks.values()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_an_index_that_moves_no_examples(dtype):
    """Columns picked by a list, and a mask over the classes: nothing falls back."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    batch = torch.randn(12, 6, dtype=dtype), torch.arange(12) % 3

    def loss(module, batch):
        scores = module(batch[0][:, [0, 2, 3, 5]]).log_softmax(1)
        scores = scores[:, torch.tensor([True, True, True])]
        return -scores[torch.arange(len(scores)), batch[1]]

    found = gradient_gram(net, batch, loss_fn=loss)
    assert off(found, gradient_gram(net, batch, loss_fn=loss, engine="loop")) < 1e-6
    assert not found.plan.fallbacks
