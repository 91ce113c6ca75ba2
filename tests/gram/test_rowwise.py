"""What the loss of a batch is of its examples' losses, where every call tells."""

import inspect
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import (
    GradientGram,
    again,
    alone,
    familiar,
    gradient_gram,
    gram_of_examples,
    parted,
    reference,
)
from lightning_stiffness.gram.measurement import WEIGHTED
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import refer
from lightning_stiffness.gram.sure import are_alike, sure_form
from tests.gram.test_alone import N, data, each, mean, net
from tests.gram.test_scales import off


def formed(module: nn.Module, batch: Any, loss_fn: Any) -> str | None:
    problem = Problem(module, loss_fn, dict(module.named_parameters()))
    every = Examples.of(batch)
    sure = sure_form(refer(problem, every, 1), problem.parts, every)
    return None if sure is None else sure.form if sure.weights is None else "weighted mean"


class Otherwise(nn.Module):
    def __init__(self, how: Any):
        super().__init__()
        self.inner, self.how = net(), how

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.how(x))


def test_what_leaves_rows_to_themselves() -> None:
    image = torch.randn(4, 3, 8, 8), torch.arange(4)
    convolutions = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.LayerNorm(4), nn.GELU(),
    ).eval()  # fmt: skip
    assert formed(convolutions, image, each) == "each"
    assert formed(convolutions, image, mean) == "mean"
    assert formed(net(), data(), lambda m, b: F.nll_loss(m(b[0]).log_softmax(-1), b[1], reduction="none")) == "each"


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x,
        lambda x: x + x.tanh() * 2,
        lambda x: -(x**2) / 3 - 1,
        lambda x: x.reshape(-1, 6),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], 2, 3).flatten(1),
        lambda x: F.relu(x + 1, inplace=True),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: [x, x.norm()][0],
        lambda x: torch.softmax(dim=1, input=x),
    ],
)
def test_inputs_that_leave_rows_to_themselves(how: Any) -> None:
    assert formed(Otherwise(how), data(), each) == "each"
    assert formed(Otherwise(how), data(), mean) == "mean"


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x + torch.arange(len(x))[:, None],
        lambda x: x - x.mean(0),
        lambda x: x - x.mean(),
        lambda x: x * x.mean(1, keepdim=True),
        lambda x: x.softmax(0),
        lambda x: x.T.T,
        lambda x: x.reshape(-1, 3).reshape(-1, 6),
        lambda x: x.view(1, -1).tanh().view(-1, 6),
        lambda x: x.view(torch.float64),
        lambda x: torch.cat([x[:1], x[1:]]),
        lambda x: x.cumsum(0),
        lambda x: x.flatten().view(-1, 6),
        lambda x: x / x.norm(),
        lambda x: x / x.amax(),
        lambda x: x * float(x[0, 0] > 0),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: F.dropout(x, 0.0, training=True),
    ],
)
def test_what_may_mix_rows(how: Any) -> None:
    assert formed(Otherwise(how), data(), each) is None
    assert formed(Otherwise(how), data(), mean) is None


def test_weights_made_of_the_examples_may_mix_rows() -> None:
    """By name they may come before the input."""
    layer, table = nn.Linear(6, 6).double(), torch.randn(6, 6).double()
    layer.register_buffer("table", table)

    def of(table: Tensor) -> Any:
        return lambda m, b: F.linear(weight=m(b[0]), input=table).square().mean()

    def usual(module: nn.Module, batch: Any) -> Tensor:
        return F.linear(weight=module.table, input=module(batch[0])).square().mean()

    for constant in (table, layer.table):
        assert formed(layer, data(), of(constant)) is None
    assert formed(layer, data(), usual) == "mean"


class Turned(nn.Module):
    """Lays the examples along another axis, and weighs each by what the others have."""

    def __init__(self, lengths: Any) -> None:
        super().__init__()
        self.first, self.last, self.lengths = nn.Linear(6, 6), net(), lengths

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).view(*self.lengths(x))
        x = x + F.relu(x.mean(1, keepdim=True).detach() + 1) * F.relu(x - 1)
        return self.last(x.view(-1, 6))


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize(
    ("lengths", "together"),
    [
        (lambda x: (1, len(x), 6), True),
        (lambda x: (-1, len(x), 6), True),
        (lambda x: (len(x), 1, 6), False),
        (lambda x: (-1, 1, 6), False),
    ],
)
@pytest.mark.parametrize("loss_fn", [each, mean])
def test_views_that_lay_the_examples_along_another_axis(loss_fn: Any, lengths: Any, together: bool) -> None:
    torch.manual_seed(0)
    module = Turned(lengths).double()
    x, *rest = data()
    x = 0.2 * x
    x[5] *= 40.0
    for _ in range(4):
        found = gradient_gram(module, (x, *rest), loss_fn=loss_fn)
        assert off(found, gradient_gram(module, (x, *rest), loss_fn=loss_fn, engine="loop")) < 1e-9
        assert bool(found.plan.fallbacks) == together


