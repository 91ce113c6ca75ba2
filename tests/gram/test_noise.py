"""Losses that draw random numbers: one draw for each example, whatever the engine and the memory budget."""

import random
import re
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import (
    BudgetError,
    EngineRefusal,
    GradientGram,
    familiar,
    gradient_gram,
    measurement,
    vmap,
)
from lightning_stiffness.gram.class_means import class_gradient_sums

N = 12
Batch = tuple[Tensor, Tensor]


def logits(module: nn.Module, batch: Batch) -> Tensor:
    out = module(batch[0])
    return F.cross_entropy(out + 2 * torch.randn_like(out), batch[1], reduction="none")


def mean_of_logits(module: nn.Module, batch: Batch) -> Tensor:
    return logits(module, batch).mean()


def dropout(module: nn.Module, batch: Batch) -> Tensor:
    hidden = F.dropout(torch.tanh(module[0](batch[0])), 0.5, training=True)
    return F.cross_entropy(module[2](hidden), batch[1], reduction="none")


def autoencoder(module: nn.Module, batch: Batch) -> Tensor:
    mean, log_variance = module[0](batch[0]).chunk(2, 1)
    code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    distance = (module[2](torch.cat([code, code], 1)) - batch[0][:, :3]).square().sum(1)
    return distance - (1 + log_variance - mean**2 - log_variance.exp()).sum(1) / 2


def other_generators(module: nn.Module, batch: Batch) -> Tensor:
    weights = [random.random() + np.random.rand() for _ in batch[1]]  # noqa: NPY002
    return F.cross_entropy(module(batch[0] * batch[0].new_tensor(weights)[:, None]), batch[1], reduction="none")


def one_for_all(module: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(module(batch[0] + torch.randn(6, dtype=torch.float64)), batch[1], reduction="none")


def for_some(module: nn.Module, batch: Batch) -> Tensor:
    """The examples that the engines look at first draw nothing."""
    out, chosen = module(batch[0]), batch[0][:, 0] > 1
    if bool(chosen.any()):
        out = out + chosen[:, None] * torch.randn_like(out)
    return F.cross_entropy(out, batch[1], reduction="none")


def in_pairs(module: nn.Module, batch: Batch) -> Tensor:
    """Only a batch of several draws."""
    out = module(batch[0])
    noise = torch.randn_like(out) if len(out) > 1 else torch.zeros_like(out)
    return F.cross_entropy(out + noise, batch[1], reduction="none")


def unused(module: nn.Module, batch: Batch) -> Tensor:
    _ = random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def unused_and_partly_used(module: nn.Module, batch: Batch) -> Tensor:
    """Draws that the first layer's gradients alone depend on."""
    hidden = module[0](batch[0])
    hidden = hidden.detach() + (hidden - hidden.detach()) * (1 + torch.rand_like(hidden))
    return F.cross_entropy(module[2](torch.tanh(hidden)), batch[1], reduction="none")


NOISY = [
    logits,
    mean_of_logits,
    dropout,
    autoencoder,
    other_generators,
    one_for_all,
    for_some,
    unused_and_partly_used,
]


def made() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.randn(N, 6, dtype=torch.float64).clamp(-3, 0.9)
    x[[4, 8], 0] = 2.0
    return net, (x, torch.arange(N) % 3)


def measured(loss: Callable[..., Tensor], engine: str, *, cross: bool = False, **how: Any) -> GradientGram:
    """The Gram of 12 examples, or of 7 with the 5 others; always from the same random state."""
    net, (x, y) = made()
    batches = [(x[:7], y[:7]), (x[7:], y[7:])] if cross else [(x, y)]
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "stiffness of .* are measured by")
        return gradient_gram(net, *batches, loss_fn=loss, engine=engine, **how)


def least_budget(loss: Callable[..., Tensor], **how: Any) -> int:
    with pytest.raises(BudgetError) as refused:
        measured(loss, "auto", memory_budget=1, **how)
    said = re.search(r"take (\d+), the least that would do", str(refused.value))
    assert said is not None
    return int(said.group(1))


def close(got: GradientGram, expected: GradientGram, tolerance: float) -> None:
    scale = expected.norms[:, None] * expected.other_norms[None, :]
    assert ((got.values - expected.values).abs() / scale).max() < tolerance
    assert ((got.norms - expected.norms) / expected.norms).abs().max() < tolerance
    assert ((got.other_norms - expected.other_norms) / expected.other_norms).abs().max() < tolerance


