"""A module that makes the same calls for a batch, with tensors from elsewhere that have the same values."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import familiar, gradient_gram, shown
from lightning_stiffness.gram.capture import Watcher
from tests.gram.test_scales import off

D = torch.float64
SIDE = 130
"""So many that the gradients of one layer are held against those of an example at a time."""


class Twins(nn.Module):
    """Layers with the same weights, of which a batch may use others than an example does."""

    def __init__(self, kind: str, *, in_a_batch: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.one = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE)
        self.two, self.frozen = deepcopy(self.one), deepcopy(self.one).requires_grad_(False)
        self.kind, self.in_a_batch = kind, in_a_batch

    def forward(self, x: Tensor) -> Tensor:
        other = self.in_a_batch and len(x) > 1
        x = self.first(x)
        one, two = (self.two, self.one) if other else (self.one, self.two)
        if self.kind == "twice":
            return (self.one if other else two)(self.one(x).tanh())
        if self.kind == "swapped":
            return two(one(x).tanh())
        if self.kind == "bias":
            return F.linear(self.one(x).tanh(), self.two.weight, one.bias if other else self.one.bias) + self.two(x)
        if self.kind == "frozen":
            return x + (self.frozen if other else self.one)(x)
        if self.kind == "transposed":
            left, right = self.one.weight.T, self.two.weight.T
            return x @ left @ (left if other else right)
        if self.kind == "no gradient":
            first, last = (self.frozen, self.one) if not other else (self.one, self.frozen)
            with torch.no_grad():
                hidden = first(x)
            return x + hidden + last(x)
        if self.kind == "inference":
            with torch.inference_mode(other):
                hidden = self.one(x)
            return x + hidden
        assert self.kind == "value"
        left, right = self.one(x).tanh(), self.two(x).tanh()
        return left * (left if other else right)


KINDS = ["twice", "swapped", "bias", "frozen", "transposed", "no gradient", "inference", "value"]


def each(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def batch(seed: int = 0, n: int = 9) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(n, SIDE, dtype=D), torch.arange(n) % SIDE


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("layers", [None, True])
@pytest.mark.parametrize("kind", KINDS)
def test_another_layer_with_the_same_values_is_noticed(
    kind: str, layers: bool | None, loss_fn: Callable[..., Tensor]
) -> None:
    """The loop has each example's own gradient, whatever the batch would have."""
    module, data = Twins(kind).double(), batch()
    expected = gradient_gram(module, data, loss_fn=loss_fn, engine="loop", per_layer=bool(layers))
    for _ in range(3):
        found = gradient_gram(module, data, loss_fn=loss_fn, per_layer=bool(layers))
        assert off(found, expected) < 1e-12
        assert set(found.layers or ()) == set(expected.layers or ())
        for name, layer in (found.layers or {}).items():
            assert (layer.values - expected.layers[name].values).abs().max() < 1e-12
    assert not familiar._proven


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_noticed_where_values_alone_were_compared(kind: str) -> None:
    """After measurements in which a batch used what an example does."""
    module, data = Twins(kind, in_a_batch=False).double(), batch()
    for step in range(4):
        module.in_a_batch = step == 3
        found = gradient_gram(module, data, loss_fn=each)
        assert off(found, gradient_gram(module, data, loss_fn=each, engine="loop")) < 1e-12


