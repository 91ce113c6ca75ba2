"""Whatever goes wrong inside the layerwise engine, the Gram is right; what goes wrong in the module is raised."""

import warnings

import pytest
import torch
from torch import nn

from lightning_stiffness.gram import EngineRefusal, gradient_gram, measurement


def net_and_batch() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    return net, (torch.randn(6, 4).double(), torch.arange(6) % 2)


def loss(module: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def test_an_error_in_the_engine_leads_to_the_other_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = net_and_batch()
    expected = gradient_gram(net, batch, loss_fn=loss, engine="loop").values

    def broken(*_: object) -> None:
        raise IndexError("not foreseen")

    monkeypatch.setattr(measurement, "multiply", broken)
    with pytest.warns(UserWarning, match="exact but slow: .*IndexError: not foreseen"):
        got = gradient_gram(net, batch, loss_fn=loss)
    torch.testing.assert_close(got.values, expected, rtol=1e-12, atol=0)
    assert set(got.plan.fallbacks) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_the_same_reason_is_told_once() -> None:
    """Its figures are others in each measurement; they are in the plan."""
    net, (x, y) = net_and_batch()
    reasons = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for step in range(4):
            batch = x * (1 + step), y
            found = gradient_gram(
                net, batch, loss_fn=lambda m, b: (m(b[0]) - m(b[0]).mean(0)).square().sum(1) + loss(m, b)
            )
            reasons |= {*found.plan.fallbacks.values()}
    assert len(reasons) > 1
    assert len([one for one in caught if "exact but slow" in str(one.message)]) == 1


@pytest.mark.filterwarnings("ignore")
def test_an_error_in_the_module_is_raised_as_it_is() -> None:
    net, (x, y) = net_and_batch()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        gradient_gram(net, (x[:, :3], y), loss_fn=loss)


class Branches(nn.Module):
    """A weight used by every example, and by some once more inside ``torch.cond``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rare = (x[:, :1] > 1).to(x.dtype)
        again = torch.cond(
            torch.tensor(True, device=x.device), lambda v: v @ self.layer.weight.T, lambda v: v * 1.0, (x,)
        )
        return self.head(torch.tanh(self.layer(x) + rare * again))


@pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="torch < 2.6 shows no calls beside torch.cond"
)
@pytest.mark.parametrize("engine", ["auto", "vmap"])
@pytest.mark.filterwarnings("ignore")
def test_operators_over_functions(engine: str) -> None:
    """Run without the compiler, as calls are watched, they give no gradient."""
    torch.manual_seed(0)
    net, x = Branches().double(), torch.randn(9, 4).double().clamp(max=0.5)
    x[[3, 5], 0] = 2.0  # none of those that are compared with themselves alone
    batch = x, torch.arange(9) % 2
    expected = gradient_gram(net, batch, loss_fn=loss, engine="loop").values
    try:
        gram = gradient_gram(net, batch, loss_fn=loss, engine=engine)
    except EngineRefusal:
        assert engine == "vmap"
        return
    torch.testing.assert_close(gram.values, expected, rtol=1e-9, atol=1e-12)
    if engine == "auto":
        assert gram.plan is not None
        assert "torch's operator cond" in gram.plan.fallbacks["layer.weight"]
