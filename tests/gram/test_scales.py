"""A mean, a sum, or something between: what factor each example's gradient has, whatever else is special."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import familiar, gradient_gram
from lightning_stiffness.gram.partition import block_of, blocks_of
from lightning_stiffness.gram.problem import Examples


def off(found, expected):
    """Largest error of an inner product over the two norms."""
    norms = expected.norms[:, None] * expected.other_norms[None, :]
    return float(((found.values - expected.values).abs() / norms.clamp_min(1e-300)).max())


def rows_of_layers() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (4, 5)), nn.Linear(5, 8), nn.Tanh(), nn.Flatten(), nn.Linear(32, 30), nn.Tanh(),
        nn.Linear(30, 5),
    ).double()  # fmt: skip


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_mean_is_mended_alike_for_every_parameter_whatever_the_budget(reduction, cross):
    torch.manual_seed(0)
    net, x, y = rows_of_layers(), torch.randn(40, 20).double(), torch.randint(0, 5, (40,))
    batches = ((x[:23], y[:23]), (x[23:], y[23:])) if cross else ((x, y), None)

    def loss(kind):
        return lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1], reduction=kind)

    expected = gradient_gram(net, *batches, loss_fn=loss("none"), engine="loop")
    for budget in range(21_200, 43_000, 950):
        gram = gradient_gram(net, *batches, loss_fn=loss(reduction), memory_budget=budget)
        assert off(gram, expected) < 1e-9, budget
        assert torch.allclose(gram.norms, expected.norms, rtol=1e-9), budget
        assert not gram.plan.notes
        assert not gram.plan.fallbacks


def test_a_block_is_divided_as_the_whole_is():
    every = Examples.of((torch.arange(40.0),), (torch.arange(9.0),))
    whole = [(start, size) for start, size, _ in every.pieces(3)]
    found = []
    for low, high in blocks_of(every, 3, 14):
        found += [(low + start, size) for start, size, _ in block_of(every, 3, (low, high)).pieces(3)]
    assert found == whole


class Renormed(nn.Module):
    """Keeps the norms of its weights by exchanging their data, as networks for EEG do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        self.conv.weight.data = torch.renorm(self.conv.weight.data, p=2, dim=0, maxnorm=0.3)
        return self.out(self.conv(x).mean(2))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(9, 4, max_norm=1.0), nn.Linear(4, 2)

    def forward(self, index):
        return self.out(self.embedding(index).mean(1))


class Replaced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(4, 3).double(), nn.Linear(3, 2)

    def forward(self, x):
        self.first = self.first.to(x.dtype)
        return self.out(self.first(x))


@pytest.mark.parametrize("engine", ["loop", "auto"])
@pytest.mark.parametrize(
    ("net", "x"),
    [
        (Renormed, lambda: torch.randn(6, 2, 8)),
        (Scaled, lambda: torch.randint(0, 9, (6, 3))),
        (Replaced, lambda: torch.randn(6, 4)),
    ],
)
def test_parameters_that_a_forward_pass_changes_are_put_back(net, x, engine):
    torch.manual_seed(0)
    module, inputs = net(), x()
    before = {name: (p, p.detach().clone()) for name, p in module.named_parameters()}
    parts = dict(module.named_modules())

    def loss(module, batch):
        return module(batch[0]).square().sum(1)

    gradient_gram(module, (inputs,), loss_fn=loss, engine=engine)
    assert dict(module.named_modules()) == parts
    for name, parameter in module.named_parameters():
        kept, value = before[name]
        assert parameter is kept
        assert parameter.dtype == value.dtype
        assert torch.equal(parameter, value), name


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_lstm_needs_no_fallback(dtype):
    torch.manual_seed(0)
    net = nn.LSTM(3, 4, batch_first=True).to(dtype)
    batch = (torch.randn(7, 5, 3, dtype=dtype),)

    def loss(module, batch):
        return module(batch[0])[0].square().sum((1, 2))

    gram = gradient_gram(net, batch, loss_fn=loss)
    assert not gram.plan.fallbacks
    assert off(gram, gradient_gram(net, batch, loss_fn=loss, engine="loop")) < (
        1e-5 if dtype == torch.float32 else 1e-9
    )


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 1e-22), (torch.float32, 1e-30), (torch.float64, 1e-200)]
)
def test_a_bias_beside_an_input_next_to_nothing(dtype, size, cross):
    """As features of an example far from all centres of a radial network."""
    torch.manual_seed(0)
    net, x, y = nn.Linear(6, 3).to(dtype), torch.randn(12, 6, dtype=dtype), torch.arange(12) % 3
    x[5] *= size

    def loss(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    batches = ((x[:7], y[:7]), (x[3:], y[3:])) if cross else ((x, y), None)
    found = gradient_gram(net, *batches, loss_fn=loss)
    expected = gradient_gram(net, *batches, loss_fn=loss, engine="loop")
    assert off(found, expected) < (1e-5 if dtype == torch.float32 else 1e-12)
    torch.testing.assert_close(found.norms, expected.norms, rtol=1e-5, atol=0)
    assert not found.plan.fallbacks


class Reversed(nn.Module):
    """Gradients on the way to the first layer are scaled, in a batch alone, by a function that no call shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(6, 6), nn.Tanh())))
        self.last = nn.Linear(6, 5)

    def forward(self, x):
        hidden = self.first(x)
        if hidden.requires_grad:
            scale = 2.0 if len(x) > 1 else 1.0
            hidden.register_hook(lambda gradient: gradient * scale)
        return self.last(hidden)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("rows", [5, 8])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_example_has_one_factor_for_all_parameters(reduction, rows):
    """Where the budget parts the parameters, each group by itself looks like a weighted mean; and one of five
    examples has a pass of its own, in which nothing is wrong."""
    torch.manual_seed(0)
    net, x, y = Reversed().double(), torch.randn(8, 6).double(), torch.randint(0, 5, (8,))
    batches = [(x[:rows], y[:rows]), *([(x[rows:], y[rows:])] if rows < 8 else [])]

    def loss(module, batch):
        return functional.mse_loss(
            module(batch[0])[:], functional.one_hot(batch[1], 5).double(), reduction=reduction
        )

    expected, reasons = gradient_gram(net, *batches, loss_fn=loss, engine="loop"), ""
    for budget in range(6_000, 14_000, 1_000):
        familiar.forget()
        gram = gradient_gram(net, *batches, loss_fn=loss, memory_budget=budget)
        assert gram.plan.fallbacks, budget
        assert off(gram, expected) < 1e-9, budget
        reasons += str(gram.plan.fallbacks)
    assert "one multiple" in reasons