class Tables(nn.Module):
    """Adds a table: a buffer, one of a list, or of a dict, of which a batch may take another."""

    def __init__(self, kind: str, *, in_a_batch: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(SIDE, SIDE)
        one = torch.randn(9, SIDE)
        other = one.clone()
        other[5] *= -1.0  # the row of one example that is not looked at first
        self.register_buffer("one", one)
        self.register_buffer("other", other)
        self.listed, self.named = [one.double(), other.double()], {"one": one.double(), "other": other.double()}
        self.kind, self.in_a_batch = kind, in_a_batch

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        other = self.in_a_batch and len(x) > 1
        if self.kind == "buffer":
            table = self.other if other else self.one
        elif self.kind == "list":
            table = self.listed[other]
        else:
            table = self.named["other" if other else "one"]
        return self.layer(x) + table[rows]


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("kind", ["buffer", "list", "dict"])
def test_another_table_with_nearly_the_same_values_is_noticed(kind: str) -> None:
    data = *batch(), torch.arange(9)
    for in_a_batch in (True, False):
        module = Tables(kind, in_a_batch=in_a_batch).double()
        for _ in range(3):
            found = gradient_gram(module, data, loss_fn=by_rows)
            assert off(found, gradient_gram(module, data, loss_fn=by_rows, engine="loop")) < 1e-12
            assert bool(found.plan.fallbacks) == in_a_batch


def by_rows(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0], batch[2]), batch[1], reduction="none")


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("structure", ["tuple", "dict"])
def test_another_entry_of_the_batch_is_noticed(structure: str, reduction: str) -> None:
    x, labels = batch()
    other = x.clone()
    other[5] += 1.0
    names = "one", "other", "labels"
    module = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Tanh()).double()

    def by_length(which: Callable[[int], str]) -> Callable[[nn.Module, Any], Tensor]:
        def loss_fn(module: nn.Module, batch: Any) -> Tensor:
            entries = batch if structure == "dict" else dict(zip(names, batch, strict=True))
            labels = entries["labels"]
            return F.cross_entropy(module(entries[which(len(labels))]), labels, reduction=reduction)

        return loss_fn

    entries: Any = (x, other, labels)
    if structure == "dict":
        entries = dict(zip(names, entries, strict=True))
    for which, expected in ((lambda n: "one" if n == 1 else "other", True), (lambda _: "other", False)):
        loss_fn = by_length(which)
        for _ in range(3):
            found = gradient_gram(module, entries, loss_fn=loss_fn)
            assert off(found, gradient_gram(module, entries, loss_fn=loss_fn, engine="loop")) < 1e-12
            assert bool(found.plan.fallbacks) == expected


def test_tables_by_length_are_not_taken_for_others() -> None:
    """As the first states of a recurrence, which a module holds for every length of a batch."""

    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(SIDE, SIDE)
            self.states = {n: torch.zeros(n, SIDE, dtype=D) for n in (1, 4, 5, 9)}

        def forward(self, x: Tensor) -> Tensor:
            return (self.states[len(x)] + self.layer(x)).tanh()

    for loss_fn in (each, mean):
        assert not gradient_gram(States().double(), batch(), loss_fn=loss_fn).plan.fallbacks


APART: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "stacked": (lambda x: torch.stack(list(x)), True),
    "unbound": (lambda x: torch.stack(x.unbind(0)), True),
    "joined": (lambda x: torch.cat(list(x)).view_as(x), True),
    "split": (lambda x: torch.cat(x.split(1)), True),
    "turned": (lambda x: torch.stack(list(x)[::-1]), False),
    "the first alone": (lambda x: torch.stack([x.unbind()[0]] * len(x)), False),
    "sorted": (lambda x: torch.stack(sorted(x, key=lambda row: float(row.detach().sum()))), False),
}
"""Ways to take a batch apart to a list, and to put it together again: whether it is as it was."""


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("way", APART)
def test_a_batch_taken_apart_and_put_together(way: str, loss_fn: Any) -> None:
    """As images of several sizes are."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(APART[way][0](self.first(x)).tanh())

    module = Listed().double()
    for _ in range(3):
        found = gradient_gram(module, batch(), loss_fn=loss_fn)
        assert off(found, gradient_gram(module, batch(), loss_fn=loss_fn, engine="loop")) < 1e-12
        assert bool(found.plan.fallbacks) != APART[way][1]


@pytest.fixture
def differing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every pass over a batch, whether its tensors came from elsewhere."""
    found: list[bool] = []
    note = shown.Shown.note

    def noted(self: Any, piece: Any, watcher: Watcher, loss: Tensor, reference: Any) -> None:
        found.append(watcher.wiring.differs)
        note(self, piece, watcher, loss, reference)

    monkeypatch.setattr(shown.Shown, "note", noted)
    return found


class InPlace(nn.Module):
    """Changes tensors in place, hands some on as they are, and writes into one that has no gradient before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        x = F.dropout(x.contiguous().to(x.dtype), 0.5, training=False)
        out = x.new_zeros(x.shape)
        out[:, :3] = x[:, :3]
        out += self.last(x)
        return out.t().contiguous().t().tanh()


@pytest.mark.parametrize("n", [2, 9])
@pytest.mark.parametrize("kind", [*KINDS, "in place"])
def test_what_is_as_it_is_for_an_example_is_not_taken_for_other(kind: str, n: int, differing: list[bool]) -> None:
    module = InPlace() if kind == "in place" else Twins(kind, in_a_batch=False)
    for loss_fn in (each, mean):
        found = gradient_gram(module.double(), batch(n=n), loss_fn=loss_fn)
        assert not found.plan.fallbacks
    assert differing
    assert not any(differing)
