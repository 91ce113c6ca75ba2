"""The Gram of each layer, and the inner product that an optimizer's step sees: g_i · D g_j."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import (
    ENGINES,
    EngineRefusal,
    GradientGram,
    StepError,
    gradient_gram,
    gram_of_examples,
    optimizer_step,
)
from lightning_stiffness.gram.choice import select_parameters
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.state import measuring

from .cases import CASES, Case, halves

STEPPED = [name for name, case in CASES.items() if not case.couples and "not_finite" not in name]
"""Where examples change each other there is no gradient of one example to scale."""


def gradients(case: Case) -> dict[str, Tensor]:
    """Parameter → per-example gradients ``[n, p]`` in float64, one backward pass each."""
    module, batch, loss_fn = case.build()
    parameters = select_parameters(module, case.parameters)
    examples, problem = Examples.of(batch), Problem(module, loss_fn, parameters)
    with measuring(module):
        each = [example_gradient(problem, examples.one(i)) for i in range(len(examples))]
    return {name: torch.stack([real(one[name]) for one in each]).cpu() for name in parameters}


def real(gradient: Tensor) -> Tensor:
    """Real and imaginary parts of each entry ``[p, 2]``, or the entries ``[p, 1]``."""
    flat = gradient.reshape(-1)
    return (torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat[:, None]).double()


def drawn_steps(case: Case) -> dict[str, Tensor | float]:
    """Parameter → D: one number, a tensor, or a tensor with zeros, in turn."""
    module, _, _ = case.build()
    generator = torch.Generator().manual_seed(1)
    steps: dict[str, Tensor | float] = {}
    for place, (name, parameter) in enumerate(select_parameters(module, case.parameters).items()):
        entries = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.1
        steps[name] = [entries, 0.3 + place, entries * (entries > 0.5)][place % 3]
    return steps


def expected(
    case: Case, layers: dict[str, list[str]], steps: dict[str, Tensor | float] | None
) -> dict[str, Tensor]:
    found = {}
    for layer, names in layers.items():
        total: Any = 0.0
        for name in names:
            g = gradients(case)[name]
            d = torch.as_tensor(1.0 if steps is None else steps[name], dtype=torch.float64)
            d = d.expand(g.shape[1]) if d.ndim == 0 else d.flatten()
            total = total + torch.einsum("ipk,p,jpk->ij", g, d, g)
        found[layer] = total
    return found


def assert_close(got: GradientGram, gram: Tensor, case: Case, room: Tensor) -> None:
    """The error relative to the norms of whole gradients: a layer of tiny gradients rounds as the whole does."""
    values = got.values
    keep = torch.isfinite(room)
    if case.scale_free:
        scale = (got.norms / gram.diagonal().sqrt()).nan_to_num(1.0, posinf=1.0)
        scale = torch.where(scale > 0, scale, 1.0)
        values = values / scale[:, None] / scale[None, :]
    difference = (values - gram).abs() / room.clamp(min=1e-300)[:, None] / room.clamp(min=1e-300)[None, :]
    assert float(difference[keep][:, keep].max()) <= case.tolerance


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.filterwarnings("ignore")
def test_layers_and_steps_at_once(name: str) -> None:
    case = CASES[name]
    module, batch, loss_fn = case.build()
    steps = drawn_steps(case)
    layers: dict[str, list[str]] = {}
    for parameter in steps:
        layers.setdefault(parameter.rpartition(".")[0] or parameter, []).append(parameter)
    try:
        got = gradient_gram(
            module, batch, loss_fn=loss_fn, parameters=case.parameters, per_layer=True, step=steps
        ).to("cpu")
    except EngineRefusal:  # a weighted mean with parts for another engine, refused in words
        assert case.scale_free
        return
    grams = expected(case, layers, steps)
    whole = torch.stack(list(grams.values())).sum(0)
    room = whole.diagonal().sqrt()
    assert list(got.layers) == list(layers)
    assert_close(got, whole, case, room)
    for layer, gram in got.layers.items():
        if not case.scale_free:
            assert_close(gram, grams[layer], case, room)
    torch.testing.assert_close(sum(gram.values for gram in got.layers.values()), got.values, rtol=1e-9, atol=1e-300)


FEW = ["perceptron", "residual_twenty", "tied_embedding_and_decoder", "recurrent_lstm", "weight_in_own_function"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FEW)
@pytest.mark.filterwarnings("ignore")
def test_every_engine_between_two_sets(name: str, engine: str) -> None:
    case = CASES[name]
    module, batch, loss_fn = case.build()
    rows, columns = halves(batch)
    steps = drawn_steps(case)
    first = next(iter(steps)).partition(".")[0]
    names = {
        layer: [n for n in steps if (n.partition(".")[0] == first) == (layer == first)]
        for layer in (first, "other")
    }
    grams = expected(case, {layer: own for layer, own in names.items() if own}, steps)
    kwargs = {"per_layer": [first], "step": steps, "parameters": case.parameters}
    try:
        got = gradient_gram(module, rows, columns, loss_fn=loss_fn, engine=engine, **kwargs).to("cpu")
    except EngineRefusal:
        assert engine in case.refuses
        return
    whole = torch.stack(list(grams.values())).sum(0)
    assert set(got.layers) == set(grams)
    n = len(got.norms)
    torch.testing.assert_close(got.values, whole[:n, n:], rtol=1e-8, atol=1e-8 * float(whole.diagonal().max()))
    torch.testing.assert_close(got.norms, whole.diagonal()[:n].sqrt(), rtol=1e-8, atol=0)
    torch.testing.assert_close(got.other_norms, whole.diagonal()[n:].sqrt(), rtol=1e-8, atol=0)
    for layer, gram in got.layers.items():
        scale = float(whole.diagonal().max())
        torch.testing.assert_close(gram.values, grams[layer][:n, n:], rtol=1e-8, atol=1e-8 * scale)
        block = got.block(slice(0, 1), slice(1, 3)).layers[layer]
        assert torch.equal(block.values, gram.values[:1, 1:3])


@pytest.mark.parametrize("budget", [20_000, 200_000])
@pytest.mark.filterwarnings("ignore")
def test_within_a_memory_budget(budget: int) -> None:
    case = CASES["residual_twenty"]
    module, batch, loss_fn = case.build()
    steps = drawn_steps(case)
    kwargs: dict[str, Any] = {"loss_fn": loss_fn, "per_layer": True, "step": steps}
    free = gradient_gram(module, batch, **kwargs)
    try:
        tight = gradient_gram(module, batch, memory_budget=budget, **kwargs)
    except ValueError as error:
        least = int(str(error).split(" take ")[1].split(",")[0])
        tight = gradient_gram(module, batch, memory_budget=least, **kwargs)
    for layer, gram in free.layers.items():
        torch.testing.assert_close(tight.layers[layer].values, gram.values, rtol=1e-9, atol=1e-12)


def test_one_step_size_for_a_parameter_keeps_the_cheap_formula() -> None:
    net = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    batch = torch.randn(9, 30).double(), torch.randint(3, (9,))
    loss_fn = lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")  # noqa: E731
    even = gradient_gram(net, batch, loss_fn=loss_fn, step={n: 0.5 for n, _ in net.named_parameters()})
    uneven = gradient_gram(
        net, batch, loss_fn=loss_fn, step={n: torch.full_like(p, 0.5) for n, p in net.named_parameters()}
    )
    plain = gradient_gram(net, batch, loss_fn=loss_fn)
    assert "(L Lᵀ) ∘ (R Rᵀ)" in even.plan.formula("0.weight")
    assert uneven.plan.formula("0.weight") == "G Gᵀ"
    torch.testing.assert_close(even.values, plain.values / 2)
    torch.testing.assert_close(uneven.values, plain.values / 2)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "SGD, Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99)),
    "Adam, AMSGrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "RMSprop, centred, momentum": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.01),
}


def trained(name: str) -> tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor]:
    """A network and its optimizer after some steps, and some examples."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    optimizer = OPTIMIZERS[name](net.parameters())
    x, y = torch.randn(40, 6).double(), torch.randint(3, (40,))
    for step in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[step::4]), y[step::4]).backward()
        optimizer.step()
    return net, optimizer, x, y


