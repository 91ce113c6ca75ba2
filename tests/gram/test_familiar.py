"""Where calls were proven before, values are compared instead of gradients; nothing wrong passes by that."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import again as again_module
from lightning_stiffness.gram import alone, familiar, gradient_gram, measurement, parted, trust, values
from lightning_stiffness.gram.coupling import Coupling
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Wanted
from tests.gram.cases import CASES
from tests.gram.test_engines import assert_same, measured, reference
from tests.gram.test_paths import Twice
from tests.gram.test_scales import off

DOUBLE = torch.float64

pytestmark = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="this torch does not tell whether saved tensors go through other functions: nothing is ever proven",
)


class Coupled(nn.Module):
    """Examples by themselves, until ``mixing`` is not zero any more: the calls are the same then."""

    def __init__(self, only_backward: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.only_backward = only_backward
        self.register_buffer("mixing", torch.zeros(()))

    def forward(self, x):
        hidden = self.first(x).tanh()
        mean = hidden.mean(0, keepdim=True)
        return self.last(hidden + self.mixing * (mean - mean.detach() if self.only_backward else mean))


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(n: int = 12, seed: int = 0):
    torch.manual_seed(seed)
    return torch.randn(n, 6, dtype=DOUBLE), torch.arange(n) % 3


def loss_fn(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean_loss(module, batch):
    return loss_fn(module, batch).mean()


@pytest.fixture
def taken(monkeypatch):
    """Positions of the examples of which more than the values at each call was taken alone, or these for the first
    time."""
    positions: list[int] = []
    take = alone.example_gradient

    def counted(problem, example, position):
        positions.append(position)
        return take(problem, example, position)

    for name, refer in (("refer", alone.refer), ("refer_if_familiar", alone.refer_if_familiar)):

        def referred(problem, examples, position, wanted, refer=refer):
            found = refer(problem, examples, position, wanted)
            more = found is not None and (found.gradients or found.wanted is Wanted.ONE)
            positions.extend([position] if more else [])
            return found

        monkeypatch.setattr(alone, name, referred)
    monkeypatch.setattr(alone, "example_gradient", counted)
    return positions


@pytest.mark.parametrize("settings", [{}, {"memory_budget": 4000}, {"memory_budget": 2600}, {"cross": True}, {
    "per_layer": True
}], ids=str)  # fmt: skip
def test_after_the_gradients_of_one_example_or_two_values_are_compared(settings, taken):
    settings = dict(settings)
    rows, columns = batch(), batch(9, 1) if settings.pop("cross", False) else None
    module = net()

    def both():
        found = gradient_gram(module, rows, columns, loss_fn=loss_fn, **settings)
        expected = gradient_gram(module, rows, columns, loss_fn=loss_fn, engine="loop")
        assert off(found, expected) < 1e-12
        assert not found.plan.fallbacks

    both()
    two = columns is not None or "memory_budget" in settings  # a budget is for no gradient beside a batch
    assert len(taken) == (2 if two else 1)
    for step in range(4):  # as training changes the weights, and the probe may change
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        rows = batch(seed=step + 2)
        both()
    assert len(taken) == len(set(taken)) == 2  # of linear layers, in the second measurement


def first_of(kind):
    """What the first measurement is of, and what a second one may be of that is not the same."""
    module = net()
    settings = {"loss_fn": loss_fn, "parameters": None}
    second, other = module, batch()
    if kind == "length":
        other = batch(13)
    elif kind == "precision":
        second, other = net().float(), (other[0].float(), other[1])
    elif kind == "parameters":
        settings["parameters"] = ["2"]
    elif kind == "budget":
        settings["memory_budget"] = 4000
    elif kind == "layers":
        settings["per_layer"] = True
    elif kind == "activation":
        second = nn.Sequential(module[0], nn.GELU(), module[2])
    elif kind == "names":
        second = nn.ModuleDict({"a": module[0], "b": module[2]})
        settings["loss_fn"] = lambda m, b: loss_fn(nn.Sequential(m["a"], nn.Tanh(), m["b"]), b)
    elif kind == "smoothing":
        settings["loss_fn"] = lambda m, b: functional.cross_entropy(
            m(b[0]), b[1], reduction="none", label_smoothing=0.1
        )
    elif kind == "frozen":
        module[0].bias.requires_grad_(False)
    return second, other, settings


@pytest.mark.parametrize("kind", [
    *("length", "precision", "parameters", "budget", "layers"),
    *("activation", "names", "smoothing", "frozen"),
])  # fmt: skip
def test_what_is_not_the_same_is_compared_by_gradients(kind, taken):
    for _ in range(4):
        gradient_gram(net(), batch(), loss_fn=loss_fn)
    assert len(taken) == 2
    module, other, settings = first_of(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        found = gradient_gram(module, other, **settings)
    assert len(taken) > 2
    settings.pop("per_layer", None), settings.pop("memory_budget", None)
    assert off(found, gradient_gram(module, other, engine="loop", **settings)) < 1e-5


@pytest.fixture
def unseen(monkeypatch):
    """What is made of all examples is not followed to the loss: values are to show it."""
    monkeypatch.setattr(Coupling, "holds", lambda *_: False)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("only_backward", [False, True])
@pytest.mark.parametrize("known", [1, 4])
def test_calls_that_are_the_same_and_couple_examples_now(known, only_backward, taken, unseen):
    module = Coupled(only_backward).double()
    for _ in range(known):
        gradient_gram(module, batch(), loss_fn=loss_fn)
    assert len(taken) == 2
    module.mixing.fill_(0.5)
    found = gradient_gram(module, batch(), loss_fn=loss_fn)
    assert len(taken) > 2
    assert found.plan.fallbacks
    assert off(found, gradient_gram(module, batch(), loss_fn=loss_fn, engine="loop")) < 1e-9


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("kind", [float, complex])
def test_a_setting_that_is_no_number(kind, reduction, taken):
    """No NaN equals another: calls with one, as of a metric that is computed beside, are known all the same."""
    module = net()

    def loss(module, batch):
        torch.tensor(kind("nan"))
        return functional.cross_entropy(module(batch[0]), batch[1], reduction=reduction)

    for _ in range(8):
        found = gradient_gram(module, batch(), loss_fn=loss)
        assert not found.plan.fallbacks
    assert len(taken) < 6  # some layers of one example each time, until all were looked at
    assert off(found, gradient_gram(module, batch(), loss_fn=loss, engine="loop")) < 1e-9


class Straight(torch.autograd.Function):
    """The identity, with a gradient of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def unprovable(kind):
    module, data, loss = net(), batch(), loss_fn
    if kind == "weighted mean":
        loss = lambda m, b: functional.cross_entropy(m(b[0]), b[1], torch.tensor([1.0, 2.0, 9.0]).double())  # noqa: E731
    elif kind == "own function":
        loss = lambda m, b: loss_fn(m, b) + Straight.apply(m(b[0])).mean(1)  # noqa: E731
    elif kind == "draws":
        loss = lambda m, b: loss_fn(m, (b[0] + torch.randn_like(b[0]), b[1]))  # noqa: E731
    elif kind == "embedding":
        module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)).double()
        data = (torch.arange(24).view(12, 2) % 9, data[1])
    elif kind == "fallback":
        module = Twice("scripted").double()
    elif kind == "no gradient":
        module = nn.Sequential(module, Nothing(nn.Linear(3, 3))).double()
    elif kind == "activation hook":
        module[0].register_forward_hook(lambda _, __, out: out.register_hook(lambda g: 2 * g) and None)
    return module, data, loss


