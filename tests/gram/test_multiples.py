"""Penalties on parameters, of which all examples have the same gradient."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import Examples, GradientGram, gradient_gram, gram_of_examples
from lightning_stiffness.gram.familiar import forget
from lightning_stiffness.gram.multiples import Multiple, add_multiples, along, parted
from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer, Part
from lightning_stiffness.gram.total import Total
from tests.gram.test_scales import off

N = 24


class Words(nn.Module):
    """An embedding, a convolution, linear layers, a bare scale and a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.near = nn.Embedding(10, 6), nn.Conv1d(6, 5, 3, padding=1)
        self.out, self.idle = nn.Linear(5, 4), nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.near(self.words(x).transpose(1, 2)).tanh().mean(2)
        return self.out(hidden) * self.scale


def data(seed: int = 0, n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, (n, 7), generator=generator), torch.randint(4, (n,), generator=generator)


def entropy(module: nn.Module, batch: Any, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction=reduction)


def squares(module: nn.Module) -> Tensor:
    return sum((p.square().sum() for p in module.parameters()), torch.zeros((), dtype=torch.float64))


def one_by_one(module: nn.Module, batch: Any) -> Tensor:
    loss = entropy(module, batch)
    for parameter in module.parameters():
        loss = loss + 0.01 * parameter.norm()
    return loss


def in_place(module: nn.Module, batch: Any) -> Tensor:
    loss = entropy(module, batch)
    for parameter in module.parameters():
        loss += 0.01 * parameter.norm()
    return loss


def several(module: nn.Module, batch: Any) -> Tensor:
    return entropy(module, batch) + 0.01 * squares(module) + 0.01 * sum(p.abs().sum() for p in module.parameters())


PENALISED = {
    "mean": lambda m, b: entropy(m, b) + 0.01 * squares(m),
    "first": lambda m, b: 0.01 * squares(m) + entropy(m, b),
    "sum": lambda m, b: entropy(m, b, "sum") + 0.01 * squares(m),
    "each": lambda m, b: entropy(m, b, "none") + 0.01 * squares(m),
    "mean of each": lambda m, b: entropy(m, b, "none").mean() + 0.01 * squares(m),
    "reward": lambda m, b: entropy(m, b) - 0.01 * squares(m),
    "halved": lambda m, b: (entropy(m, b) + 0.01 * squares(m)) / 2,
    "one layer": lambda m, b: entropy(m, b) + m.near.weight.square().mean(),
    "spectral": lambda m, b: entropy(m, b) + torch.linalg.matrix_norm(m.out.weight, 2),
    "a parameter itself": lambda m, b: entropy(m, b) + 0.1 * m.scale,
    "what nothing uses": lambda m, b: entropy(m, b) + m.idle.weight.square().sum(),
    "several": several,
    "one by one": one_by_one,
    "in place": in_place,
}


def measured(loss: Any, engine: str = "auto", **settings: Any) -> GradientGram:
    forget()
    return gradient_gram(Words(), data(), loss_fn=loss, engine=engine, **settings)


@pytest.mark.filterwarnings("error:stiffness of")
@pytest.mark.parametrize("how", PENALISED)
def test_penalties_take_the_fast_way(how: str) -> None:
    found, exact = (measured(PENALISED[how], engine) for engine in ("auto", "loop"))
    assert off(found, exact) < 1e-12
    assert not found.plan.fallbacks
    assert Multiple.formula in str(found.plan)