def stepped(net: nn.Module, optimizer: torch.optim.Optimizer, gradient: list[Tensor]) -> nn.Module:
    """A copy of the network after one step of a copy of the optimizer, on a gradient given."""
    net, optimizer = copy.deepcopy((net, optimizer))
    for parameter, given in zip(net.parameters(), gradient, strict=True):
        parameter.grad = given.clone()
    optimizer.step()
    return net


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_of_an_optimizer_is_the_one_it_takes(name: str) -> None:
    net, optimizer, x, y = trained(name)
    before = copy.deepcopy(optimizer.state_dict())
    steps = optimizer_step(optimizer, net)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)
    loss = nn.functional.cross_entropy(net(x[:1]), y[:1])
    gradient = torch.autograd.grad(loss, list(net.parameters()))
    h = 1e-5
    up, down = (stepped(net, optimizer, [sign * h * g for g in gradient]) for sign in (1, -1))
    parts = zip(net.named_parameters(), up.parameters(), down.parameters(), gradient, strict=True)
    for (parameter, _), high, low, g in parts:
        torch.testing.assert_close((low - high) / (2 * h), steps[parameter] * g, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_real_losses_change_as_predicted(name: str) -> None:
    net, optimizer, x, y = trained(name)
    x, y = x[:6], y[:6]
    loss_fn = lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")  # noqa: E731
    # The rest of the step, on no gradient, moves the parameters as well: losses are compared from there
    start = stepped(net, optimizer, [torch.zeros_like(p) for p in net.parameters()])
    found = gradient_gram(start, (x, y), loss_fn=loss_fn, step=optimizer_step(optimizer, net)).values
    size = 1e-5
    plain = gradient_gram(start, (x, y), loss_fn=loss_fn)
    for i in range(len(x)):
        loss = loss_fn(start, (x[i : i + 1], y[i : i + 1])).sum()
        gradient = torch.autograd.grad(loss, list(start.parameters()))
        moved = [stepped(net, optimizer, [sign * size * g for g in gradient]) for sign in (1, -1)]
        change = (loss_fn(moved[0], (x, y)) - loss_fn(moved[1], (x, y))).detach() / (2 * size)
        torch.testing.assert_close(-change, found[i], rtol=1e-4, atol=1e-6 * float(found.abs().max()))
    if "SGD" not in name:  # and not as a step of plain descent would
        cosine = plain.values / plain.norms[:, None] / plain.other_norms
        assert (
            float((cosine - found / found.diagonal().sqrt()[:, None] / found.diagonal().sqrt()).abs().max()) > 0.05
        )


def test_what_an_optimizer_does_not_step_or_has_not_seen() -> None:
    net = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 1), nn.Linear(1, 1))
    optimizer = torch.optim.Adam(
        [{"params": net[0].parameters()}, {"params": net[1].parameters(), "lr": 0.0}], lr=0.1
    )
    assert optimizer_step(optimizer, net) == {
        **{"0.weight": 0.1, "1.weight": 0.0, "1.bias": 0.0},
        **{"2.weight": 0.0, "2.bias": 0.0},
    }
    net[2](net[1](net[0](torch.tensor([1, 2])))).sum().backward()
    optimizer.step()
    steps = optimizer_step(optimizer, net)
    assert isinstance(steps["0.weight"], Tensor)
    assert (steps["0.weight"] > 0).any(1).tolist() == [False, True, True, False]
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a warm-up's first step
    assert (optimizer_step(optimizer, net)["0.weight"] > 0).any()


