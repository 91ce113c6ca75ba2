"""Which gradients of an example alone are held against those in a batch, and when."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import alone, collect, familiar, gradient_gram, in_turn
from lightning_stiffness.gram.calls import Recorder
from lightning_stiffness.gram.in_turn import AT_ONCE
from lightning_stiffness.gram.scaled import times
from tests.gram.test_scales import off

pytestmark = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="this torch does not tell whether saved tensors go through other functions: nothing is ever proven",
)


def wide() -> nn.Sequential:
    """Three linear layers of which no two are taken together, two of one shape, and a small one with a norm."""
    torch.manual_seed(0)
    sizes = ((150, 200), (200, 200), (200, 200), (200, 250))
    layers = [module for i, o in sizes for module in (nn.Linear(i, o), nn.Tanh())]
    return nn.Sequential(*layers, nn.LayerNorm(250), nn.Linear(250, 3)).double()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(8, 150, dtype=torch.float64), torch.arange(8) % 3


def each(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The parameters whose gradients were had of one example, in each measurement."""
    found: list[set[str]] = []
    same = alone.same_vectors

    def noted(parts: Any, row: int, gradients: Any, factor: float = 1.0) -> bool:
        found.append(set(gradients))
        return same(parts, row, gradients, factor)

    monkeypatch.setattr(alone, "same_vectors", noted)
    return found


@pytest.mark.parametrize("loss_fn", [each, mean])
def test_the_small_come_first_and_one_of_each_shape(loss_fn: Callable[..., Tensor], asked: list[set[str]]) -> None:
    module = wide()
    for step in range(7):
        data = batch(step)
        found = gradient_gram(module, data, loss_fn=loss_fn)
        assert not found.plan.fallbacks
        assert off(found, gradient_gram(module, data, loss_fn=loss_fn, engine="loop")) < 1e-12
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    norm = {"8.weight", "8.bias"}  # and the smallest layer first
    assert asked == [norm, *({f"{layer}.weight", f"{layer}.bias"} for layer in (9, 0, 2, 6, 4))]


def test_small_modules_are_done_at_once(asked: list[set[str]]) -> None:
    module = nn.Sequential(nn.Linear(150, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    for _ in range(4):
        gradient_gram(module, batch(), loss_fn=each)
    assert asked == [{"0.weight", "0.bias", "2.weight", "2.bias"}]


def test_another_module_starts_anew(asked: list[set[str]]) -> None:
    for _ in range(6):
        gradient_gram(wide(), batch(), loss_fn=each)  # the same calls, of another one
    before = len(asked)
    gradient_gram(wide().append(nn.Tanh()), batch(), loss_fn=each)
    assert asked[before:] == [{"8.weight", "8.bias"}]
    gradient_gram(wide().append(nn.Tanh()), batch(), loss_fn=each)
    assert asked[before + 1 :] == [{"9.weight", "9.bias"}]


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("outputs", [3, 200, 250])
def test_a_rule_that_is_wrong_for_some_shape_is_found_in_its_turn(
    outputs: int, part: str, loss_fn: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on it is never relied on again."""
    parts_of, axes = collect.parts_of, {"weight": 2, "bias": 1}[part]

    def wrong(use: Any) -> Any:
        for operand, held in parts_of(use):
            here = use.function is F.linear and len(operand.shape) == axes and operand.shape[0] == outputs
            yield operand, times(held, torch.tensor(1.01).double()) if here else held

    module, data = wide(), batch()
    monkeypatch.setattr(collect, "parts_of", wrong)
    expected = gradient_gram(module, data, loss_fn=loss_fn, engine="loop")
    fell_back = [bool(gradient_gram(module, data, loss_fn=loss_fn).plan.fallbacks) for _ in range(7)]
    first = {3: 1, 200: 2, 250: 4}[outputs]
    assert fell_back == [step >= first for step in range(7)]
    assert off(gradient_gram(module, data, loss_fn=loss_fn), expected) < 1e-9


def asked_for(module: nn.Module, x: Tensor) -> tuple[list[str], list[list[str]]]:
    """In a first measurement, and in each of those after it."""
    with Recorder() as recorder:
        module(x)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    now, left = in_turn.in_turn(recorder.calls, parameters)
    later = []
    while left:
        of_these, left = in_turn.in_turn(recorder.calls, parameters, left)
        later.append(sorted(of_these))
    return sorted(now), later


SIDE = int(AT_ONCE**0.5) + 1
"""Layers of this many inputs and outputs are taken one at a time."""


class Tied(nn.Module):
    """Two layers with one weight, and another with a weight that is used elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(SIDE, SIDE) for _ in range(3))
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x))) + self.three.weight.sum()


