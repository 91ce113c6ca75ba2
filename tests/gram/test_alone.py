"""Examples taken alone leave the gradients of a batch as they are, and one is enough only where rows are rows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import alone, familiar, gradient_gram, reference
from lightning_stiffness.gram.again import is_near
from lightning_stiffness.gram.digest import SHORT, digest
from lightning_stiffness.gram.problem import Examples, Problem
from tests.gram.test_scales import off

DOUBLE = torch.float64
N = 12
STAGE = torch.zeros(100, 6, dtype=DOUBLE)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(seed: int = 0, n: int = N) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(n, 6, dtype=DOUBLE), torch.arange(n) % 3


def each(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module: nn.Module, batch: Any) -> Tensor:
    return each(module, batch).mean()


class Staged(nn.Module):
    """Inputs are laid into memory of the module's own first, which is used for every batch."""

    def __init__(self, where: str):
        super().__init__()
        self.inner, self.where = net(), where
        self.kept = [torch.zeros(100, 6, dtype=DOUBLE)]

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "a list":
            x = self.kept[0][: len(x)].copy_(x)
        elif self.where == "a global":
            x = STAGE[: len(x)].copy_(x)
        elif self.where == "data":  # behind the back of autograd's versions
            STAGE.data[: len(x)].copy_(x)
            x = STAGE[: len(x)]
        elif self.where == "padding":
            stage = self.kept[0][: len(x)]
            stage[:, 1:-1] = x[:, 1:-1]
            x = stage
        return self.inner(x)