def is_of_one_draw(gram: GradientGram, *, cross: bool) -> None:
    cosines = gram.values / gram.norms[:, None] / gram.other_norms[None, :]
    assert cosines.abs().max() <= 1 + 1e-9
    if not cross:
        assert (cosines.diagonal() - 1).abs().max() < 1e-9
        eigenvalues = torch.linalg.eigvalsh(gram.values)
        assert eigenvalues[0] >= -1e-9 * eigenvalues[-1]


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("loss", NOISY)
def test_one_draw_for_each_example(loss: Callable[..., Tensor], cross: bool) -> None:
    expected = measured(loss, "loop", cross=cross)
    is_of_one_draw(expected, cross=cross)
    for budget in (1, 16 * 83 * 3, 16 * 83 * 5, 10**6):  # 1, 3, 5 and all gradients of a side at a time
        gram = measured(loss, "loop", cross=cross, memory_budget=budget)
        is_of_one_draw(gram, cross=cross)
        close(gram, expected, 1e-12)
    least = least_budget(loss, cross=cross)
    for engine in ("auto", "layerwise"):
        for budget in (None, least, 2 * least, 5 * least):
            gram = measured(loss, engine, cross=cross, memory_budget=budget)
            is_of_one_draw(gram, cross=cross)
            close(gram, expected, 1e-9)
            assert set(gram.plan.fallbacks.values()) == {"its loss draws random numbers"}
    # torch.func draws other numbers for a batch; or it can't follow what depends on the data
    said = "its loss draws random numbers" if loss is not for_some else "could not trace"
    if loss is other_generators:  # with torch before 2.6
        said += "|could not trace it: RuntimeError: DispatchKey FuncTorchGradWrapper"
    for budget in (None, 2000):
        with pytest.raises(EngineRefusal, match=said):
            measured(loss, "vmap", cross=cross, memory_budget=budget)


@pytest.mark.parametrize("engine", ["loop", "auto", "vmap"])
def test_layers_share_the_draw(engine: str) -> None:
    """Each layer's gradients are those of the same draw as the other layers'."""
    loss = logits if engine != "vmap" else unused
    gram = measured(loss, engine, per_layer=True)
    close(gram, measured(loss, "loop"), 1e-9)
    whole = measured(loss, "loop", parameters=["0"])
    assert ((gram.layers["0"].values - whole.values).abs() / whole.values.abs().max()).max() < 1e-9


def test_only_the_parameters_that_draws_matter_for_take_the_loop() -> None:
    gram = measured(unused_and_partly_used, "auto")
    assert set(gram.plan.fallbacks) == {"0.weight", "0.bias"}
    assert gram.plan.formula("2.weight") != "loop"


