"""The gradient that torch's norms give a single example."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.norms import sound_norms
from tests.gram.test_scales import off

N = 8


class Tokens(nn.Module):
    """A convolutional stem in front of a transformer: channels go last, and something is done entry by entry."""

    def __init__(self, how: str, norm: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 16, 3, stride=2, padding=1), norm(16, affine=True)
        self.inner, self.scale = nn.Linear(16, 16), nn.Parameter(torch.randn(16))
        self.layer, self.out, self.how = nn.LayerNorm(16), nn.Linear(16, 3), how
        self.double().eval()
        nn.init.uniform_(self.norm.weight, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        if self.how == "scale":
            z = (z * self.scale).tanh()
        elif self.how == "norm":
            z = self.layer(z).tanh()
        elif self.how == "residual":
            z = z + self.inner(z).tanh()
        return self.out(z.square().mean(1))


def loss_fn(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 3, 12, 12, dtype=torch.float64), torch.arange(N) % 3


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
@pytest.mark.parametrize("how", ["scale", "norm", "residual", "neither"])
@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
def test_every_engine_has_the_gradient_of_an_example_taken_twice(how: str, norm: Any, engine: str) -> None:
    """Which is its own, and which torch gets right."""
    module = Tokens(how, norm)
    batch = data()
    found = gradient_gram(module, batch, loss_fn=loss_fn, engine=engine)
    twice = []
    for i in range(N):
        loss = loss_fn(module, (batch[0][[i, i]], batch[1][[i, i]])).mean()
        grads = torch.autograd.grad(loss, [*module.parameters()], materialize_grads=True)
        twice.append(torch.cat([g.flatten() for g in grads]))
    expected = torch.stack(twice)
    assert float((found.values - expected @ expected.T).abs().max() / found.values.abs().max()) < 1e-9
    assert engine != "auto" or not found.plan.fallbacks


def test_what_it_is_for() -> None:
    """Torch alone, in evaluation mode. Where this fails, torch has mended it, and the module may go."""
    module, (x, y) = Tokens("scale", nn.BatchNorm2d), data()
    alone, twice = (
        torch.autograd.grad(loss_fn(module, (x[rows], y[rows])).mean(), module.norm.bias)[0]
        for rows in ([0], [0, 0])
    )
    assert float((alone - twice).norm() / twice.norm()) > 0.01


class Functional(nn.Module):
    """Norms that are no modules, or not in the module."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.weight = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Parameter(torch.rand(16))
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("var", torch.ones(16))
        self.kind = kind
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        if self.kind == "function":
            z = F.batch_norm(z, self.mean, self.var, self.weight)
        elif self.kind == "instance":
            z = F.instance_norm(z, weight=self.weight)
        elif self.kind == "native":
            z = torch.native_batch_norm(z, self.weight, None, self.mean, self.var, False, 0.1, 1e-5)[0]
        elif self.kind == "elsewhere":
            z = ELSEWHERE(z * self.weight[:, None, None])
        elif self.kind == "checkpoint":
            z = checkpoint(NORMED, z * self.weight[:, None, None], use_reentrant=False)
        return (z.flatten(2).transpose(1, 2).tanh() - 0.3).square().flatten(1)


ELSEWHERE = nn.BatchNorm2d(16).double().eval()
NORMED = nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()).double().eval()


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", ["function", "instance", "native", "elsewhere", "checkpoint"])
def test_norms_wherever_they_are(kind: str, engine: str) -> None:
    module, x = Functional(kind), data()[0]
    found = gradient_gram(module, x, loss_fn=lambda m, b: m(b).mean(1), engine=engine)
    twice = []
    for i in range(N):
        grads = torch.autograd.grad(module(x[[i, i]]).mean(), [*module.parameters()], materialize_grads=True)
        twice.append(torch.cat([g.flatten() for g in grads]))
    expected = torch.stack(twice)
    assert float((found.values - expected @ expected.T).abs().max() / found.values.abs().max()) < 1e-9


def test_batches_are_left_as_they_are() -> None:
    norm, x = nn.BatchNorm2d(3).eval(), torch.randn(2, 3, 4, 4)
    with sound_norms():
        nodes = [norm(x[:k]).grad_fn.name() for k in (1, 2)]
    assert "Unsqueeze" in nodes[0]
    assert "BatchNorm" in nodes[1]


def test_torch_is_as_it_was() -> None:
    """Also after an error, and where one measurement ends within another."""

    def fail() -> None:
        with sound_norms():
            changed.append(torch.batch_norm is not before)
            raise KeyError

    before, changed = torch.batch_norm, []
    with sound_norms():
        with pytest.raises(KeyError):
            fail()
        changed.append(torch.batch_norm is not before)
    assert changed == [True, True]
    assert torch.batch_norm is before


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_an_example_in_a_batch_is_no_other_than_alone() -> None:
    module, batch = Tokens("residual", nn.BatchNorm2d), data()
    found, exact = (gradient_gram(module, batch, loss_fn=loss_fn, engine=e) for e in ("layerwise", "loop"))
    assert off(found, exact) < 1e-9
