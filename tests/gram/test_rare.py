"""Modules and losses of which the first examples compared show nothing: the Gram is right all the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import again, check, gradient_gram
from lightning_stiffness.gram.check import Witness
from tests.gram.test_scales import off

DOUBLE = torch.float64


def heads() -> nn.ModuleDict:
    return nn.ModuleDict({
        "f": nn.Sequential(nn.Linear(6, 8), nn.Tanh()), "c": nn.Linear(8, 3), "r": nn.Linear(8, 1)
    }).double()  # fmt: skip


def rare_label(module, batch):
    """A class for every example, and a number for a few of them."""
    hidden, known = module["f"](batch[0]), ~batch[2].isnan()
    first = functional.cross_entropy(module["c"](hidden), batch[1])
    errors = (module["r"](hidden)[:, 0] - batch[2].nan_to_num()).square() * known
    return first + errors.sum() / known.sum().clamp(min=1)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("known", [1, 3, 7])
def test_a_mean_over_the_few_examples_that_have_a_label(known, cross):
    torch.manual_seed(known)
    net, x, y, t = (
        heads(),
        torch.randn(60, 6, dtype=DOUBLE),
        torch.randint(0, 3, (60,)),
        torch.randn(60, dtype=DOUBLE),
    )
    t[~torch.isin(torch.arange(60), torch.randperm(56)[:known] + 2)] = torch.nan  # neither of those compared first
    batch = (x, y, t)
    halves = (tuple(p[:30] for p in batch), tuple(p[30:] for p in batch)) if cross else (batch, None)
    found = gradient_gram(net, *halves, loss_fn=rare_label)
    assert off(found, gradient_gram(net, *halves, loss_fn=rare_label, engine="loop")) < 1e-9
    assert found.plan.fallbacks


@pytest.mark.parametrize(("reduction", "fallback"), [("sum", False), ("mean", False)])
def test_a_mean_and_a_sum_whose_first_examples_have_no_gradient(reduction, fallback):
    torch.manual_seed(0)
    net, x = nn.Linear(2, 2).double(), torch.randn(16, 2, dtype=DOUBLE)
    y = (net(x)[:, 0] < net(x)[:, 1]).long()
    x[1], x[14] = 100 * x[1], 100 * x[14]  # far on the right side: a hinge has no gradient there
    batch = (x, (net(x)[:, 0] < net(x)[:, 1]).long())
    batch[1][[4, 9]] = 1 - y[[4, 9]]

    def hinge(module, batch):
        return functional.multi_margin_loss(module(batch[0]), batch[1], reduction=reduction)

    expected = gradient_gram(net, batch, loss_fn=hinge, engine="loop")
    assert expected.norms[1] == expected.norms[14] == 0
    found = gradient_gram(net, batch, loss_fn=hinge)
    assert torch.allclose(found.norms, expected.norms, rtol=1e-9)
    assert bool(found.plan.fallbacks) == fallback
    assert not found.plan.notes


class Mixed(nn.Module):
    """The first weights in float64, the arithmetic in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 40).double(), nn.Linear(40, 3)

    def forward(self, x):
        return self.b(self.a(x).tanh().float())


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 3))

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x.float()).float()


@pytest.mark.parametrize("net", [Mixed, Half])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_sum_is_no_mean_where_parts_compute_in_less_precision(net, reduction):
    torch.manual_seed(0)
    module, batch = net(), (torch.randn(33, 20, dtype=DOUBLE), torch.randn(33, 3))

    def loss(module, batch):
        return getattr((module(batch[0]) - batch[1]).square().sum(1), reduction)()

    ratio = (
        gradient_gram(module, batch, loss_fn=loss).norms
        / gradient_gram(module, batch, loss_fn=loss, engine="loop").norms
    )
    assert float((ratio - 1).abs().max()) < 0.05


class Experts(nn.Module):
    """Scripted experts, of which each example takes one: their calls are not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(3, 3), nn.Linear(4, 1)
        self.experts = nn.ModuleList([
            torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh())) for _ in range(3)
        ])  # fmt: skip

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        value, index = p.topk(1, -1)
        gate = torch.zeros_like(p).scatter(1, index, value)
        return self.head(sum(gate[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts)))


class Signs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return w.sign()

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0].abs() <= 1)


class Binary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.out = nn.Parameter(torch.randn(4, 3) * 0.5), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(functional.linear(x, Signs.apply(self.w)).tanh())


class Small(nn.Module):
    """A layer whose output is scaled down, with weights that are rounded by a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = nn.Parameter(torch.randn(3, 3)), nn.Linear(3, 1)

    def forward(self, x):
        return self.out(x + 1e-4 * functional.linear(x, Signs.apply(self.q)).tanh())


def squares(module, batch):
    return (module(batch[0]) - batch[1]).square().flatten(1).sum(1) * batch[2]