def test_labels_changed_in_place_after_a_copy() -> None:
    """The weights of classes are those of the labels that the loss takes."""

    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        labels = batch[1].clone()
        labels.mul_(-1).add_(2)  # the classes from the last to the first
        return F.cross_entropy(module(batch[0]), labels, module[1].weight)

    module = net()
    module[1].register_buffer("weight", torch.tensor([1.0, 2.0, 5.0]).double())
    plain = formed(module, data(), lambda m, b: F.cross_entropy(m(b[0]), b[1].clone(), m[1].weight))
    assert plain == "weighted mean"
    assert formed(module, data(), loss_fn) is None
    found = gradient_gram(module, data(), loss_fn=loss_fn)
    assert_same_angles(found, gradient_gram(module, data(), loss_fn=loss_fn, engine="loop"))


def test_what_no_call_shows_may_mix_rows() -> None:
    @torch.jit.script
    def squashed(x: Tensor) -> Tensor:
        return x / x.norm()

    assert not formed(Otherwise(squashed), data(), each)
    assert not formed(Otherwise(lambda x: F.relu(squashed(x), inplace=True)), data(), each)
    for more in ([1.0] * N, torch.ones(1), {"a": "b"}, None):
        assert not formed(net(), (*data(), more), each)


def assert_same_angles(found: GradientGram, expected: GradientGram) -> None:
    cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, expected)]
    torch.testing.assert_close(*cosines, equal_nan=True)


def errors(**options: Any) -> Any:
    return lambda m, b: F.mse_loss(m(b[0]), b[2], **options)


def entropy(**options: Any) -> Any:
    return lambda m, b: F.cross_entropy(m(b[0]), b[1], **options)


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).double().mean()


def beside_accuracy(module: nn.Module, batch: Any) -> Tensor:
    scores = module(batch[0])
    assert accuracy(scores, batch[1]).ndim == 0
    return F.cross_entropy(scores, batch[1])


def with_accuracy(module: nn.Module, batch: Any) -> Tensor:
    scores = module(batch[0])
    return F.cross_entropy(scores * (1 + 1e-3 * accuracy(scores, batch[1])), batch[1])


LOSSES: list[Any] = [
    (entropy(), "mean"),
    (entropy(reduction="sum"), "sum"),
    (entropy(label_smoothing=0.1), "mean"),
    (lambda m, b: F.cross_entropy(m(b[0]), b[2].softmax(1)), "mean"),
    (lambda m, b: nn.NLLLoss()(m(b[0]).log_softmax(1), b[1].long()), "mean"),
    (lambda m, b: F.multi_margin_loss(m(b[0]), b[1]), "mean"),
    (lambda m, b: F.cross_entropy(m(b[0].clone()), b[1].clone().long()), "mean"),
    (errors(), "mean"),
    (errors(reduction="sum"), "sum"),
    (lambda m, b: F.smooth_l1_loss(m(b[0]), b[2]), "mean"),
    (lambda m, b: (m(b[0]) - b[2]).pow(2).mean(), "mean"),
    (lambda m, b: (m(b[0]) - b[2]).pow(2).sum(1).mean(0), "mean"),
    (lambda m, b: (m(b[0]) - b[2]).abs().sum(), "sum"),
    (lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[2].sigmoid()), "mean"),
    (beside_accuracy, "mean"),
    (entropy(ignore_index=1), "weighted mean"),
    (lambda m, b: m.weighing(m(b[0]), b[1]), "weighted mean"),
    (lambda m, b: F.nll_loss(m(b[0]).log_softmax(1), b[1], m.weighing.weight, reduction="sum"), None),
    # Not sure, for all that they may be one or the other
    (entropy(weight=torch.tensor([1.0, 2.0, 3.0]).double()), None),
    (lambda m, b: F.cross_entropy(m(b[0]), b[1], m.weighing.weight - 2), None),
    (lambda m, b: F.cross_entropy(m(b[0]), b[1].clone().int().long()), None),
    (lambda m, b: F.cross_entropy(m(b[0]), b[1], size_average=True), None),
    (lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[2].sigmoid(), b[2].abs()), "mean"),
    pytest.param(
        lambda m, b: F.mse_loss(m(b[0]), b[2], weight=b[2].abs()),
        None,
        marks=pytest.mark.skipif(
            "weight" not in inspect.signature(F.mse_loss).parameters, reason="this torch has no weights there"
        ),
    ),
    (lambda m, b: F.mse_loss(m(b[0])[:, 0], b[2].sum(1)), None),
    (lambda m, b: F.mse_loss(m(b[0]).mean(1, keepdim=True), b[2].mean(1)), None),
    (lambda m, b: (m(b[0]) - b[2]).pow(2).mean(0).sum(), None),
    (lambda m, b: (m(b[0]) - b[2]).pow(2).amax(), None),
    (lambda m, b: each(m, b).sum() / (b[1] < 3).sum(), None),
    (lambda m, b: each(m, b).logsumexp(0), None),
    (lambda m, b: each(m, b).mean() + errors()(m, b), None),
    (lambda m, b: each(m, b).mean() + sum(p.square().sum() for p in m.parameters()), None),
    (lambda m, b: (each(m, b) * each(m, b).softmax(0)).sum(), None),
    (lambda m, b: each(m, b).mean() * float(b[1].double().mean()), None),
    (with_accuracy, None),
]


