"""Gradients stopped, or changed, by place or rank in a batch, which no loss shows."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import apart, bent, coupled, familiar, gradient_gram, parted, reasons
from lightning_stiffness.gram.measurement import WEIGHTED
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.references import Piece
from tests.gram.test_scales import off

N = 12
PARTS = apart.parts_of(N)
FACTORS = [1.0] * len(PARTS)


class Stopped(nn.Module):
    """The gradients of some examples are not passed on, though their values are as they would be."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.how = nn.Linear(6, 6), nn.Linear(6, 3), how

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.how(self.first(x).tanh()))


def written(x: Tensor) -> Tensor:
    x = x * 1
    x[2:4] = x[2:4].detach()
    return x


def lowest(x: Tensor) -> Tensor:
    size = x.detach().square().sum(1)
    return torch.where(size[:, None] >= size.sort().values[1 if len(x) > 1 else 0], x, x.detach())


def below_half(x: Tensor) -> Tensor:
    size = x.detach().square().sum(1)
    return torch.where(size[:, None] >= 0.7 * size.mean(), x, x.detach())


STOPPING: dict[str, Callable[[Tensor], Tensor]] = {
    "pieces": lambda x: torch.cat([x[:2], x[2:4].detach(), x[4:]]),
    "written": written,
    "lowest": lowest,
    "below half the mean": below_half,
    "split": lambda x: torch.cat([part.detach() if k == 1 else part for k, part in enumerate(x.split(3))]),
}


def each(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module: nn.Module, batch: Any) -> Tensor:
    return each(module, batch).mean()


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(N, 6, dtype=dtype), torch.arange(N) % 3


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("how", STOPPING)
def test_a_gradient_stopped_in_a_batch_alone(how: str, loss_fn: Any) -> None:
    module = Stopped(STOPPING[how]).double()
    for _ in range(3):
        found = gradient_gram(module, batch(), loss_fn=loss_fn)
        assert found.plan.fallbacks
        assert off(found, gradient_gram(module, batch(), loss_fn=loss_fn, engine="loop")) < 1e-12


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_in_float32_it_is_looked_at_again() -> None:
    found = gradient_gram(Stopped(STOPPING["pieces"]), batch(torch.float32), loss_fn=each)
    assert found.plan.fallbacks


def test_the_losses_would_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why gradients are looked at: the examples that are compared are others."""
    monkeypatch.setattr(parted, "gradients_apart", lambda *_: None)
    monkeypatch.setattr(coupled, "DOUBTED", 0)
    module = Stopped(STOPPING["pieces"]).double()
    found = gradient_gram(module, batch(), loss_fn=each)
    assert off(found, gradient_gram(module, batch(), loss_fn=each, engine="loop")) > 0.1


LOGGED: list[Tensor] = []
"""For all to see: a list that a function keeps for itself is put back after each loss."""


@pytest.mark.parametrize(("loss_fn", "times"), [(each, 1), (mean, 1)])
def test_what_is_as_it_is_alone(loss_fn: Any, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the same calls, and nothing is found."""
    seen = []
    look = bent.gradients_apart
    monkeypatch.setattr(parted, "gradients_apart", lambda *given: seen.append(look(*given)) or seen[-1])
    LOGGED.clear()

    def with_a_log(x: Tensor) -> Tensor:
        LOGGED.append(x.detach().mean())
        return torch.cat([x[:2], x[2:4] * 1, x[4:]])

    module = Stopped(with_a_log).double()
    for _ in range(5):
        found = gradient_gram(module, batch(), loss_fn=loss_fn)
        assert not found.plan.fallbacks
        assert off(found, gradient_gram(module, batch(), loss_fn=loss_fn, engine="loop")) < 1e-12
    assert LOGGED
    assert seen == [None] * times


def by_sum(x: Tensor) -> Tensor:
    """Stops gradients where the examples of a piece are large together."""
    return torch.where(x.detach().square().sum() < 10.0, x, x.detach())


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_every_piece_is_looked_at() -> None:
    """The examples compared are of the first and the last, which show nothing."""
    torch.manual_seed(2)
    module = Stopped(by_sum).double()
    x, labels = batch()
    x[4:8] *= 3.0
    sizes = module.first(x).tanh().detach().square().sum(1)
    assert max(sizes[:4].sum(), sizes[8:].sum(), sizes.max()) < 10.0 < sizes[4:8].sum()
    found = gradient_gram(module, (x, labels), loss_fn=each, memory_budget=5_000)  # pieces of four
    assert found.plan.fallbacks
    assert off(found, gradient_gram(module, (x, labels), loss_fn=each, engine="loop")) < 1e-12