def forces(module, batch):
    x, target, force, known = batch
    x = x.clone().requires_grad_()
    energy = module(x)[:, 0]
    (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
    return (energy - target) ** 2 + known * (slope + force).square().sum(1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["experts", "binary", "small", "forces"])
def test_what_is_not_seen_and_plays_no_part_in_the_first_examples(kind, seed):
    torch.manual_seed(seed)
    known = torch.ones(8, dtype=DOUBLE)
    known[[1, 6]] = 0
    x = torch.randn(8, 3, dtype=DOUBLE)
    if kind == "forces":
        net, loss = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), forces
        batch = (x, torch.randn(8, dtype=DOUBLE), torch.randn(8, 3, dtype=DOUBLE), known)
    else:
        net, loss = {"experts": Experts, "binary": Binary, "small": Small}[kind](), squares
        batch = (x, torch.randn(8, 1, dtype=DOUBLE), known if kind == "binary" else torch.ones_like(known))
    net = net.double()
    found = gradient_gram(net, batch, loss_fn=loss, per_layer=True)
    expected = gradient_gram(net, batch, loss_fn=loss, engine="loop", per_layer=True)
    assert off(found, expected) < 1e-9
    for name, layer in found.layers.items():
        assert torch.allclose(layer.values, expected.layers[name].values, rtol=1e-7, atol=1e-20), name


class Exchanging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.w = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

    def forward(self, x):
        self.c = self.c.to(torch.float32)  # sets the data of every parameter, also to what it is
        return self.c(x).softmax(-1) * self.w


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_a_module_that_exchanges_data_is_kept_from_torch_func():
    torch.manual_seed(0)
    net, batch = Exchanging(), (torch.randn(5, 4),)

    def loss(module, batch):
        return module(batch[0]).square().sum(1).mean() * module.w.square().sum()

    found = gradient_gram(net, batch, loss_fn=loss)
    assert found.plan.formula("w") == "loop"
    assert off(found, gradient_gram(net, batch, loss_fn=loss, engine="loop")) < 1e-5


class Reorders(nn.Module):
    """A layer before and one behind a change of the examples' order, which the loss sees undone or not."""

    def __init__(self, how: str, undo: bool) -> None:
        super().__init__()
        self.first, self.last, self.how, self.undo = nn.Linear(6, 6), nn.Linear(6, 3), how, undo

    def forward(self, x):
        order = x[:, 0].argsort(stable=True)  # as by length
        back = order.argsort()

        def arranged(x, order):
            if self.how == "item":
                return x[order]
            if self.how == "slice":
                return x[order, :]
            if self.how == "index_select":
                return x.index_select(0, order)
            if self.how == "gather":
                return x.gather(0, order[:, None].expand_as(x))
            assert self.how == "take_along_dim"
            return torch.take_along_dim(x, order[:, None], dim=0)

        hidden = self.last(arranged(self.first(x).tanh(), order).square())
        return arranged(hidden, back) if self.undo else hidden


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("how", ["item", "slice", "index_select", "gather", "take_along_dim"])
def test_examples_that_a_module_puts_in_another_order(how, undo, reduction):
    torch.manual_seed(0)
    net, x, y = Reorders(how, undo).double(), torch.randn(30, 6, dtype=DOUBLE), torch.arange(30) % 3
    x[:, 0] = torch.linspace(-1, 1, 30)
    x[[4, 17], 0] = x[[17, 4], 0]  # all but two are in order, none of those taken alone

    def loss(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction=reduction)

    for _ in range(2):  # also where its calls are known already
        found = gradient_gram(net, (x, y), loss_fn=loss)
        assert off(found, gradient_gram(net, (x, y), loss_fn=loss, engine="loop")) < 1e-9
        assert found.plan.fallbacks