class Nothing(nn.Module):
    """Makes zero of what its parameters give, and so of their gradients."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + 0.0 * self.inner(x)


@pytest.mark.filterwarnings("ignore:stiffness of", "ignore:`torch.jit.script`")
@pytest.mark.parametrize(
    "kind",
    ["weighted mean", "own function", "draws", "embedding", "fallback", "no gradient", "activation hook"],
)
def test_what_is_never_taken_for_proven(kind, taken):
    module, data, loss = unprovable(kind)
    expected = [1] if kind == "no gradient" else []  # that one example shows nothing is known after that
    for second in (10, 7, 2):  # another each time, beside the same
        gradient_gram(module, data, loss_fn=loss)
        assert not familiar._proven
        expected += [1, second]
        if kind != "fallback":  # where no parameter is left, nothing is compared
            assert taken == expected
    gradient_gram(net(), batch(), loss_fn=loss_fn)
    assert familiar._proven  # as what is usual is


def test_every_example_has_its_turn_though_nothing_is_ever_proven(taken):
    module, data, loss = unprovable("own function")
    for _ in range(40):
        gradient_gram(module, data, loss_fn=loss)
    assert not familiar._proven
    assert set(taken) == set(range(len(data[1])))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("name", CASES)
def test_values_alone_tell_what_is_wrong(name, cross, monkeypatch):
    """Also where nothing was proven before: every case by its values, gradients only where these differ."""
    monkeypatch.setattr(alone, "proven", lambda _: familiar.Proof())
    case = CASES[name]
    got = measured(case, "layerwise", cross)
    if got is not None:
        assert_same(got, reference(case, cross), case)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("name", CASES)
def test_values_alone_tell_what_is_wrong_in_a_mean(name, cross, monkeypatch):
    """The same of the mean of a case's losses, which each example shows a part of."""
    case = CASES[name]

    def build():
        module, data, loss = case.builder()
        return module, data, lambda m, b: loss(m, b).mean()

    expected = reference(case, cross)
    monkeypatch.setattr(alone, "proven", lambda _: familiar.Proof(form="mean"))
    got = measured(replace(case, builder=build), "layerwise", cross)
    if got is not None:
        assert_same(got, expected, case)


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(familiar, "MOST", 3)
    for key in "abcd":
        familiar.prove(key, familiar.Proof())
    assert [familiar.proven(key) is not None for key in "abcd"] == [False, True, True, True]
    familiar.proven("b")
    familiar.prove("e", familiar.Proof())
    assert [familiar.proven(key) is not None for key in "bcde"] == [True, False, True, True]


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_draw_that_no_call_shows_is_noticed_after_that_too():
    """Python's and NumPy's random numbers are in no call."""
    import random

    noisy = False

    def loss(module, batch):
        scale = random.random() if noisy else 1.0
        return loss_fn(module, (batch[0] * torch.tensor(scale, dtype=DOUBLE), batch[1]))

    module = net()
    gradient_gram(module, batch(), loss_fn=loss)
    noisy = True
    random.seed(1)
    found = gradient_gram(module, batch(), loss_fn=loss)
    random.seed(1)
    assert off(found, gradient_gram(module, batch(), loss_fn=loss, engine="loop")) < 1e-9
    assert found.plan.fallbacks
    assert measurement.DRAWS in found.plan.fallbacks.values()