def test_a_mean_of_losses_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parted, "gradients_apart", lambda *_: pytest.fail("a backward pass for nothing"))
    module = Stopped(lambda x: x.T.contiguous().T).double()  # what is not known to leave rows to themselves
    assert not gradient_gram(module, batch(), loss_fn=mean).plan.fallbacks
    assert not gradient_gram(module, batch(), loss_fn=each).plan.fallbacks


class Attending(nn.Module):
    """Asks for a number of all examples on the way; a softmax does not see the bias of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.last = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 2)).repeat(1, 1, 3)
        if (x.abs().amax() > 1e6).item():
            raise ValueError("out of range")
        weights = (self.query(x) @ self.key(x).mT).float().softmax(-1)  # in float32 whatever the rest is in
        return self.last(weights.to(x.dtype) @ self.value(x)).mean(1)[:, :3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss_fn", [each, mean])
def test_a_gradient_of_nothing_but_rounding(loss_fn: Any, dtype: torch.dtype) -> None:
    for seed in range(6):
        familiar.forget()
        torch.manual_seed(seed)
        module, given = Attending().to(dtype), (torch.randn(N, 6, dtype=dtype), torch.arange(N) % 3)
        assert not gradient_gram(module, given, loss_fn=loss_fn).plan.fallbacks


class Scaled(nn.Module):
    """A block beside the rest, scaled as in a network for images at first; it is stopped in a batch alone."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.full((6,), scale))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        beside = self.block(x).tanh()
        odd = torch.arange(len(x))[:, None] % 2 == 1
        return self.last(x + self.scale * torch.where(odd, beside.detach(), beside))


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("scale", [1e-6, 1e-8])
def test_a_small_gradient_is_not_rounding(scale: float, loss_fn: Any, dtype: torch.dtype) -> None:
    for _ in range(2):
        familiar.forget()
        module = Scaled(scale).to(dtype)
        found, exact = (
            gradient_gram(module, batch(dtype), loss_fn=loss_fn, engine=e, per_layer=True) for e in ("auto", "loop")
        )
        assert off(found.layers["block"], exact.layers["block"]) < (1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("loss_fn", [each, mean])
def test_rounding_is_no_reason(loss_fn: Any, scale: float) -> None:
    """Also where the gradients of a mean cancel, at the end of a training."""
    for seed in range(8):
        familiar.forget()
        module = Stopped(lambda x: torch.cat([x[:2], x[2:4] * 1, x[4:]]))
        torch.manual_seed(seed)
        x = torch.randn(N // 2, 6)
        inputs, labels = torch.cat([x, x]), torch.tensor([1.0, -1.0]).repeat_interleave(N // 2)

        def signed(module: nn.Module, batch: Any) -> Tensor:
            out = module(batch[0]).square().sum(1) * batch[1]
            return scale * (out if loss_fn is each else out.mean())

        assert not gradient_gram(module, (inputs, labels), loss_fn=signed).plan.fallbacks


def test_large_parameters_are_left_out_where_there_is_little_room() -> None:
    module = Stopped(STOPPING["pieces"]).double()
    problem, examples = Problem(module, each, dict(module.named_parameters())), Examples.of(batch())
    piece, losses = Piece(examples, 0, 0, N, examples.batches[0]), torch.zeros(N, dtype=torch.float64)
    found = [bent.gradients_apart(problem, piece, losses, PARTS, FACTORS, room) for room in (10**6, 10**4, 8)]
    assert found[0] is not None
    assert found[0][0] == 0
    assert found[0][1] > 0.01
    assert found[2] is None  # not even the smallest
    sizes = sorted(p.numel() * p.element_size() for p in module.parameters())
    least = [8 * 3 * total for total in itertools.accumulate(sizes)]
    assert least[0] < 10**4 < least[-1]
    # the last bias sees nothing stopped
    assert bent.gradients_apart(problem, piece, losses, PARTS, FACTORS, least[0]) is None


def counting(module: nn.Module, batch: Any) -> Tensor:
    """A mean over the positions with a label; passed through a slice, so that what it is a mean of is not sure."""
    scores = module(batch[0])[:].flatten(0, 1)
    return F.cross_entropy(scores, batch[1].flatten())


def labelled(seed: int) -> tuple[Tensor, Tensor]:
    """As many labels for the examples compared first as there are on average; others have one more, or less."""
    torch.manual_seed(seed)
    counts = torch.tensor([1, 2, 1, 1, 1, 3, 3, 3, 1, 3, 2, 3])
    labels = torch.where(torch.arange(3) < counts[:, None], torch.randint(0, 3, (N, 3)), -100)
    return torch.randn(N, 3, 6, dtype=torch.float64), labels


def test_a_weighted_mean_whose_first_examples_weigh_as_all_do() -> None:
    module = Stopped(lambda x: x).double()
    for seed in range(3):
        familiar.forget()
        found = gradient_gram(module, labelled(seed), loss_fn=counting)
        assert not found.plan.fallbacks
        assert WEIGHTED in found.plan.notes
        expected = gradient_gram(module, labelled(seed), loss_fn=counting, engine="loop")
        cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, expected)]
        torch.testing.assert_close(*cosines)


def above_the_mean(module: nn.Module, batch: Any) -> Tensor:
    """The losses above their mean count, the farther the more."""
    losses = F.cross_entropy(module(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="none").view(-1, 3)
    losses = losses.sum(1)
    return (losses * F.relu(losses - 0.9 * losses.mean()).detach()).mean()


def beside_all(module: nn.Module, batch: Any) -> Tensor:
    """A mean beside a little of what all have together."""
    out = module(batch[0])
    together = (out.mean(0) - out).square().mean() * len(out) / max(len(out) - 1, 1)
    return counting(module, batch) + 1e-3 * together


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [above_the_mean, beside_all])
def test_no_weighted_mean_is_made_of_what_is_none(loss_fn: Any) -> None:
    module = Stopped(lambda x: x).double()
    problem, examples = Problem(module, loss_fn, dict(module.named_parameters())), Examples.of(labelled(0))
    piece = Piece(examples, 0, 0, N, examples.batches[0])
    assert bent.is_made_of_parts(problem, piece, PARTS, 10**8) is False
    plain = Problem(module, counting, dict(module.named_parameters()))
    assert bent.is_made_of_parts(plain, piece, PARTS, 10**8)
    assert bent.is_made_of_parts(plain, piece, PARTS, 8) is None  # no room, no telling
    single = gradient_gram(module, labelled(0), loss_fn=loss_fn, engine="auto")
    assert single.plan.fallbacks


def test_in_float32_a_weighted_mean_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Stopped(lambda x: x)
    x, labels = labelled(0)
    examples = Examples.of((x.float(), labels))
    problem = Problem(module, counting, dict(module.named_parameters()))
    piece = Piece(examples, 0, 0, N, examples.batches[0])
    assert bent.is_made_of_parts(problem, piece, PARTS, 10**8)
    fits = bent._fit_together
    monkeypatch.setattr(
        bent,
        "_fit_together",
        lambda p, *more: fits(p, *more) and next(p.module.parameters()).dtype == torch.float64,
    )
    assert bent.is_made_of_parts(problem, piece, PARTS, 10**8)
    monkeypatch.setattr(bent, "in_double", lambda *_: int("no float64"))
    assert bent.is_made_of_parts(problem, piece, PARTS, 10**8) is None


def masked(module: nn.Module, batch: Any) -> Tensor:
    """A mean over the entries that count."""
    losses = F.mse_loss(module(batch[0]), batch[0][:, :3], reduction="none") * batch[1]
    return losses.sum() / batch[1].sum()


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_mean_whose_weights_are_even_in_every_half() -> None:
    """For the examples looked at as many entries count as on average; for two others one more, or one less."""
    counts = torch.tensor([2, 2, 1, 3, 2, 2])
    for seed in range(3):
        familiar.forget()
        torch.manual_seed(seed)
        data = torch.randn(6, 6, dtype=torch.float64), (torch.arange(3) < counts[:, None]).double()
        data[0][[0, 5]] *= 3.0  # so that others stand out
        module = Stopped(lambda x: x).double()
        found, expected = (gradient_gram(module, data, loss_fn=masked, engine=e) for e in ("auto", "loop"))
        assert found.plan.fallbacks or WEIGHTED in found.plan.notes
        cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, expected)]
        torch.testing.assert_close(*cosines)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("constant", [0.0, 0.7])
@pytest.mark.parametrize("how", ["pieces", "below half the mean", None])
def test_a_sum_of_losses(how: str | None, constant: float) -> None:
    """A constant beside it is in every part as well."""
    module = Stopped(STOPPING[how] if how else lambda x: torch.cat([x[:2], x[2:]])).double()

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return each(module, batch).sum() + constant

    found, expected = (gradient_gram(module, batch(), loss_fn=loss_fn, engine=e) for e in ("auto", "loop"))
    assert bool(found.plan.fallbacks) == (how is not None)
    assert off(found, expected) < 1e-12


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_weighted_mean_whose_gradients_are_stopped_by_place() -> None:
    how = STOPPING["pieces"]
    module, (x, labels) = Stopped(lambda x: how(x.flatten(1)).view_as(x)).double(), labelled(0)
    labels[1] = 0  # one of those compared first weighs more than the other
    found = gradient_gram(module, (x, labels), loss_fn=counting)
    assert set(found.plan.fallbacks.values()) == {reasons.NOT_OF_PARTS}
    assert off(found, gradient_gram(module, (x, labels), loss_fn=counting, engine="loop")) < 1e-12