@pytest.mark.parametrize("how", ["flip", "roll"])
def test_an_axis_as_long_as_there_are_examples(how):
    """What is moved along it are not the examples: nothing falls back."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.randn(8, 8, dtype=DOUBLE)

    def loss(module, batch):
        turned = batch[0].flip(1) if how == "flip" else torch.roll(batch[0], 3, dims=1)
        scores = module(turned).log_softmax(1)
        return -scores[torch.arange(len(scores)), batch[1]]

    found = gradient_gram(net, (x, torch.arange(8) % 3), loss_fn=loss)
    assert off(found, gradient_gram(net, (x, torch.arange(8) % 3), loss_fn=loss, engine="loop")) < 1e-9
    assert not found.plan.fallbacks


@pytest.mark.parametrize("size", [2, 3, 4, 5, 9])
def test_two_examples_that_stand_out_are_two(size):
    squares = torch.zeros(12).index_copy_(0, torch.arange(size) + 1, torch.rand(size) + 1)
    assert len(again._standing_out(squares, Witness([], {}, {}), 2)) == 2
    squares[0] = 3.0
    assert len(again._standing_out(squares, Witness([0], {}, {}), 2)) == 2
    assert again._standing_out(squares, Witness([], {}, {}), 1) == [0]


@pytest.mark.parametrize(
    ("own", "in_a_batch", "limit", "wrong"),
    [
        (0.0, 0.0, 1e-5, False),
        (0.0, 1e-6, 1e-5, False),  # rounding, of what is nothing alone
        (1e-7, 3e-6, 1e-5, False),
        (0.0, 1e-4, 1e-5, True),  # stopped alone, and not in a batch
        (0.0, 5e-5, 1e-4, False),
        (0.0, 1e-3, 1e-4, True),
        (1e-4, 0.0, 1e-5, True),  # or the other way round
        (1e-2, 1e-2 * (1 + 1e-4), 1e-5, False),
        (1e-2, 1.5e-2, 1e-5, True),
        (1.0, 1 + 2e-5, 1e-5, True),
    ],
)
def test_gradients_that_are_next_to_nothing_beside_the_others(own, in_a_batch, limit, wrong):
    """Norms by one parameter, over those by all: one example of two has them otherwise in a batch."""
    other, alone = 0.7 * own, [1.0, 1.0]
    expected = [[own**2, own * other], [own * other, other**2]]
    values = [[in_a_batch**2, in_a_batch * other], [in_a_batch * other, other**2]]
    assert (check._excess(values, expected, alone, limit) is not None) == wrong


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", ["each", "mean"])
def test_a_layer_whose_small_gradient_is_stopped_alone(loss):
    """Behind a normalisation of two numbers, which lets next to nothing of it through."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x):
            hidden = self.first(x)
            passed = hidden if len(x) > 1 else hidden.detach()
            return self.last(self.norm(self.second(x) + passed + 0.0 * hidden))

    torch.manual_seed(3)
    net, batch = Gated().double(), (torch.randn(9, 4, dtype=DOUBLE), torch.arange(9) % 3)

    def loss_fn(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none" if loss == "each" else "mean")

    for _ in range(3):
        found, expected = (gradient_gram(net, batch, loss_fn=loss_fn, engine=e) for e in ("auto", "loop"))
        assert found.plan.fallbacks
        assert off(found, expected) < 1e-12


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_no_weights_are_made_of_what_other_calls_do():
    """A batch leaves a layer out that does next to nothing, under a loss that weighs its examples."""

    class Leaving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.near, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            with torch.no_grad():
                self.near.weight.copy_(1.003 * torch.eye(6))
                self.near.bias.zero_()

        def forward(self, x):
            x = self.first(x)
            return self.last(x if len(x) > 2 else self.near(x))

    def loss_fn(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1])

    torch.manual_seed(0)
    net, x = Leaving().double(), torch.randn(12, 6, dtype=DOUBLE)
    labels = torch.arange(12) % 3
    labels[4] = -100
    for _ in range(3):
        found = gradient_gram(net, (x, labels), loss_fn=loss_fn, parameters=["first.*"])
        expected = gradient_gram(net, (x, labels), loss_fn=loss_fn, parameters=["first.*"], engine="loop")
        assert found.plan.fallbacks
        assert off(found, expected) < 1e-12


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", ["each", "mean"])
@pytest.mark.parametrize("stopped", ["gradient", "value"])
def test_a_gate_that_a_batch_opens_together(stopped, loss):
    """For all of a batch and of its halves, and for nearly all examples alone."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            hidden = self.first(x).tanh()
            opened = x.square().sum() > 1
            return self.last(torch.where(opened, hidden, hidden.detach() if stopped == "gradient" else -hidden))

    def loss_fn(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none" if loss == "each" else "mean")

    torch.manual_seed(0)
    net, x = Gate().double(), torch.randn(30, 6, dtype=DOUBLE)
    x = x / x.norm(dim=1, keepdim=True) * 2
    x[[7, 18]] *= 0.1
    found, expected = (gradient_gram(net, (x, torch.arange(30) % 3), loss_fn=loss_fn, engine=e) for e in ENGINES)
    assert found.plan.fallbacks
    assert off(found, expected) < 1e-12


ENGINES = "auto", "loop"


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_the_direction_of_the_one_example_that_tells():
    """One of three has no label, one was compared, and inputs doubled by place turn the gradient of the last."""

    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(6, 3)

        def forward(self, x):
            x = x * 1
            x[: len(x) // 2] *= 2
            return self.last(x)

    for seed in range(4):
        torch.manual_seed(seed)
        net, batch = Doubling().double(), (torch.randn(3, 6, dtype=DOUBLE), torch.tensor([0, -100, 2]))
        found, expected = (
            gradient_gram(net, batch, loss_fn=lambda m, b: functional.cross_entropy(m(b[0]), b[1]), engine=e)
            for e in ENGINES
        )
        assert found.plan.fallbacks
        cosine, right = (gram.values[0, 2] / gram.norms[0] / gram.norms[2] for gram in (found, expected))
        assert abs(cosine - right) < 1e-12