class Fed(nn.Module):
    """A layer that takes a parameter for its input, one whose weight is a product, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE + 1)
        self.tokens = nn.Parameter(torch.ones(2, SIDE))
        self.low, self.high = nn.Parameter(torch.ones(SIDE, 2)), nn.Parameter(torch.ones(2, SIDE))

    def forward(self, x: Tensor) -> Tensor:
        return self.large(self.tokens).sum() + F.linear(self.small(x), self.low @ self.high)


class Odd(nn.Parameter):
    """A parameter of a type of its own."""


def test_parameters_that_are_used_otherwise_do_not_wait() -> None:
    now, later = asked_for(Tied(), torch.ones(1, SIDE))
    assert now == ["one.weight", "three.weight"]
    assert later == [["one.bias", "three.bias", "two.bias"]]  # which are small
    now, later = asked_for(Fed(), torch.ones(1, SIDE))
    assert now == ["high", "large.bias", "large.weight", "low", "tokens"]
    assert later == [["small.bias", "small.weight"]]
    module = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE + 1), nn.Linear(SIDE + 1, SIDE + 2))
    module[2].weight = Odd(module[2].weight.detach())
    now, later = asked_for(module, torch.ones(1, SIDE))
    assert now == ["2.bias", "2.weight"]
    assert later == [["0.bias", "0.weight"], ["1.bias", "1.weight"]]


def test_what_a_layer_is_asked_for_is_of_its_shape() -> None:
    """A frozen weight, a layer without a bias, and rows of another number."""
    module = nn.Sequential(*(nn.Linear(SIDE, SIDE) for _ in range(3)), nn.Linear(SIDE, SIDE, bias=False))
    module[1].weight.requires_grad_(False)
    now, later = asked_for(module, torch.ones(1, SIDE))
    assert now == []
    assert later == [["1.bias"], ["3.weight"], ["0.bias", "0.weight"], ["2.bias", "2.weight"]]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x)[:, None].expand(-1, 5, -1))

    now, later = asked_for(Twice(), torch.ones(1, SIDE))
    assert now == []
    assert later == [["one.bias", "one.weight"], ["two.bias", "two.weight"]]


class Idle(nn.Module):
    """Has parameters, and does not use them until it is told to."""

    def __init__(self, *, in_a_batch: bool = False) -> None:
        super().__init__()
        self.inner, self.idle = nn.Linear(150, 3), nn.Linear(150, 3)
        self.in_a_batch = in_a_batch

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out + self.idle(x) if self.in_a_batch and len(x) > 1 else out


def test_what_an_example_does_not_use_is_proven_too(asked: list[set[str]]) -> None:
    module, data = Idle().double(), batch()
    for _ in range(3):
        found = gradient_gram(module, data, loss_fn=each)
        assert off(found, gradient_gram(module, data, loss_fn=each, engine="loop")) < 1e-12
    assert asked == [{"inner.weight", "inner.bias"}]  # in the second one
    assert familiar._proven


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_what_only_a_batch_uses_is_not() -> None:
    module, data = Idle(in_a_batch=True).double(), batch()
    expected = gradient_gram(module, data, loss_fn=each, engine="loop")
    for _ in range(3):
        assert off(gradient_gram(module, data, loss_fn=each), expected) < 1e-12
    assert not familiar._proven


def test_a_mean_of_which_no_wanted_parameter_knows() -> None:
    module, data = Idle().double(), batch()
    found = gradient_gram(module, data, loss_fn=mean, parameters=["idle"])
    assert not found.values.any()
    assert not found.plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_function_hooked_to_what_is_changed_in_place_is_not_overlooked() -> None:
    """Out of sight, and the copy of what it was before has none."""

    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(150, 200), nn.Linear(200, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            with torch._C.DisableTorchFunction():
                hidden.register_hook(lambda gradient: 2 * gradient if len(gradient) > 1 else gradient)
            out: Tensor = self.last(hidden.relu_())
            return out

    module, data = Hooked().double(), batch()
    expected = gradient_gram(module, data, loss_fn=each, engine="loop")
    for _ in range(3):
        assert off(gradient_gram(module, data, loss_fn=each), expected) < 1e-12