class ByRows(nn.Module):
    """Rows of a weight are trained only for the classes that a batch has; its values are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3, bias=False)

    def forward(self, x, y):
        present = torch.zeros(3, 1, dtype=x.dtype).index_fill_(0, y, 1.0)
        weight = self.last.weight
        return self.first(x).tanh() @ (weight * present + (weight * (1 - present)).detach()).T


class Ends(nn.Module):
    """One more term where a batch has one class alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.t = net(), nn.Parameter(torch.ones((), dtype=DOUBLE))


class Hooked(nn.Module):
    """A function at the node of a tensor, which no call shows."""

    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.first, self.last, self.factor, self.pre = nn.Linear(6, 8), nn.Linear(8, 3), 1.0, pre

    def forward(self, x):
        hidden = self.first(x).tanh()
        factor = self.factor if len(x) > 1 else 1.0
        if self.pre:
            hidden.grad_fn.register_prehook(lambda gradients: tuple(factor * g for g in gradients))
        else:
            hidden.grad_fn.register_hook(lambda found, _: tuple(factor * g for g in found))
        return self.last(hidden)


class Compressed(nn.Module):
    """What is saved for the backward pass in less precision, from some time on."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.on = net(), False

    def forward(self, x):
        if not self.on:
            return self.net(x)
        hooks = (lambda t: t.to(torch.bfloat16)), (lambda t: t.to(DOUBLE))
        with torch.autograd.graph.saved_tensors_hooks(*hooks):
            return self.net(x)


def before_and_after(kind):
    """A first measurement that proves calls, and a second one with the same calls and other gradients."""
    x, y = batch()
    one_class = torch.zeros_like(y)
    if kind == "rows of a weight":
        module = ByRows().double()
        return (
            module,
            lambda m, b: functional.cross_entropy(m(*b), b[1], reduction="none"),
            (x, one_class),
            (x, y),
            None,
        )
    if kind == "one more term":

        def loss(module, batch):
            found = loss_fn(module.net, batch)
            return found + module.t**2 if (batch[1] == batch[1][0]).all() else found

        return Ends(), loss, (x, one_class), (x, y), None
    if kind == "compressed":
        module = Compressed()
        return module, loss_fn, (x, y), (x, y), lambda: setattr(module, "on", True)
    module = Hooked(kind == "hook before").double()
    return module, loss_fn, (x, y), (x, y), lambda: setattr(module, "factor", 3.0)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("kind", ["rows of a weight", "one more term", "compressed", "hook", "hook before"])
def test_what_no_call_tells_is_seen_by_the_gradients(kind):
    torch.manual_seed(0)
    module, loss, first, second, change = before_and_after(kind)
    for data in (first, second):
        for _ in range(2):
            found = gradient_gram(module, data, loss_fn=loss)
            assert off(found, gradient_gram(module, data, loss_fn=loss, engine="loop")) < 1e-9
        if data is first and change is not None:
            change()
    assert found.plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("scale", [1e-25, 1e-20, 1.0, 1e20, 1e25])
def test_values_of_any_size(scale, unseen):
    """In float32 their norms would be zero, or infinite."""
    torch.manual_seed(0)
    module, data = Coupled(only_backward=True), (torch.randn(12, 6), torch.arange(12) % 3)

    def loss(module, batch):
        return scale * loss_fn(module, batch)

    for mixing in (0.0, 0.5):
        module.mixing.fill_(mixing)
        found = gradient_gram(module, data, loss_fn=loss)
        assert off(found, gradient_gram(module, data, loss_fn=loss, engine="loop")) < 2e-4
        assert bool(found.plan.fallbacks) == bool(mixing)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("by_name", [False, True])
def test_an_example_that_is_called_otherwise_than_its_batch(by_name):
    """As without a mask where nothing is masked: known calls do not stumble over it."""

    def loss(module, batch):
        bias = module.first.bias if (batch[1] > 0).any() else None
        given = {"bias": bias} if by_name and bias is not None else {}
        hidden = functional.linear(batch[0], module.first.weight, *(() if by_name else (bias,)), **given)
        return functional.cross_entropy(module.last(hidden.tanh()), batch[1], reduction="none")

    x, y = batch()
    module = Coupled().double()
    odd = torch.tensor([familiar.place_of(1, len(x))])
    for labels in (torch.ones_like(y), torch.ones_like(y).index_fill_(0, odd, 0)):
        found = gradient_gram(module, (x, labels), loss_fn=loss)
        assert off(found, gradient_gram(module, (x, labels), loss_fn=loss, engine="loop")) < 1e-9
        assert not any("Error" in reason for reason in found.plan.fallbacks.values())


@pytest.fixture
def looked_at(monkeypatch):
    """Positions of the examples that a measurement begins with; and of those that accompany it."""
    first, more = [], []
    companion = alone.companion
    for name, refer in (("refer", alone.refer), ("refer_if_familiar", alone.refer_if_familiar)):

        def noted(problem, examples, place, known, refer=refer):
            first.append(place)
            return refer(problem, examples, place, known)

        monkeypatch.setattr(alone, name, noted)
    monkeypatch.setattr(alone, "companion", lambda p, e, place: (more.append(place), companion(p, e, place))[1])
    return first, more


def test_each_time_it_is_another_example_s_turn(looked_at):
    first, more = looked_at
    module = net()
    for _ in range(9):
        gradient_gram(module, batch(), loss_fn=loss_fn)
    assert first == [1, *(familiar.place_of(turn, 12) for turn in range(1, 9))]
    assert len(set(first)) > 7
    assert more == []
    familiar.forget()
    gradient_gram(module, batch(), loss_fn=loss_fn)
    assert first[-1] == 1


def test_each_process_looks_at_examples_of_its_own(looked_at):
    """Others are not among those that it has gradients of."""
    first, more = looked_at
    module = net()
    problem = Problem(module, loss_fn, dict(module.named_parameters()))
    every, own = Examples.of(batch(40), batch(20, 1)), (25, 50)
    for _ in range(9):
        one = alone.Alone(problem, every, 26, "a setting", own)
        one.accompany()
        familiar.prove(one.named(), familiar.Proof())
    assert len(set(first)) > 7
    assert len(set(more)) > 5
    assert all(25 <= place < 40 for place in first)
    assert all(40 <= place < 50 for place in more)


@pytest.mark.parametrize("why", ["another batch", "a value"])
def test_when_one_example_is_not_enough(why, looked_at):
    first, more = looked_at

    def loss(module, batch):
        return loss_fn(module, batch) * (2.0 if why == "a value" and bool(batch[0].abs().max() > 99) else 1.0)

    columns = batch(9, 1) if why == "another batch" else None
    for _ in range(2):
        gradient_gram(net(), batch(), columns, loss_fn=loss)
    assert len(more) == 1
    assert (more[0] >= 12) == (columns is not None)
    assert more[0] != first[1]


class CoupledInPart(Coupled):
    """The same for a third of the examples."""

    def forward(self, x):
        hidden = self.first(x).tanh()
        some = (x[:, :1] > 0.4) * self.mixing
        return self.last(hidden + some * hidden.mean(0, keepdim=True))


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_what_is_otherwise_for_some_is_seen_in_time():
    module = CoupledInPart().double()
    x, y = batch()
    some = int((x[:, 0] > 0.4).sum())
    assert 2 < some < 6
    gradient_gram(module, (x, y), loss_fn=loss_fn)
    module.mixing.fill_(0.5)
    found = [gradient_gram(module, (x, y), loss_fn=loss_fn) for _ in range(8)]
    noticed = [gram for gram in found if gram.plan.fallbacks]
    assert noticed
    expected = gradient_gram(module, (x, y), loss_fn=loss_fn, engine="loop")
    assert all(off(gram, expected) < 1e-9 for gram in noticed)


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_loss_of_other_value_is_looked_at_more_closely(taken):
    """What all uses take, and the gradients that come back, are the same."""
    shift = 0.0

    def loss(module, batch):
        found = loss_fn(module, batch)
        return found + shift * len(found)

    module = net()
    for _ in range(4):
        gradient_gram(module, batch(), loss_fn=loss)
    known = len(taken)
    shift = 1.0
    found = gradient_gram(module, batch(), loss_fn=loss)
    assert len(taken) > known
    assert found.plan.fallbacks  # that the losses of a smaller batch are others is reason enough
    assert off(found, gradient_gram(module, batch(), loss_fn=loss, engine="loop")) < 1e-12


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("cross", [False, True])
def test_a_mean_over_the_few_that_have_a_label_is_no_plain_mean(cross, taken):
    """After the same calls with data that all have one; by the size of gradients nothing would stand out."""

    def loss(module, batch):
        x, y, labelled = batch
        more = 1e-4 * module.second(100 * x).square().sum(1) * labelled
        return mean_loss(module.first, (x, y)) + more.sum() / labelled.sum().clamp(min=1)

    module, n = nn.Module(), 40
    module.first, module.second = net(), nn.Linear(6, 1).double()
    sides = [(*batch(n, seed), torch.ones(n, dtype=DOUBLE)) for seed in range(1 + cross)]
    for _ in range(4):
        found = gradient_gram(module, *sides, loss_fn=loss)
        assert off(found, gradient_gram(module, *sides, loss_fn=loss, engine="loop")) < 1e-12
        assert not found.plan.fallbacks
    assert len(taken) == 2
    for place in (3, 11, 25):
        sides[-1][2].zero_()[place] = 1.0
        for _ in range(3):
            found = gradient_gram(module, *sides, loss_fn=loss)
            assert off(found, gradient_gram(module, *sides, loss_fn=loss, engine="loop")) < 1e-9
            assert found.plan.fallbacks


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("settings", [{}, {"memory_budget": 4000}, {"memory_budget": 2600}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_that_are_one_number_are_compared_by_values_too(reduction, settings, taken, monkeypatch):
    again = []
    take = again_module.example_gradient
    monkeypatch.setattr(again_module, "example_gradient", lambda p, e, at: again.append(at) or take(p, e, at))

    def loss(module, batch):  # of which what it is a mean of is not sure, as it passes through a slice
        return functional.cross_entropy(module(batch[0])[:], batch[1], reduction=form)

    module, form = net(), reduction
    for step in range(17):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        found = gradient_gram(module, batch(), loss_fn=loss, **settings)
        assert off(found, gradient_gram(module, batch(), loss_fn=loss, engine="loop")) < 1e-12
        assert not found.plan.fallbacks
        assert len(taken) == 2 * (1 + step // alone.AGAIN)  # now and then as the first time
        assert len(again) == step + 1 + (1 + step // alone.AGAIN)  # that with the largest gradient each time
    known = len(taken)
    found = gradient_gram(module, batch(seed=1), loss_fn=loss, **settings)
    assert off(found, gradient_gram(module, batch(seed=1), loss_fn=loss, engine="loop")) < 1e-12
    assert len(taken) == known + 2  # a mean may weigh the examples of other data otherwise
    known = len(taken)
    form = "mean" if reduction == "sum" else "sum"  # by its calls it might be the same
    found = gradient_gram(module, batch(), loss_fn=loss, **settings)
    assert off(found, gradient_gram(module, batch(), loss_fn=loss, engine="loop")) < 1e-12
    assert len(taken) > known


class NearZero(nn.Module):
    """Some of many ReLUs have inputs within rounding of zero, which a batch rounds otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8000), nn.Linear(8000, 3)
        self.ties, self.pull = 3, 0.0
        with torch.no_grad():  # so that what is before it weighs more than it does
            self.leave.weight *= 50

    def forward(self, x):
        hidden = self.enter(x)
        above = 1e-9 if len(x) > 1 else -1e-9
        near = torch.arange(8000) < self.ties
        hidden = torch.where(near, hidden - hidden.detach() + above, hidden).relu()
        mean = hidden.mean(0, keepdim=True)
        return self.leave(hidden + self.pull * (mean - mean.detach()))