@pytest.mark.parametrize("where", ["a list", "a global", "data", "padding"])
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("n", [3, N])
def test_memory_that_is_used_again(where: str, loss_fn: Any, n: int) -> None:
    module = Staged(where)
    for seed in range(10):
        found = gradient_gram(module, data(seed // 3, n), loss_fn=loss_fn)
        expected = gradient_gram(module, data(seed // 3, n), loss_fn=loss_fn, engine="loop")
        assert off(found, expected) < 1e-9


@pytest.mark.parametrize("change", [Tensor.nan_to_num_, lambda x: x.clamp_(-1, 1), F.relu_])
@pytest.mark.parametrize("loss_fn", [each, mean])
def test_inputs_that_are_cleaned_in_place_need_no_other_engine(change: Any, loss_fn: Any) -> None:
    class Cleaning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            change(x)
            return self.inner(x)

    module = Cleaning()
    for seed in (0, 0, 0, 1, 1, 1):
        found = gradient_gram(module, data(seed), loss_fn=loss_fn)
        assert not found.plan.fallbacks
        assert off(found, gradient_gram(module, data(seed), loss_fn=loss_fn, engine="loop")) < 1e-9


class Leaning(nn.Module):
    """Outputs depend a little on the batch."""

    def __init__(self, how: str, size: float):
        super().__init__()
        self.enter, self.leave, self.how, self.size = nn.Linear(6, 8), nn.Linear(8, 3), how, size

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x).tanh()
        if self.how == "scale":
            hidden = hidden * (1 - self.size * hidden.mean())
        elif self.how == "place":
            hidden = hidden + self.size * torch.arange(len(x))[:, None]
        return self.leave(hidden)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("how", ["scale", "place"])
def test_examples_that_affect_each_other_a_little_in_float32(how: str) -> None:
    torch.manual_seed(0)
    module, batch = Leaning(how, 1e-3), (torch.randn(N, 6), torch.arange(N) % 3)
    expected = gradient_gram(module, batch, loss_fn=each, engine="loop")
    for _ in range(5):
        assert off(gradient_gram(module, batch, loss_fn=each), expected) < 1e-5


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [2, 4, 8])
def test_kinds_that_equal_halves_would_share(seed: int, k: int) -> None:
    """A second loss of as many examples in the first half as in the second; few that are compared have it."""
    n = 40
    x, y = data(seed, n)
    known = torch.zeros(n, dtype=torch.bool)
    for half in (0, n // 2):
        known[half + torch.randperm(n // 2)[: k // 2]] = True

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        errors = module[1](module[0](batch[0])).square().mean(1) * batch[2]
        return mean(module, batch) + 0.02 * errors.sum() / batch[2].sum().clamp(min=1)

    module = net()
    expected = gradient_gram(module, (x, y, known), loss_fn=loss_fn, engine="loop")
    for _ in range(3):
        assert off(gradient_gram(module, (x, y, known), loss_fn=loss_fn), expected) < 1e-9


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_weights_of_a_mean_do_not_hide_behind_ties() -> None:
    """In float32 a few units at zero fall otherwise in a batch: so may gradients, but not as if by a weight."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(6, 4000), nn.Linear(4000, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.enter(x)
            above = 1e-9 if len(x) > 1 else -1e-9
            near = torch.arange(4000) < 3
            return self.leave(torch.where(near, hidden - hidden.detach() + above, hidden).relu())

    weights = torch.ones(N)

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return (each(module, batch) * batch[2]).sum() / batch[2].sum()

    torch.manual_seed(0)
    module, (x, y) = Tied(), (torch.randn(N, 6), torch.arange(N) % 3)
    for _ in range(3):
        gradient_gram(module, (x, y, weights), loss_fn=loss_fn)
    weights[::2] *= 1.04
    for _ in range(4):
        plan = gradient_gram(module, (x, y, weights), loss_fn=loss_fn).plan
        noted = any("weight" in note or "no plain mean" in note for note in plan.notes)
        assert noted or plan.fallbacks  # its ties fall otherwise in parts of one example


def test_examples_that_showed_something_wrong_are_looked_at_whoever_s_turn_it_is() -> None:
    module, batch = net(), data()
    problem = Problem(module, each, dict(module.named_parameters()))

    def begun(most: int | None = None) -> alone.Alone:
        one = alone.Alone(problem, Examples.of(batch), 1, "a setting", most=most)
        one.accompany()
        return one

    key = begun().named()
    familiar.refute(key, [4, 7])
    familiar.refute(key, [7, 9])
    assert begun().witness.positions == [1, 4, 7, 9]  # gradients, as nothing is known of these calls
    assert begun(most=1).witness.positions == [1, 7]  # as where memory is asked for
    familiar.prove(key, familiar.Proof())
    for _ in range(4):
        one = begun()
        assert not one.witness.positions
        assert {4, 7, 9} <= {companion.position for companion in one.companions}
    familiar.refute(key, [0, 2, 3])
    assert familiar.suspects(key) == (0, 2, 3, 7)


def test_data_are_told_from_others() -> None:
    x, y = data()
    known = digest([(x, y)])
    assert digest([(x.clone(), y.clone())]) == known
    for other in ((x, y.flip(0)), (x.flip(0), y), (x.float(), y), (x[:, :5], y), (x, y, y), (x + 1e-9, y)):
        assert digest([other]) != known
    long = torch.randn(40, SHORT // 100)
    assert digest([long]) == digest([long.clone()]) != digest([long.flip(0)])
    assert digest([{"x": long, "names": ["a", "b"]}]) != digest([{"x": long, "names": ["b", "a"]}])
    assert digest([torch.randn(3, dtype=torch.complex64)]) is not None
    assert digest([(x.bfloat16(), x[0, 0], x > 0)]) is not None
    assert digest([(x, object())]) is None
    assert digest([(x, torch.eye(3).to_sparse())]) is None


def test_losses_that_are_near() -> None:
    losses = {0: torch.tensor([1.0, torch.nan]), 2: torch.tensor([3.0, torch.inf])}
    assert is_near(losses, 0, 1.0005)
    assert is_near(losses, 3, torch.inf)
    assert not any(
        is_near(losses, place, alone) for place, alone in ((0, 1.01), (1, 1.0), (2, torch.nan), (4, 3.0))
    )
    assert not is_near({}, 0, 1.0)


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_python_numbers_of_the_first_example_count_for_all() -> None:
    """As a factor by the kind of the first one; those taken alone bring their own, and some have the same."""

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return each(module, batch) * batch[2][0]

    kinds = [1.0] * (N // 2) + [2.0] * (N // 2)
    module, batch = net(), (*data(), kinds)
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")
    for _ in range(6):
        assert off(gradient_gram(module, batch, loss_fn=loss_fn), expected) < 1e-9


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_what_weighs_a_mean_may_change_with_the_module() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()
            self.register_buffer("gate", torch.full((6,), 100.0, dtype=DOUBLE))

    def loss_fn(module: Any, batch: Any) -> Tensor:
        out = module.inner(batch[0])
        chosen = (batch[0].abs() @ module.gate > 100).double()
        more = (out.square().sum(1) * chosen).sum() / chosen.sum().clamp(min=1)
        return F.cross_entropy(out, batch[1]) + more

    module, (x, y) = Gated(), data(n=40)
    for _ in range(4):
        found = gradient_gram(module, (x, y), loss_fn=loss_fn)
        assert not found.plan.fallbacks
    chances = x.abs().sum(1)
    module.gate.fill_(100 / float(chances.sort().values[-2:].mean()))  # one of all is chosen now
    for _ in range(3):
        found = gradient_gram(module, (x, y), loss_fn=loss_fn)
        assert found.plan.fallbacks
        assert off(found, gradient_gram(module, (x, y), loss_fn=loss_fn, engine="loop")) < 1e-9


PASSES: list[int] = []
"""For all to see: a list that a loss keeps for itself is put back after each."""


def test_what_one_example_cannot_prove_takes_no_second_pass_each_time() -> None:
    """As a part whose gradient is zero, such as one factor of a LoRA at its beginning."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down, self.up = nn.Linear(6, 8), nn.Linear(6, 2, bias=False), nn.Linear(2, 8)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) + self.up(self.down(x))

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        PASSES.append(len(batch[0]))
        return each(module, batch)

    torch.manual_seed(0)
    module = Adapted().double()
    for _ in range(4):
        PASSES.clear()
        found = gradient_gram(module, data(), loss_fn=loss_fn)
        assert not found.plan.fallbacks
    assert PASSES.count(N) == 1


@pytest.mark.parametrize("kind", ["one-hot", "missing", "bytes", "channels last", "one axis", "integers", "half"])
def test_large_data_are_told_from_others(kind: str) -> None:
    torch.manual_seed(0)
    n, labels = 64, torch.randint(0, 300, (64,))
    one = torch.randn(n, 4, 20, 20)
    if kind == "one-hot":
        one, other = (F.one_hot(some, 300).double() for some in (labels, labels.roll(1)))
    elif kind == "missing":
        one = one.clone()
        one[:, 0, 0, 0] = torch.nan
        other = one.clone()
        other[:, 1, 0, 0] = torch.nan
    else:
        change = {
            "bytes": lambda t: (t * 20).to(torch.uint8),
            "channels last": lambda t: t.to(memory_format=torch.channels_last),
            "one axis": lambda t: t.flatten()[:-5],
            "integers": lambda t: (t * 20).long(),
            "half": lambda t: t.half(),
        }[kind]
        one, other = change(one), change(one.flip(1))
    assert digest([one]) == digest([one.clone()]) is not None
    assert digest([one]) != digest([other])


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_where_calls_say_everything_values_are_compared_now_and_then(
    reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module, traced = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), []
    look = reference._trace_back
    monkeypatch.setattr(reference, "_trace_back", lambda *given, **named: traced.append(1) or look(*given, **named))

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction=reduction)

    expected = gradient_gram(module, data(), loss_fn=loss_fn, engine="loop").values
    familiar.forget()
    counts = []
    for _ in range(2 * alone.AGAIN + 1):
        traced.clear()
        found = gradient_gram(module, data(), loss_fn=loss_fn)
        torch.testing.assert_close(found.values, expected)
        counts.append(len(traced))
    assert counts[:: alone.AGAIN] == [1, 1, 1]
    assert sum(counts) <= 5  # in the measurements after the first, until every layer had its turn


def test_a_loss_that_changes_under_calls_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where calls are all that is looked at, an example's loss tells that there is more."""
    torch.manual_seed(0)
    module, larger, closer = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), [], []

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        losses = each(module, batch)
        if larger and len(losses) > 1:
            with torch._C.DisableTorchFunction():
                losses.data.mul_(1.5)
        return losses

    look = alone.Alone.look_closer
    monkeypatch.setattr(alone.Alone, "look_closer", lambda own: closer.append(1) or look(own))
    familiar.forget()
    for _ in range(3):
        gradient_gram(module, data(), loss_fn=loss_fn)
    assert not closer
    larger.append(True)
    gradient_gram(module, data(), loss_fn=loss_fn)
    assert closer
