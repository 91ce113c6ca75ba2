"""Ways from the loss to a parameter of which no call is seen: such parameters go through other engines."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import gradient_gram
from tests.gram.cases import CASES
from tests.gram.test_engines import measured, reference
from tests.gram.test_scales import off

DOUBLE = torch.float64


class Rarely(torch.autograd.Function):
    """x Wᵀ for the examples that are large: its gradient by W is zero for all others."""

    @staticmethod
    def forward(ctx, x, weight):
        large = (x.abs().amax(1, keepdim=True) > 5).to(x.dtype)
        ctx.save_for_backward(x, weight, large)
        return large * (x @ weight.T)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, large = ctx.saved_tensors
        return (large * gradient) @ weight, (large * gradient).T @ x


@torch.jit.script
def scripted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x.abs() > 5).to(x.dtype).amax(1, keepdim=True) * (x @ weight.t())


class Twice(nn.Module):
    """A weight that is used where everybody sees it, and once more where nobody does, for a few examples."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.head, self.how = nn.Linear(6, 6), nn.Linear(6, 3), how

    def forward(self, x):
        weight = self.layer.weight
        hidden = self.layer(x)
        if self.how == "function":
            hidden = hidden + Rarely.apply(x, weight)
        elif self.how == "scripted":
            hidden = hidden + scripted(x, weight)
        return self.head(hidden.tanh())


def loss_fn(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


@pytest.mark.filterwarnings("ignore:stiffness of", "ignore:`torch.jit.script`")
@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("how", ["function", "scripted"])
def test_a_use_that_only_some_examples_show(how, reduce):
    torch.manual_seed(0)
    net, x, y = Twice(how).double(), torch.randn(30, 6, dtype=DOUBLE), torch.arange(30) % 3
    x[[7, 11, 20]] = x[[7, 11, 20]].clamp(-0.2, 0.2)
    x[[7, 11, 20], 0] = 6.0  # none of the examples that are taken alone; of ordinary gradients
    assert not (x[[1, 28]].abs() > 5).any()

    def one_number(module, batch):
        return loss_fn(module, batch).mean()

    loss = one_number if reduce else loss_fn
    expected = gradient_gram(net, (x, y), loss_fn=loss, engine="loop")
    found = gradient_gram(net, (x, y), loss_fn=loss)
    assert off(found, expected) < 1e-9
    assert "layer.weight" in found.plan.fallbacks
    assert "no call is seen" in found.plan.fallbacks["layer.weight"]


@pytest.mark.parametrize("name", ["bare_inplace_multiply", *(n for n in CASES if n.startswith("view_changed"))])
def test_a_view_changed_in_place(name):
    """Autograd then writes the graph of what it is a view of anew: the layer is found behind it."""
    torch.manual_seed(0)
    case = CASES[name]
    found, expected = measured(case, "layerwise", False), reference(case, False)
    assert off(found, expected) < 1e-9
    assert not found.plan.fallbacks


def test_where_all_is_seen_nothing_falls_back():
    torch.manual_seed(0)
    net = Twice("not at all").double()
    found = gradient_gram(net, (torch.randn(30, 6, dtype=DOUBLE), torch.arange(30) % 3), loss_fn=loss_fn)
    assert not found.plan.fallbacks
