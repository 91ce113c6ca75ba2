"""Examples that affect each other in ways that the few which are compared need not show; and those that do not."""

import random
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import GradientGram, alone, apart, coupled, familiar, gradient_gram, parted
from lightning_stiffness.gram import again as again_module
from lightning_stiffness.gram.check import CoupledExamples
from lightning_stiffness.gram.coupling import Coupling
from tests.gram.test_scales import off

N = 60

remembered = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="this torch does not tell whether saved tensors go through other functions: no calls are remembered",
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions of the examples whose gradients were taken alone, beside the reference."""
    positions: list[int] = []
    take = alone.example_gradient
    monkeypatch.setattr(alone, "example_gradient", lambda p, e, at: positions.append(at) or take(p, e, at))
    return positions


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5)).double()


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 20, dtype=torch.float64), torch.arange(N) % 5


def of_each(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def hard_ones(module: nn.Module, batch: Any) -> Tensor:
    """Online hard example mining: the largest seven tenths of the losses count."""
    losses = of_each(module, batch)
    return losses * (losses >= losses.detach().topk(max(1, int(0.7 * len(losses)))).values[-1])


def easy_ones(module: nn.Module, batch: Any) -> Tensor:
    """Small-loss selection against wrong labels."""
    losses = of_each(module, batch)
    return losses * (losses <= losses.detach().kthvalue(max(1, int(0.9 * len(losses)))).values)


def mean_of_hard_ones(module: nn.Module, batch: Any) -> Tensor:
    losses = of_each(module, batch)
    return losses.topk(max(1, int(0.7 * len(losses)))).values.mean()


def without_outliers(module: nn.Module, batch: Any) -> Tensor:
    """Inputs beyond two deviations of the batch are set to its mean."""
    x = batch[0]
    mean, deviation = x.mean(0, keepdim=True), x.std(0, keepdim=True, correction=0)
    return of_each(module, (torch.where((x - mean).abs() > 2 * deviation, mean, x), batch[1]))


def by_rank(module: nn.Module, batch: Any) -> Tensor:
    """The hardest twentieth weighs twice."""
    losses = of_each(module, batch)
    rank = losses.detach().argsort(descending=True).argsort()
    return torch.where(rank < len(losses) // 20 + 1, 2 * losses, losses)


def by_number(module: nn.Module, batch: Any) -> Tensor:
    """The same, by Python's numbers."""
    losses = of_each(module, batch)
    least = sorted(losses.tolist())[-(len(losses) // 20 + 1)]
    return torch.where(losses >= least, 2 * losses, losses)


CHOOSING = [hard_ones, easy_ones, mean_of_hard_ones, without_outliers, by_rank, by_number]


def measured(module: nn.Module, batch: Any, loss_fn: Any) -> tuple[GradientGram, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gram = gradient_gram(module, batch, loss_fn=loss_fn)
    return gram, [str(w.message) for w in caught if "stiffness of" in str(w.message)]


@pytest.mark.parametrize("logs", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss_fn", CHOOSING)
def test_what_all_examples_decide_together(loss_fn: Any, seed: int, logs: bool) -> None:
    """Also where numbers are drawn that play no part, as for a log."""

    def drawing(module: nn.Module, batch: Any) -> Tensor:
        return loss_fn(module, batch) if random.random() < 2 else torch.rand(1)

    module, batch = network(seed), data()
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")
    for _ in range(4):
        gram, messages = measured(module, batch, drawing if logs else loss_fn)
        assert off(gram, expected) < 1e-9
        assert gram.plan.fallbacks
        assert len(messages) == 1


@pytest.mark.parametrize("constant", [0.0, 0.7])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_constant_beside_the_losses(reduction: str, constant: float) -> None:
    """As a penalty of frozen weights."""

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction=reduction) + constant

    module, batch = network(0), data()
    gram, messages = measured(module, batch, loss_fn)
    assert not messages
    assert off(gram, gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")) < 1e-9


@pytest.mark.parametrize("logs", [False, True])
def test_numbers_that_are_drawn_are_none_of_the_batch(logs: bool) -> None:
    """Only what depends on them is left to the loop; all is where calls make something of all examples, as parts of
    a batch draw other numbers, and can't tell what that is for."""

    class TwoHeads(nn.Module):
        def __init__(self, first: nn.Module) -> None:
            super().__init__()
            self.first, self.last, self.other = first[0], first[2], nn.Linear(30, 5).double()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.first(x).tanh()
            return self.last(hidden), self.other(F.dropout(hidden.detach(), 0.5))

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        one, two = module(batch[0])
        losses = F.cross_entropy(one, batch[1], reduction="none") + F.cross_entropy(two, batch[1], reduction="none")
        if logs:
            losses.detach().mean()
        return losses

    module, batch = TwoHeads(network(0)), data()
    for _ in range(2):
        gram, _ = measured(module, batch, loss_fn)
        touched = ["other.bias", "other.weight"]
        assert sorted(gram.plan.fallbacks) == (sorted(dict(module.named_parameters())) if logs else touched)


@remembered
def test_examples_without_a_gradient_cost_none_once_they_are_known(taken: list[int], monkeypatch: Any) -> None:
    """As those beyond the margin of a hinge loss."""
    again = []
    take = again_module.example_gradient
    monkeypatch.setattr(again_module, "example_gradient", lambda p, e, at: again.append(at) or take(p, e, at))

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.multi_margin_loss(module(batch[0]), batch[1], reduction="none") * (batch[0][:, 0] < 1)

    module, (x, y) = network(0), data()
    x[:, 0] = -1.0
    x[[4, 30, 50], 0] = 2.0
    expected = gradient_gram(module, (x, y), loss_fn=loss_fn, engine="loop")
    for _ in range(4):
        gram, messages = measured(module, (x, y), loss_fn)
        assert off(gram, expected) < 1e-9
        assert not messages
    assert again == [4, 50]
    assert len(taken) == 1


def test_the_few_that_are_compared_would_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a look at the parts of a batch."""
    monkeypatch.setattr(parted, "most_apart", lambda *_: None)
    monkeypatch.setattr(parted, "gradients_apart", lambda *_: None)
    monkeypatch.setattr(coupled, "DOUBTED", 0)
    monkeypatch.setattr(Coupling, "holds", lambda *_: False)
    wrong = []
    for seed in range(6):
        module, batch = network(seed), data()
        gram, _ = measured(module, batch, without_outliers)
        wrong.append(off(gram, gradient_gram(module, batch, loss_fn=without_outliers, engine="loop")) > 1e-3)
        familiar.forget()
    assert any(wrong)


def test_numbers_of_all_examples_that_no_loss_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an accuracy that is logged: one forward pass more, and nothing else."""
    asked = []
    look = parted.most_apart
    monkeypatch.setattr(parted, "most_apart", lambda *given: asked.append(look(*given)) or asked[-1])

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        losses = of_each(module, batch)
        losses.detach().mean()
        return losses

    module, batch = network(0), data()
    gram, messages = measured(module, batch, loss_fn)
    assert asked == [None]
    assert not messages
    assert not gram.plan.fallbacks
    measured(module, batch, of_each)
    assert len(asked) == 1  # and none where there are no such numbers


def test_a_mean_over_what_all_examples_decide_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against the parts once in a process: afterwards it is as it was."""
    asked = []
    look = parted.most_apart
    monkeypatch.setattr(parted, "most_apart", lambda *given: (asked.append(1), look(*given))[1])
    batch = data()
    for seed in range(3):
        module = network(seed)
        expected = gradient_gram(module, batch, loss_fn=without_outliers, engine="loop")
        gram, messages = measured(module, batch, lambda m, b: without_outliers(m, b).mean())
        assert off(gram, expected) < 1e-9
        assert len(messages) == 1
    familiar.forget()
    asked.clear()
    for _ in range(3):
        gram, messages = measured(network(0), batch, lambda m, b: of_each(m, b)[:].mean())
        assert not messages
    assert len(asked) == 1
    gram, messages = measured(network(0), batch, lambda m, b: of_each(m, b).mean())
    assert len(asked) == 1  # a mean for sure


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("reduce", [torch.mean, lambda losses: losses])
def test_rounding_is_no_reason(reduce: Any, sign: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small losses in float32 are differences of large numbers; losses of both signs may cancel."""
    seen = []
    look = apart.losses_apart
    monkeypatch.setattr(apart, "losses_apart", lambda *given: seen.append(look(*given)) or seen[-1])
    module, batch = network(0).float(), (torch.randn(N, 20), torch.arange(N) % 5)

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        losses = of_each(module, batch)
        losses.detach().mean()
        for part in [1e6 / 3] * 3 if len(losses) > N // 2 else [1e6]:  # rounded otherwise
            losses = losses + part
        losses = losses - 1e6
        return reduce(torch.where(batch[1] % 2 == 0, 1.0, sign) * losses)

    _, messages = measured(module, batch, loss_fn)
    assert not messages
    assert len(seen) == 2
    assert seen[0] is not None  # so it is in float32
    assert seen[1] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_that_are_nothing_but_rounding(dtype: torch.dtype) -> None:
    """The mean of what a LayerNorm gives."""

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.layer_norm(module(batch[0]), [5]).mean(1).mean()

    module, (x, y) = network(0).to(dtype), data()
    _, messages = measured(module, (x.to(dtype), y), loss_fn)
    assert not any("of its parts" in message for message in messages)


def test_batches_of_one_length_alone() -> None:
    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        if len(batch[0]) not in (1, N):
            raise ValueError("another length")
        losses = of_each(module, batch)
        losses.detach().mean()
        return losses

    gram, messages = measured(network(0), data(), loss_fn)
    assert not messages
    assert not gram.plan.fallbacks


class Shifted(nn.Module):
    """A hidden layer beside the mean of the batch."""

    def __init__(self, first: nn.Module, detached: bool) -> None:
        super().__init__()
        self.first, self.last, self.detached = first[0], first[2], detached

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        mean = hidden.mean(0, keepdim=True)
        return self.last(hidden - (mean.detach() if self.detached else mean))


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("halved", [False, True])
def test_where_no_example_compared_has_a_gradient(
    detached: bool, halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not halved:
        monkeypatch.setattr(parted, "most_apart", lambda *_: None)
    module, (x, y) = Shifted(network(0), detached), data()
    y[[1, N - 2]] = -100

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none", ignore_index=-100)

    expected = gradient_gram(module, (x, y), loss_fn=loss_fn, engine="loop")
    for _ in range(3):
        gram, messages = measured(module, (x, y), loss_fn)
        assert off(gram, expected) < 1e-9
        assert len(messages) == 1


def test_a_loss_that_no_example_has_alone_is_refused_still() -> None:
    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        out = module(batch[0])
        return ((out - out.mean(0, keepdim=True)) ** 2).sum(1)

    with pytest.raises(CoupledExamples, match="compares the examples of a batch"):
        gradient_gram(network(0), data(), loss_fn=loss_fn)


class Trimmed(nn.Module):
    """Sequences are cut to the longest of the batch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.enter, self.leave, self.how = nn.Linear(6, 16), nn.Linear(16, 5), how

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = x[:, : int(lengths.max())] if self.how == "a number" else x[:, : lengths.max()]
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        return self.leave((self.enter(x).tanh() * inside[..., None]).sum(1) / lengths[:, None])


@remembered
@pytest.mark.parametrize("how", ["a number", "a tensor"])
def test_an_example_of_another_kind_has_no_turn(how: str, taken: list[int]) -> None:
    torch.manual_seed(0)
    module, x = Trimmed(how).double(), torch.randn(40, 9, 6, dtype=torch.float64)
    lengths, y = torch.randint(2, 10, (40,)), torch.arange(40) % 5
    lengths[1], lengths[38] = 9, 9

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0], batch[1]), batch[2], reduction="none")

    expected = gradient_gram(module, (x, lengths, y), loss_fn=loss_fn, engine="loop")
    for _ in range(8):
        gram, messages = measured(module, (x, lengths, y), loss_fn)
        assert off(gram, expected) < 1e-9
        assert not messages
    assert len(taken) == 1


class Sets(nn.Module):
    """Sets of up to eight things, laid one after the other before the linear layer; some are empty."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        things = self.enter(x.flatten(0, 1)).relu().view(*x.shape[:2], 16)
        return self.leave((things * inside[..., None]).sum(1))


@pytest.mark.parametrize("memory_budget", [None, 200_000])
def test_an_example_whose_values_tell_nothing_of_their_order(memory_budget: int | None) -> None:
    torch.manual_seed(0)
    sizes = torch.randint(0, 5, (40,))
    sizes[torch.rand(40) < 0.3], sizes[1], y = 0, 3, torch.arange(40) % 5
    inside = torch.arange(8) < sizes[:, None]
    x = torch.randn(40, 8, 6, dtype=torch.float64) * inside[..., None]

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0], batch[1]), batch[2], reduction="none")

    module = Sets().double()
    expected = gradient_gram(module, (x, inside, y), loss_fn=loss_fn, engine="loop")
    for _ in range(16):
        gram = gradient_gram(module, (x, inside, y), loss_fn=loss_fn, memory_budget=memory_budget)
        assert off(gram, expected) < 1e-9
        assert not gram.plan.fallbacks


class Touched(Shifted):
    """The same for examples of a kind that is rare."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        return self.last(hidden + (x[:, -1:] > 90) * hidden.detach().mean(0, keepdim=True))


@remembered
def test_an_example_that_showed_something_wrong_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the numbers would change from one measurement to the next though nothing else does."""
    for look in ("most_apart", "gradients_apart"):
        monkeypatch.setattr(parted, look, lambda *_: None)
    monkeypatch.setattr(Coupling, "holds", lambda *_: False)
    module, (x, y) = Touched(network(0), False), data()
    gram, _ = measured(module, (x, y), of_each)
    assert not gram.plan.fallbacks
    x[familiar.place_of(2, N), -1] = 99.0
    found = [measured(module, (x, y), of_each)[0] for _ in range(6)]
    assert [bool(gram.plan.fallbacks) for gram in found] == [False, *[True] * 5]
    expected = gradient_gram(module, (x, y), loss_fn=of_each, engine="loop")
    assert all(off(gram, expected) < 1e-9 for gram in found[1:])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_outputs_that_nothing_comes_of(kind: Any, taken: list[int]) -> None:
    """Of an LSTM's states, most losses take the last output alone."""
    torch.manual_seed(0)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.body, self.leave = nn.Linear(3, 4), kind(4, 6, batch_first=True), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(self.body(self.enter(x))[0][:, -1])

    module, batch = Recurrent().double(), (torch.randn(12, 5, 3, dtype=torch.float64), torch.arange(12) % 5)
    expected = gradient_gram(module, batch, loss_fn=of_each, engine="loop")
    for _ in range(3):
        gram, _ = measured(module, batch, of_each)
        assert off(gram, expected) < 1e-9