@pytest.fixture
def doubled(monkeypatch, unseen):
    """How often float64 was asked."""
    times = []
    look = trust.agree_in_double

    def counted(*given):
        times.append(look(*given))
        return times[-1] or {"enter.weight", "enter.bias"}  # float64 itself rounds nothing here

    monkeypatch.setattr(trust, "agree_in_double", counted)
    monkeypatch.setattr(parted, "gradients_apart", lambda *_: None)  # nor in parts of one example
    return times


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_ties_that_float64_has_explained_are_known(doubled):
    torch.manual_seed(0)
    module, data = NearZero(), (torch.randn(12, 6), torch.arange(12) % 3)
    found = [gradient_gram(module, data, loss_fn=loss_fn) for _ in range(4)]
    assert len(doubled) == 1
    for gram in found:
        assert not gram.plan.fallbacks
        assert any("choice between equals" in note and "enter.weight" in note for note in gram.plan.notes)
        assert torch.equal(gram.values, found[0].values)
    expected = gradient_gram(module, data, loss_fn=loss_fn, engine="loop")
    assert 1e-6 < off(found[0], expected) < values.TIE**2

    module.ties = 800  # so many would make a difference: float64 is to say
    gradient_gram(module, data, loss_fn=loss_fn)
    assert len(doubled) == 3  # of the two examples compared, and of one more, as all have a mean


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_ties_do_not_excuse_what_comes_before_them(doubled, monkeypatch):
    """Where the values that go into a use are others, it is no choice between equals."""
    torch.manual_seed(0)
    module, data = NearZero(), (torch.randn(12, 6), torch.arange(12) % 3)
    gradient_gram(module, data, loss_fn=loss_fn)
    gradient_gram(module, data, loss_fn=loss_fn)
    assert len(doubled) == 1
    monkeypatch.setattr(trust, "agree_in_double", lambda *_: set())
    module.pull = 0.5
    found = gradient_gram(module, data, loss_fn=loss_fn)
    assert found.plan.fallbacks


def test_an_example_without_a_gradient_proves_nothing(taken):
    """As one that is beyond the margin of a hinge loss."""

    def loss(module, batch):
        return loss_fn(module, batch) * (batch[0][:, 0] > margin)

    module, margin = net(), -99.0
    for _ in range(4):
        gradient_gram(module, batch(), loss_fn=loss)
    assert len(taken) == 2
    margin = 99.0
    with pytest.warns(UserWarning, match="every gradient is exactly 0"):
        found = gradient_gram(module, batch(), loss_fn=loss)
    assert len(taken) > 2
    assert not found.values.any()
