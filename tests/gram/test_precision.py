"""Rounding in float32 must not send a network to the slow engines, and must not excuse what is wrong."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import GradientGram, gradient_gram, trust


class AtZero(nn.Module):
    """Inputs of ReLUs within rounding of zero; a batch is rounded otherwise than an example alone."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.enter.bias[:4] = -(self.enter.weight @ x)[:4] * (1 + 8 * torch.finfo(x.dtype).eps)

    def forward(self, x: Tensor) -> Tensor:
        # What another order of summation does: it moves the last bits.
        return self.leave(F.relu(self.enter(x * (1 + 16 * torch.finfo(x.dtype).eps * (len(x) > 1)))))


def at_zero() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(6)
    return AtZero(x), (x.expand(9, 6) * torch.tensor([-1.0, 1.0]).repeat(5)[:9, None], torch.arange(9) % 3)


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def told(module: nn.Module, batch: Any, **options: Any) -> tuple[GradientGram, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gram = gradient_gram(module, batch, **({"loss_fn": loss} | options))
    return gram, [str(w.message) for w in caught if "stiffness of" in str(w.message)]


@pytest.mark.parametrize("memory_budget", [None, 20_000])
def test_a_relu_at_zero_is_no_reason_to_fall_back(memory_budget: int | None) -> None:
    module, batch = at_zero()
    gram, messages = told(module, batch, memory_budget=memory_budget)
    assert not messages
    assert gram.plan.fallbacks == {}
    assert any("enter.weight" in note and "float64" in note for note in gram.plan.notes)
    # the case is one: a batch and its examples alone do differ here
    alone = gradient_gram(module, batch, loss_fn=loss, engine="loop").values
    assert (gram.values - alone).abs().max() > 1e-3 * alone.abs().max()


def test_without_the_second_look_it_would_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "agree_in_double", lambda *_: set())
    gram, messages = told(*at_zero())
    assert "enter.weight" in gram.plan.fallbacks
    assert len(messages) == 1


class Dueling(nn.Module):
    """The value is the same for all actions, and a softmax over these does not see it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.value, self.advantage = nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        advantage = self.advantage(hidden)
        return self.value(hidden) + advantage - advantage.mean(1, keepdim=True)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_gradient_of_nothing_but_rounding_is_no_reason_to_fall_back(reduction: str) -> None:
    """Also for examples whose own gradient is small, as a clipped ratio leaves it."""

    def clipped(module: nn.Module, batch: Any) -> Tensor:
        policy = torch.distributions.Categorical(logits=module(batch[0]))
        ratio = (policy.log_prob(batch[1]) + batch[2].abs()).exp()
        losses = -torch.min(ratio * batch[3], ratio.clamp(0.8, 1.2) * batch[3]) - 0.01 * policy.entropy()
        return losses if reduction == "none" else losses.mean()

    for seed in range(12):
        module = Dueling()
        torch.manual_seed(seed)
        batch = torch.randn(12, 4), torch.randint(3, (12,)), torch.randn(12), torch.randn(12)
        _, messages = told(module, batch, loss_fn=clipped)
        assert not messages


class Centred(nn.Module):
    """Examples of a batch change each other, by as little as the check must see."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.enter(x))
        return self.leave(hidden - 0.01 * hidden.mean(0))


class Deaf(nn.Module):
    """Its copies compute with the weights of the first one, at a ReLU within rounding of zero."""

    def __init__(self, first: AtZero):
        super().__init__()
        self.enter, self.leave = first.enter, first.leave
        self.first = [first]

    def forward(self, x: Tensor) -> Tensor:
        return self.first[0](x.float())

    def __deepcopy__(self, memo: dict[int, Any]) -> "Deaf":
        twin = Deaf(AtZero(torch.zeros(6)))
        twin.first = self.first
        return twin


@pytest.mark.parametrize("build", [Centred, lambda: Deaf(at_zero()[0])], ids=["coupled", "deaf copy"])
def test_what_is_wrong_in_float64_too_falls_back(build: Any) -> None:
    torch.manual_seed(0)
    module, batch = build(), at_zero()[1]
    gram, messages = told(module, batch)
    assert len(messages) == 1
    alone = gradient_gram(module, batch, loss_fn=loss, engine="loop").values
    torch.testing.assert_close(gram.values, alone, rtol=1e-4, atol=1e-6 * float(alone.abs().max()))


class InHalf(nn.Module):
    """An autocast of its own; gives what it is, or half precision in any case; with an accuracy for a log."""

    def __init__(self, converts: bool, logs: bool) -> None:
        super().__init__()
        self.converts, self.logs = converts, logs
        self.layers = nn.Sequential(nn.Linear(20, 40), nn.GELU(), nn.Linear(40, 3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = self.layers(x)
        _ = float((out > 0).float().mean()) if self.logs else 0
        return out.bfloat16().to(x) if self.converts else out


@pytest.mark.parametrize(("converts", "logs"), [(False, False), (False, True), (True, False)])
def test_half_precision_of_the_module_s_own_is_said_to_be_that(converts: bool, logs: bool) -> None:
    torch.manual_seed(0)
    module, batch = InHalf(converts, logs), (torch.randn(50, 20), torch.arange(50) % 3)
    gram, warned = told(module, batch)
    assert not warned
    assert len(gram.plan.notes) == 1
    assert "computes in half precision by itself" in gram.plan.notes[0]
    assert "ReLU" not in gram.plan.notes[0]
    expected = gradient_gram(module, batch, loss_fn=loss, engine="loop")
    off = (gram.values - expected.values).abs() / expected.norms[:, None] / expected.norms
    assert 1e-6 < off.max() < 5e-3


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("converts", [False, True])
def test_rounding_in_half_precision_is_no_coupling(converts: bool, reduction: str) -> None:
    """With the same data and with others. Which it is can't be told where a copy in float64 rounds too, nor where
    a loss is one number, as rounding hides what each example weighs."""
    torch.manual_seed(0)
    module = InHalf(converts, True)
    for turn in range(4):
        batch = torch.randn(50, 20, generator=torch.Generator().manual_seed(turn // 2)), torch.arange(50) % 3
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gram = gradient_gram(
                module, batch, loss_fn=lambda m, b: F.cross_entropy(m(b[0]).float(), b[1], reduction=reduction)
            )
        assert bool(gram.plan.fallbacks) == (converts or reduction == "mean")