@pytest.mark.parametrize(("loss_fn", "form"), LOSSES)
@pytest.mark.filterwarnings("ignore")
def test_what_the_loss_of_a_batch_is(loss_fn: Any, form: str | None) -> None:
    batch = (*data(), torch.randn(N, 3, dtype=torch.float64))
    module = Otherwise(lambda x: x)
    module.weighing = nn.CrossEntropyLoss(torch.tensor([1.0, 4.0, 0.5]).double(), ignore_index=-1)
    assert formed(module, batch, loss_fn) == form
    for _ in range(4):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        found, expected = (gradient_gram(module, batch, loss_fn=loss_fn, engine=e) for e in ("auto", "loop"))
        if WEIGHTED in found.plan.notes:
            assert form is None
            assert_same_angles(found, expected)
        else:
            assert off(found, expected) < 1e-9


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often an example's gradients were taken alone, and a batch went through the module in parts."""
    counts: Counter[str] = Counter()

    def counting(module: Any, name: str, key: str) -> None:
        take = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[key] += 1
            return take(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    counting(alone, "example_gradient", "alone")
    counting(again, "example_gradient", "alone")
    counting(reference, "by_name", "alone")
    counting(reference, "companion", "beside")
    counting(alone, "companion", "beside")
    counting(parted, "most_apart", "in parts")
    return counts


@pytest.mark.parametrize("loss_fn", [each, mean, entropy(), entropy(reduction="sum")])
@pytest.mark.parametrize("batches", [1, 2])
def test_one_example_is_enough_where_the_form_is_sure(loss_fn: Any, batches: int, passes: Counter[str]) -> None:
    module = net()
    for step in range(12):
        sides = [data(seed=10 * step + k) for k in range(batches)]  # other data each time
        found = gradient_gram(module, *sides, loss_fn=loss_fn)
        assert not found.plan.fallbacks
        assert not found.plan.notes
        assert passes["alone"] == min(step, 1)  # the linear layers, in the second one
        assert not passes["in parts"]
        assert not passes["beside"]
        before = passes.copy()
        assert off(found, gradient_gram(module, *sides, loss_fn=loss_fn, engine="loop")) < 1e-12
        passes.clear()
        passes.update(before)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)


def test_batches_of_other_sizes_need_one_example_of_each(passes: Counter[str]) -> None:
    for step in range(5):
        found = gradient_gram(net(), data(), data(seed=1, n=N - 2), loss_fn=each)
        assert not found.plan.fallbacks
        assert passes["alone"] == 2
        assert passes["beside"] == step


@pytest.mark.parametrize("weighing", [None, [1.0, 4.0, 0.5]])
@pytest.mark.parametrize("form", ["one batch", "other batches", "budget"])
@pytest.mark.parametrize("axes", [0, 1])
def test_an_example_weighs_as_its_class_does(weighing: Any, form: str, axes: int) -> None:
    """And labels to be ignored may come later."""

    class Weighing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3 + 3 * axes)).double()
            self.loss = nn.CrossEntropyLoss(weighing and torch.tensor(weighing).double())

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).view(-1, 3, 2) if axes else self.inner(x)

    def loss_fn(module: Any, batch: Any) -> Tensor:
        return module.loss(module(batch[0]), batch[1])

    for step in range(9):
        sides = [data(seed=10 * step + k, n=N - k) for k in range(2 if form == "other batches" else 1)]
        if axes:
            sides = [(x, torch.stack([y, (y + step) % 3], 1)) for x, y in sides]
        for _, y in sides if step > 3 else ():
            y[step] = -100
            y[2, ...] = -100
        budget = 6000 if form == "budget" else None
        found = gradient_gram(module := Weighing(), *sides, loss_fn=loss_fn, memory_budget=budget)
        expected = gradient_gram(module, *sides, loss_fn=loss_fn, engine="loop")
        assert off(found, expected) < 1e-12
        assert not found.plan.fallbacks
        assert not axes or WEIGHTED not in found.plan.notes


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_hooks_that_change_gradients_leave_nothing_sure() -> None:
    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        scores = module(batch[0])
        if scores.requires_grad:
            scores.register_hook(lambda g: torch.where(g[:, :1] > 0, g, g * (1 if len(g) == 1 else 0.5)))
        return F.cross_entropy(scores, batch[1])

    module = net()
    for step in range(9):
        batch = data(seed=step)
        found, expected = (gradient_gram(module, batch, loss_fn=loss_fn, engine=e) for e in ("auto", "loop"))
        assert WEIGHTED in found.plan.notes or off(found, expected) < 1e-12
        assert_same_angles(found, expected)