@pytest.mark.parametrize("budget", [None, 2])
@pytest.mark.parametrize("cross", [False, True])
def test_numbers_that_play_no_part(cross: bool, budget: int | None) -> None:
    """Drawn as for a picture to log: the fast engines stay, and nothing changes."""

    def quiet(module: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none")

    limit = budget and budget * least_budget(quiet, cross=cross)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gram = measured(unused, "auto", cross=cross, memory_budget=limit)
    assert not gram.plan.fallbacks
    assert torch.equal(gram.values, measured(quiet, "auto", cross=cross, memory_budget=limit).values)
    got = measured(unused, "vmap", cross=cross, memory_budget=budget and 2000)
    close(got, measured(quiet, "loop", cross=cross), 1e-9)


def test_drawn_for_batches_alone() -> None:
    """An example alone draws nothing, so its gradient is the one without noise."""
    expected = measured(lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none"), "loop")
    least = least_budget(in_pairs)
    for budget in (None, least, 3 * least):
        close(measured(in_pairs, "auto", memory_budget=budget), expected, 1e-9)


def test_rare_draws_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that matter for one example in a hundred, and for none of those that the engines look at."""

    def rare(module: nn.Module, batch: Batch) -> Tensor:
        kept = (torch.rand(len(batch[1])) > 0.01).double()
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none") * (0.5 + kept)

    monkeypatch.setattr(vmap, "touched_by_draws", lambda *_: [])  # not left to its luck
    net, _ = made()
    batch = torch.randn(400, 6, dtype=torch.float64), torch.arange(400) % 3
    with pytest.warns(UserWarning, match=r"4 of its 4 parameters .* \(its loss draws random numbers\)"):
        gram = gradient_gram(net, batch, loss_fn=rare)
    close(gram, gradient_gram(net, batch, loss_fn=rare, engine="loop"), 1e-9)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(("engine", "module"), [("auto", measurement), ("vmap", vmap)])
def test_draws_that_go_unnoticed(
    engine: str, module: ModuleType, cross: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a draw matters for no example that is looked at, each has the same one in every pass nevertheless."""

    def seldom(module: nn.Module, batch: Batch) -> Tensor:
        out = module(batch[0])
        return F.cross_entropy(out + (batch[0][:, :1] > 1) * torch.randn_like(out), batch[1], reduction="none")

    monkeypatch.setattr(module, "touched_by_draws", lambda *_: [])
    for budget in (None, least_budget(seldom, cross=cross), 2 * least_budget(seldom, cross=cross)):
        familiar.forget()  # or it would be the turn of another example
        gram = measured(seldom, engine, cross=cross, memory_budget=budget)
        assert gram.engine != "loop"
        assert not (gram.plan and gram.plan.fallbacks)
        is_of_one_draw(gram, cross=cross)


def test_draws_that_go_unnoticed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where not even one parameter's gradients are all held at a time."""

    def seldom(module: nn.Module, batch: Batch) -> Tensor:
        out = module(batch[0]).sum(1)
        return F.cross_entropy(out + (batch[0][:, 0, :1] > 1) * torch.randn_like(out), batch[1], reduction="none")

    net, (x, y) = nn.Linear(6, 3).double(), made()[1]
    batch = x[:, None] * torch.rand(20, 6, dtype=torch.float64).index_fill_(0, torch.tensor(0), 1.0), y
    with pytest.raises(BudgetError) as refused:
        gradient_gram(net, batch, loss_fn=seldom, memory_budget=1)
    least = re.search(r"take (\d+), the least", str(refused.value))
    assert least is not None
    monkeypatch.setattr(measurement, "touched_by_draws", lambda *_: [])
    gram = gradient_gram(net, batch, loss_fn=seldom, memory_budget=int(least.group(1)))
    assert not gram.plan.fallbacks
    is_of_one_draw(gram, cross=False)


@pytest.mark.parametrize("matters", [False, True])
def test_a_draw_that_is_made_in_a_batch_alone(matters: bool) -> None:
    """As by a library that is imported when it is first wanted: what depends on nothing drawn is as it was."""

    def late(module: nn.Module, batch: Batch) -> Tensor:
        drawn = random.random() if len(batch[1]) > 1 else 0.0
        return F.cross_entropy(module(batch[0]) * (1 + matters * drawn), batch[1], reduction="none")

    net, batch = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gram = gradient_gram(net, batch, loss_fn=late)
        close(gram, gradient_gram(net, batch, loss_fn=late, engine="loop"), 1e-9)
    assert bool(gram.plan.fallbacks) == matters


@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_examples_differ_in_their_noise(engine: str) -> None:
    """The same input twice, among the rows and on both sides, has another gradient each time."""
    net, (x, y) = made()
    twice = x[:1].repeat(4, 1), y[:1].repeat(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = gradient_gram(net, twice, loss_fn=logits, engine=engine)
        both = gradient_gram(net, twice, twice, loss_fn=logits, engine=engine)
    norms = torch.cat([both.norms, both.other_norms])
    assert norms.unique().numel() == 8
    assert torch.pdist(norms[:, None]).min() > 1e-6
    assert alone.norms.unique().numel() == 4
    assert torch.equal(alone.norms, both.norms)


def states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.mark.parametrize("engine", ["loop", "auto", "vmap", "layerwise"])
@pytest.mark.parametrize("loss", [logits, other_generators, unused])
def test_random_state(loss: Callable[..., Tensor], engine: str) -> None:
    """It decides the draws, and is afterwards what it was."""
    net, batch = made()

    def gram(seed: int) -> GradientGram:
        torch.manual_seed(seed), random.seed(1), np.random.seed(2)  # noqa: NPY002
        before = states()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return gradient_gram(net, batch, loss_fn=loss, engine=engine, memory_budget=50_000)
        finally:
            assert states() == before

    if engine == "vmap" and loss is not unused:
        with pytest.raises(EngineRefusal):
            gram(3)
        return
    first, again, other = gram(3), gram(3), gram(4)
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.values, other.values) == (loss is unused)


COINS: dict[str, Callable[[], Any]] = {
    "python": lambda: random.random() < 0.02,
    "rarely not": lambda: random.random() > 0.02,
    "choice": lambda: random.choice(range(10)) == 9,
    "one of few": lambda: random.choice(range(20)) == 9,
    "later": lambda: [random.random() for _ in range(40)][-1] < 0.02,
    "normal": lambda: random.normalvariate(0, 1) > 1.4,
    "numpy": lambda: np.random.rand() < 0.02,  # noqa: NPY002
    "integer": lambda: np.random.randint(10) == 9,  # noqa: NPY002
    "one of few integers": lambda: np.random.randint(40) == 13,  # noqa: NPY002
    "torch": lambda: torch.rand(()) < 0.02,
    "bernoulli": lambda: torch.empty(1, 1).bernoulli_(0.98) < 0.5,
    "one of many": lambda: torch.randint(50, (1,)) == 49,
    "some one of many": lambda: torch.randint(50, (1,)) == 7,
    "in place": lambda: torch.empty(1).random_(30) == 11,
    "within": lambda: (torch.rand(()) - 0.31).abs() < 0.01,
    "picked": lambda: torch.multinomial(torch.ones(30), 1) == 17,
}
"""What falls one way in one of ten to fifty times, for a batch or an example alone."""


@pytest.mark.parametrize("engine", ["auto", "vmap"])
@pytest.mark.parametrize("matters", [False, True])
@pytest.mark.parametrize("coin", COINS)
def test_coins_that_fall_one_way_next_to_always(coin: str, matters: bool, engine: str) -> None:
    """As a layer that is left out now and then. What plays no part keeps the fast engine."""

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        fell = torch.as_tensor(COINS[coin]()).to(torch.float64).reshape(-1)[:1]
        return F.cross_entropy(module(batch[0] * (1 + matters * fell)), batch[1], reduction="none")

    familiar.forget()  # the other coins, of the same calls
    net, batch = made()
    if matters and engine == "vmap":
        with pytest.raises(EngineRefusal, match="random numbers"):
            gradient_gram(net, batch, loss_fn=loss, engine="vmap")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gram = gradient_gram(net, batch, loss_fn=loss, engine=engine)
        close(gram, gradient_gram(net, batch, loss_fn=loss, engine="loop"), 1e-9)
    assert bool(gram.plan and gram.plan.fallbacks) == matters


RISING: dict[str, Callable[[float], Any]] = {
    "python": lambda chance: random.random() < chance,
    "numpy": lambda chance: np.random.choice(2, p=[1 - chance, chance]),  # noqa: NPY002
    "torch": lambda chance: torch.rand(()) < chance,
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("coin", RISING)
def test_coins_that_play_no_part_at_first(coin: str, seed: int) -> None:
    """As stochastic depth, or an augmentation, that begins after an epoch."""
    familiar.forget()
    net, batch = made()
    for turn, chance in enumerate([0.0, 0.0, *[0.03] * 6]):

        def loss(module: nn.Module, batch: Batch, chance: float = chance) -> Tensor:
            x = batch[0].flip(1) if RISING[coin](chance) else 1 * batch[0]
            return F.cross_entropy(module(x), batch[1], reduction="none")

        torch.manual_seed(100 * seed + turn)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gram = gradient_gram(net, batch, loss_fn=loss)
            close(gram, gradient_gram(net, batch, loss_fn=loss, engine="loop"), 1e-9)
        assert bool(gram.plan.fallbacks) == bool(chance or coin == "torch")  # of which an if asks, torch's


@pytest.mark.parametrize("seed", range(4))
def test_coins_of_each_example_that_fall_one_way_next_to_always(seed: int) -> None:
    """As an augmentation of one example in a hundred."""

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        x = torch.where(torch.rand(len(batch[0]), 1) < 0.01, batch[0].flip(1), batch[0])
        return F.cross_entropy(module(x), batch[1], reduction="none")

    net, batch = made()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gram = gradient_gram(net, batch, loss_fn=loss)
    assert set(gram.plan.fallbacks.values()) == {"its loss draws random numbers"}


HIDDEN = [torch.Generator()]
"""Where no module and no loss function holds it."""


def test_a_generator_of_its_own() -> None:
    """One that is held nowhere can't be put back: an example differentiated twice is an error."""
    net, batch = made()
    HIDDEN[0].manual_seed(0)

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        signs = torch.randint(0, 2, (len(batch[1]),), generator=HIDDEN[0]) * 2 - 1
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none") * signs

    is_of_one_draw(gradient_gram(net, batch, loss_fn=loss, engine="loop"), cross=False)
    with pytest.raises(ValueError, match="another gradient each time"):
        gradient_gram(net, batch, loss_fn=loss, engine="loop", memory_budget=16 * 83 * 3)


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("budget", [None, 16 * 83 * 3])
def test_a_generator_that_a_loss_holds(engine: str, budget: int | None) -> None:
    """It is put back after each loss, so that every example draws what it draws first."""
    net, batch = made()
    generator = torch.Generator().manual_seed(0)

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        weights = torch.rand(len(batch[1]), generator=generator)
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none") * weights

    weight = float(torch.rand(1, generator=torch.Generator().manual_seed(0)))
    plain = gradient_gram(
        net, batch, loss_fn=lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none"), engine="loop"
    )
    budget = budget if engine == "loop" else None
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = gradient_gram(net, batch, loss_fn=loss, engine=engine, memory_budget=budget)
        torch.testing.assert_close(found.values, weight**2 * plain.values)


def kept_from_seeds(how: str) -> Callable[..., Tensor]:
    """Leaves out few inputs, by numbers that no seed before the loss changes."""

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        own = torch.Generator().manual_seed(2)
        with torch.random.fork_rng(devices=[], enabled=how == "put back"):
            if how != "a generator":
                torch.manual_seed(2)
            if how == "in place":
                kept = torch.empty(len(batch[0]), 1, dtype=torch.float64).bernoulli_(0.95)
            elif how == "dropout":
                kept = F.dropout(torch.ones(len(batch[0]), 1, dtype=torch.float64), 0.05, training=True)
            else:
                kept = (
                    torch.rand(len(batch[0]), 1, generator=own if how == "a generator" else None) > 0.05
                ).double()
        unused = torch.rand(1) if how == "a generator" and batch[1].sum() < 0 else 0
        return F.cross_entropy(module(batch[0] * kept), batch[1], reduction="none") + unused

    return loss


@pytest.mark.parametrize("how", ["seeded", "put back", "a generator", "in place", "dropout"])
def test_numbers_that_no_seed_changes(how: str) -> None:
    """A batch draws others than its examples, and always the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = torch.randn(100, 6, dtype=torch.float64), torch.arange(100) % 3
    with pytest.warns(UserWarning, match="draws random numbers"):
        found = gradient_gram(net, batch, loss_fn=kept_from_seeds(how))
    close(found, gradient_gram(net, batch, loss_fn=kept_from_seeds(how), engine="loop"), 1e-9)


def test_numbers_that_all_examples_share() -> None:
    """Drawn by a generator of its own, as a projection: the same alone. So is dropout that drops nothing."""
    net, batch = made()

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        mixed = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        hidden = F.dropout(batch[0] @ mixed, 0.5, training=False)
        return F.cross_entropy(module(F.dropout(hidden, 0.0, training=True)), batch[1], reduction="none")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not gradient_gram(net, batch, loss_fn=loss).plan.fallbacks


def test_class_sums() -> None:
    """Sums of unit gradients, each divided by the length that it has with its own draw."""
    net = nn.Linear(6, 1, bias=False).double()
    x = torch.ones(1, 6, dtype=torch.float64).repeat(40, 1)
    y = torch.zeros(40, dtype=torch.long)

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        return module(batch[0])[:, 0] * (1 + 2e-4 * torch.rand(len(batch[1]), dtype=torch.float64))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = class_gradient_sums(net, [(x, y)], loss_fn=loss, label_fn=lambda b: b[1], num_classes=1)
    assert (sums.sums - 40 / 6**0.5).abs().max() < 1e-9


def test_class_sums_of_several_batches() -> None:
    """Examples of one batch have other noise than those of the next."""
    net, (x, _) = made()
    batches = [(x[:1].repeat(3, 1), torch.full((3,), label)) for label in (0, 1)]
    before = states()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = class_gradient_sums(
            net,
            batches,
            loss_fn=lambda m, b: logits(m, (b[0], 0 * b[1])),
            label_fn=lambda b: b[1],
            num_classes=2,
        )
    assert states() == before
    one, two = sums.sums
    assert not torch.allclose(one, two, rtol=1e-3)