def test_several_optimizers_and_parameters_that_join_later() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    resting, other = torch.optim.SGD(net[0].parameters(), lr=0.0), torch.optim.SGD(net[1].parameters(), lr=0.1)
    assert optimizer_step([resting, other], net) == {
        **{"0.weight": 0.0, "0.bias": 0.0},
        **{"1.weight": 0.1, "1.bias": 0.1},
    }
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    net[0](torch.randn(4, 3)).sum().backward()
    adam.step()
    steps = optimizer_step(adam, net)
    assert steps["1.weight"] == 0.0  # no gradient has reached it, while it has reached others
    assert isinstance(steps["0.weight"], Tensor)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_before_the_first_step_of_all_it_is_the_learning_rate(name: str) -> None:
    net = nn.Linear(3, 2)
    optimizer = OPTIMIZERS[name](net.parameters())
    rate = optimizer.param_groups[0]["lr"]
    factor = 1.9 if "Nesterov" in name else 1.0
    assert optimizer_step(optimizer, net) == pytest.approx({"weight": factor * rate, "bias": factor * rate})


def test_a_parameter_without_a_step_is_no_part() -> None:
    net = nn.Linear(3, 2).double()
    batch = (torch.randn(4, 3).double(),)
    loss_fn = lambda m, b: m(b[0]).square().sum(1)  # noqa: E731
    got = gradient_gram(net, batch, loss_fn=loss_fn, step={"weight": 0.0, "bias": 1.0}, per_layer=["bias"])
    bias = gradient_gram(net, batch, loss_fn=loss_fn, parameters=["bias"])
    torch.testing.assert_close(got.values, bias.values)
    assert list(got.layers) == ["other", "bias"]
    assert float(got.layers["other"].norms.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"weight": 1.0}, "a step size for every parameter measured, got none for 'bias'"),
        ({"weight": torch.ones(3), "bias": 1.0}, r"one number or a tensor \[2, 3\], got \[3\]"),
        ({"weight": -1.0, "bias": 1.0}, "step sizes of 'weight' to be finite and at least 0"),
        ({"weight": math.nan, "bias": 1.0}, "step sizes of 'weight' to be finite and at least 0"),
        ({"weight": 0.0, "bias": 0.0}, "no parameter that is measured takes a step"),
    ],
)
def test_steps_that_are_none(step: dict[str, Any], message: str) -> None:
    with pytest.raises(StepError, match=message):
        gradient_gram(nn.Linear(3, 2), (torch.randn(4, 3),), loss_fn=lambda m, b: m(b[0]).sum(1), step=step)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["first"], r"expected per_layer to name submodules .*\(0, 1.0, 1.1\), got 'first'"),
        (["1", "1.0"], "each parameter's layer once, got '1' and '1.0'"),
        (["0", "0"], "each parameter's layer once, got '0' and '0'"),
    ],
)
def test_layers_that_are_none(wanted: list[str], message: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=message):
        gram_of_examples(
            net, Examples.of((torch.randn(3, 2),)), loss_fn=lambda m, b: m(b[0]).sum(1), per_layer=wanted
        )