def similar(x: Tensor) -> Tensor:
    return F.linear(x, x).relu() - F.linear(x, x)  # [n, n]: of the examples with each other


@torch.jit.script
def bounded_by_script(x: Tensor) -> None:
    x.copy_(torch.minimum(x, x.mean(0) + 1.0))


def bounded_unseen(x: Tensor) -> Tensor:
    x = x * 1
    bounded_by_script(x)
    return x


def bounded_by_size(x: Tensor) -> Tensor:
    bound = 1.0 + 20 / len(x) ** 2
    return F.hardtanh(x, -bound, bound)


def bounded_in_batches(x: Tensor) -> Tensor:
    return torch.minimum(x, x.mean(0) + 1.0) if len(x) > 1 else x


def beside_each_other(x: Tensor) -> Tensor:
    return F.max_pool2d(x.view(1, -1, 6), (3, 1), stride=1, padding=(1, 0)).view(-1, 6)


class Bounded(nn.Module):
    def __init__(self, how: Any):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.last = how, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.how(x))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("how", [bounded_unseen, bounded_by_size, bounded_in_batches, beside_each_other])
@pytest.mark.filterwarnings("ignore:stiffness of")
def test_what_affects_few_rows_is_not_silent(how: Any, reduction: str) -> None:
    """Code in which no call is seen changes a tensor; or does something else for a batch than for an example."""
    for seed in range(6):
        familiar.forget()
        module, batch = Bounded(how), data(seed)
        loss_fn = entropy(reduction=reduction)
        found, expected = (gradient_gram(module, batch, loss_fn=loss_fn, engine=e) for e in ("auto", "loop"))
        assert off(found, expected) < 1e-12


@pytest.mark.parametrize("how", [beside_each_other, lambda x: F.layer_norm(x, x.shape)])
def test_examples_along_another_axis(how: Any) -> None:
    assert formed(Bounded(how), data(n=6), each) is None


@pytest.mark.parametrize("reduce", [torch.sum, lambda x: x.sum(1).mean()])
def test_weights_made_of_the_batch(reduce: Any) -> None:
    assert formed(net(), data(), lambda m, b: reduce(similar(m(b[0])))) is None


def test_batches_of_other_kinds_may_have_other_losses() -> None:
    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction="mean" if isinstance(batch, tuple) else "sum")

    examples = [Examples.of(kind(data(seed))) for seed, kind in enumerate((tuple, list))]
    for _ in range(4):
        grams = [
            gram_of_examples(net(), Examples.joined(examples), loss_fn=loss_fn, engine=e) for e in ("auto", "loop")
        ]
        assert_same_angles(*grams)
        assert WEIGHTED in grams[0].plan.notes


@pytest.mark.parametrize("budget", [None, 4000])
@pytest.mark.filterwarnings("ignore:stiffness of")
def test_each_batch_may_be_divided_by_another_number(budget: int | None) -> None:
    def loss_fn(module: nn.Module, batch: Any) -> Tensor:
        mask = batch[1] > 0
        return (each(module, batch) * mask).sum() / mask.sum().clamp(min=1)

    for seed in range(20):
        familiar.forget()
        torch.manual_seed(seed)
        sides = [(torch.randn(n, 6).double(), torch.randint(0, 3, (n,))) for n in ((24,) if budget else (3, 4))]
        found = gradient_gram(net(), *sides, loss_fn=loss_fn, memory_budget=budget)
        expected = gradient_gram(net(), *sides, loss_fn=loss_fn, engine="loop")
        assert WEIGHTED in found.plan.notes or off(found, expected) < 1e-9


def test_what_batches_have_in_common() -> None:
    x, y = data()
    assert are_alike([(x, y), (x[:2], y[:2])])
    assert not are_alike([(x, y), (x[:, :2], y)])
    assert not are_alike([(x, y), (x.float(), y)])
    assert not are_alike([(x, y), {"x": x, "y": y}])
    assert are_alike([(x, "a", 1), (x, "b", 2)])
    assert not are_alike([(x, "a"), (x, 1)])