@pytest.mark.filterwarnings("error:stiffness of")
@pytest.mark.parametrize("how", ["mean", "sum", "each", "several"])
@pytest.mark.parametrize("setting", ["cross", "budget", "layers", "step", "batches", "some"])
def test_with_settings(how: str, setting: str) -> None:
    loss, module = PENALISED[how], Words()
    weights = {name: torch.rand_like(p) if k % 2 else 0.5 for k, (name, p) in enumerate(module.named_parameters())}
    settings: dict[str, Any] = {
        "cross": {"other": data(1, 13)},
        "budget": {"memory_budget": 60_000},
        "layers": {"per_layer": True},
        "step": {"step": weights},
        "some": {"parameters": ["near", "out.bias"]},
        "batches": {},
    }[setting]
    forget()
    if setting == "batches":
        both = Examples.of(data(0, 9), data(1, 12))
        found, exact = (gram_of_examples(module, both, loss_fn=loss, engine=e) for e in ("auto", "loop"))
    else:
        found, exact = (gradient_gram(module, data(), loss_fn=loss, engine=e, **settings) for e in ("auto", "loop"))
    assert off(found, exact) < 1e-11
    assert not found.plan.fallbacks
    if setting == "layers":
        for layer, gram in (found.layers or {}).items():
            torch.testing.assert_close(gram.values, (exact.layers or {})[layer].values, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_penalty_of_another_kind_is_right_too() -> None:
    """Not added to all losses, but to a number that is no mean of theirs, or multiplied with them."""
    for loss in (
        lambda m, b: (entropy(m, b) + 0.1 * squares(m)).log(),
        lambda m, b: entropy(m, b) * squares(m),
        lambda m, b: entropy(m, b) * torch.exp(-m.scale) + m.scale,
    ):
        found, exact = measured(loss), measured(loss, "loop")
        products = [gram.values / gram.norms[:, None] / gram.norms[None, :] for gram in (found, exact)]
        torch.testing.assert_close(*products, rtol=0, atol=1e-9)


def test_later_measurements() -> None:
    module = Words()
    forget()
    for step in range(8):
        batch = data(step)
        found, exact = (gradient_gram(module, batch, loss_fn=several, engine=e) for e in ("auto", "loop"))
        assert off(found, exact) < 1e-11
        assert not found.plan.fallbacks
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.05 * torch.randn_like(parameter)


def parts(kind: str) -> Part:
    torch.manual_seed(0)
    draw = {"dtype": torch.float64}
    if kind == "outer":
        return Outer(torch.randn(5, 3, 4, **draw), torch.randn(5, 3, 6, **draw))  # type: ignore[call-overload]
    if kind == "dense":
        return Dense(torch.randn(5, 24, **draw), 4)  # type: ignore[call-overload]
    if kind == "lookup":
        return Lookup(torch.randint(4, (5, 3)), torch.randn(5, 3, 6, **draw), 4)  # type: ignore[call-overload]
    inputs, gradient = torch.randn(5, 1, 3, 8, **draw), torch.randn(5, 1, 4, 7, **draw)  # type: ignore[call-overload]
    return Convolution(inputs, gradient, (4, 3, 2), (1,), (0,), (1,), 1)


@pytest.mark.parametrize("room", [1, 1 << 20])
@pytest.mark.parametrize("kind", ["outer", "dense", "lookup", "convolution"])
def test_along_a_direction(kind: str, room: int) -> None:
    part = parts(kind)
    direction = torch.randn(part.rows, part.columns, dtype=torch.float64)
    expected = part.dense(0, part.rows) @ direction.flatten()
    torch.testing.assert_close(along(part, direction, room), expected)


@pytest.mark.parametrize("size", [1.0, 1e-25, 1e25, 0.0])
def test_sizes_of_directions(size: float) -> None:
    """In single precision their squares would vanish, or overflow."""
    torch.manual_seed(0)
    own, factors = torch.randn(6, 4) * (size or 1.0), torch.rand(6)
    multiple = Multiple(factors[:, None], torch.randn(2, 2) * size)
    total = Total(6, None, torch.device("cpu"))
    add_multiples(total, [[Dense(own, 2)]], [6], [multiple], 1 << 20)
    vectors, same = own.double(), multiple.dense(0, 2).double()
    expected = (vectors + same) @ (vectors + same).T - vectors @ vectors.T
    scale = float(expected.abs().max())
    torch.testing.assert_close(total.products().values, expected, rtol=1e-5, atol=1e-6 * scale)


def test_pieces_with_other_parts_stay_together() -> None:
    one, two = Multiple(torch.ones(2, 1), torch.ones(1, 3)), Dense(torch.ones(2, 3))
    pieces: list[list[Part]] = [[one, two], [two]]
    assert parted(pieces) == (pieces, [])
    own, multiples = parted([[one, two], [two, copy.copy(one)]])
    assert own == [[two], [two]]
    assert multiples[0].factors.flatten().tolist() == [1.0] * 4