def test_a_layer_of_ones_own_may_be_called_other() -> None:
    net = nn.ModuleDict({"other": nn.Linear(2, 2), "body": nn.Linear(2, 2)}).double()
    loss_fn = lambda m, b: m["other"](m["body"](b[0])).sum(1)  # noqa: E731
    got = gradient_gram(net, (torch.randn(3, 2).double(),), loss_fn=loss_fn, per_layer="other")
    assert list(got.layers) == ["other", "other layers"]
    alone = gradient_gram(net, (torch.randn(3, 2).double(),), loss_fn=loss_fn, parameters=["other"], per_layer=None)
    assert got.layers["other"].values.shape == alone.values.shape
    assert alone.layers == {}


class Muon(torch.optim.Optimizer):
    """An optimizer whose steps no diagonal describes."""

    def __init__(self, parameters: Any):
        super().__init__(parameters, {"lr": 0.1})


def test_an_optimizer_whose_steps_are_not_known() -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(StepError, match=r"known \(SGD, Adam, .*\), got Muon: pass a function"):
        optimizer_step(Muon(net.parameters()), net)

    class Otherwise(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return None

    class AdamW(torch.optim.Optimizer):
        def __init__(self, parameters: Any):
            super().__init__(parameters, {"lr": 0.1})

    for strange in (Otherwise(net.parameters(), lr=0.1), AdamW(net.parameters())):
        with pytest.raises(StepError, match=rf"got {type(strange).__name__}: pass a function"):
            optimizer_step(strange, net)
    with pytest.raises(StepError, match="maximize=True"):
        optimizer_step(torch.optim.Adam(net.parameters(), maximize=True), net)
    complex_one = nn.Linear(2, 1, dtype=torch.complex64)
    with pytest.raises(StepError, match="complex parameters"):
        optimizer_step(torch.optim.SGD(complex_one.parameters(), lr=0.1), complex_one)
