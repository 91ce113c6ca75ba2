"""Examples that affect each other, of which most show nothing: what they do is followed, or all are looked at."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import GradientGram, familiar, gradient_gram, parted
from lightning_stiffness.gram.apart import pieces_of
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.coupling import COUPLED as AFFECTED
from lightning_stiffness.gram.coupling import Coupling
from lightning_stiffness.gram.measurement import WEIGHTED
from tests.gram.test_scales import off

N, STEPS = 40, 6
Batch = tuple[Tensor, Tensor, Tensor]
Middle = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    """A layer for each step, something in the middle that is told an integer of each example, and a layer."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.middle = nn.Linear(5, 8), nn.Linear(8, 3), middle

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        hidden = self.middle(self.first(x).tanh(), count)
        return self.last(hidden.mean(1) if hidden.ndim > 2 else hidden)


def each(module: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(module(batch[0], batch[1]), batch[2], reduction="none")


def mean(module: nn.Module, batch: Batch) -> Tensor:
    return each(module, batch).mean()


def data(odd: int = 17, n: int = N) -> Batch:
    """All examples have six steps, but one has three."""
    torch.manual_seed(1)
    count = torch.full((n,), STEPS).index_fill(0, torch.tensor([odd]), 3)
    x = torch.randn(n, STEPS, 5).double() * (torch.arange(STEPS) < count[:, None])[..., None]
    return x, count, torch.arange(n) % 3


def same(hidden: Tensor, count: Tensor) -> Tensor:
    """Each becomes the mean of those that are alike, most of which are by themselves."""
    kinds = torch.arange(len(count)).clamp(max=len(count) - 2) if len(count) > 1 else count * 0
    alike = (kinds[:, None] == kinds[None]).to(hidden)
    return alike @ hidden.mean(1) / alike.sum(1, keepdim=True)


def far_from_the_mean(hidden: Tensor, count: Tensor) -> Tensor:
    flat = hidden.mean(1)
    size = flat.detach().square().sum(1)
    return flat * torch.where(size > 3 * size.mean(), 0.1, 1.0)[:, None]


def beyond_capacity(hidden: Tensor, count: Tensor) -> Tensor:
    flat = hidden.mean(1)
    chosen = F.one_hot(flat.detach()[:, :2].argmax(1), 2)
    kept = (chosen * chosen.cumsum(0)).sum(1) <= max(1, len(flat) - 15)
    return flat * kept[:, None]


def by_kind(hidden: Tensor, count: Tensor) -> Tensor:
    """Each with what those of its kind are on average."""
    sums = torch.zeros(7, 8, dtype=hidden.dtype).index_add(0, count, hidden.mean(1))
    return hidden.mean(1) + (sums / count.bincount(minlength=7).clamp(min=1)[:, None])[count]


def sorted_by_product(hidden: Tensor, count: Tensor) -> Tensor:
    _, place = torch.unique(count, return_inverse=True)
    kinds = F.one_hot(place, 2).to(hidden)
    return hidden.mean(1) + kinds @ torch.stack([hidden[:, 0].mean(0), hidden[:, 1].mean(0)])


def cut(hidden: Tensor, count: Tensor) -> Tensor:
    return hidden[:, : int(count.max())]


def divided(hidden: Tensor, count: Tensor) -> Tensor:
    return hidden.sum(1) / count.max()


def early(hidden: Tensor, count: Tensor) -> Tensor:
    flat = hidden.mean(1)
    return flat if bool((count > 4).all()) else flat.square()


COUPLED = [same, far_from_the_mean, beyond_capacity, by_kind, sorted_by_product, cut, divided, early]


def right(found: GradientGram, expected: GradientGram) -> bool:
    if WEIGHTED not in found.plan.notes:
        return off(found, expected) < 1e-9
    cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, expected)]
    return bool((cosines[0] - cosines[1]).abs().max() < 1e-9)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("odd", [3, 17, 30])
@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("middle", COUPLED)
def test_few_are_affected(middle: Middle, loss_fn: Any, odd: int) -> None:
    module, batch = Net(middle).double(), data(odd)
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")
    for _ in range(3):
        found = gradient_gram(module, batch, loss_fn=loss_fn)
        assert found.plan.fallbacks
        assert off(found, expected) < 1e-9


def logged(hidden: Tensor, count: Tensor) -> Tensor:
    hidden.detach().mean()
    return hidden


def along_steps(hidden: Tensor, count: Tensor) -> Tensor:
    return hidden.cumsum(1).sort(dim=-1)[0] + hidden.argsort(1)


def asked(hidden: Tensor, count: Tensor) -> Tensor:
    return hidden if bool((count > 0).all()) else hidden.square()


@pytest.mark.parametrize("loss_fn", [each, mean])
@pytest.mark.parametrize("middle", [logged, along_steps, asked])
def test_none_is_affected(middle: Middle, loss_fn: Any) -> None:
    module, batch = Net(middle).double(), data()
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")
    for _ in range(3):
        found = gradient_gram(module, batch, loss_fn=loss_fn)
        assert not found.plan.fallbacks
        assert off(found, expected) < 1e-9


def far_ones(losses: Tensor) -> Tensor:
    return torch.nonzero(losses > losses.mean() + 3 * losses.std(correction=0)).squeeze(1)


def filled(losses: Tensor, count: Tensor) -> Tensor:
    return losses * torch.ones_like(losses).index_fill(0, far_ones(losses), 0.1)


def written(losses: Tensor, count: Tensor) -> Tensor:
    weights = torch.ones_like(losses)
    weights[far_ones(losses)] = 0.1
    return losses * weights


def stopped(losses: Tensor, count: Tensor) -> Tensor:
    out, far = losses.clone(), far_ones(losses)
    out[far] = losses[far].detach()
    return out


def sorted_and_back(losses: Tensor, count: Tensor) -> Tensor:
    order = count.argsort(stable=True)
    return losses[order][order.argsort()]


def of_a_kind(losses: Tensor, count: Tensor) -> Tensor:
    return losses.index_fill(0, torch.nonzero(count < 0).squeeze(1), 0.0)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("weigh", [filled, written, stopped, sorted_and_back, of_a_kind])
def test_places_that_all_examples_decide(weigh: Middle) -> None:
    """Also while they are those of none: places by the data alone, as by a sort, tell of no other's loss."""
    familiar.forget()
    module, batch = Net(logged).double(), data()
    found = gradient_gram(module, batch, loss_fn=lambda m, b: weigh(each(m, b), b[1]))
    assert (AFFECTED in found.plan.fallbacks.values()) == (weigh in (filled, written, stopped))


def test_what_is_written_to() -> None:
    """A number of all that is written for each is something of all for each; where it is read again, too."""
    one, many = torch.zeros(1), torch.zeros(4)
    coupling, total = Coupling(4), many.sum()
    coupling.see(Call(torch.sum, (one,), {}, one.sum()), torch.sum, [many], total, mixing=True)
    assert not coupling.holds(many)
    write = Call(Tensor.__setitem__, (one, slice(None), one.sum()), {}, None)
    coupling.see(write, Tensor.__setitem__, [many, total], None, mixing=False)
    assert coupling.holds(many)
    labels = torch.zeros(4, dtype=torch.int64)  # which count as places
    coupling.see(Call(Tensor.mul_, (one, one.sum()), {}, one), Tensor.mul_, [labels, many], labels, mixing=False)
    assert coupling.holds(labels)


def weighed(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * (weights / weights.sum())).sum()


def added_up(losses: Tensor, weights: Tensor) -> Tensor:
    total = losses.new_zeros(())
    total += losses.mean()
    total.mul_(2).clamp_(min=0.0)
    return total


def one_by_one(losses: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([one * 1.0 for one in losses]).mean()


def over_weights(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize("reduce", [weighed, added_up, one_by_one, over_weights])
def test_numbers_of_all_that_are_the_loss(reduce: Middle) -> None:
    """A mean by whatever way is made of all examples, and gives none of them something of the others."""
    module, batch = Net(logged).double(), data()

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        return reduce(each(module, batch), batch[1].double())

    found = gradient_gram(module, batch, loss_fn=loss)
    assert not found.plan.fallbacks
    assert right(found, gradient_gram(module, batch, loss_fn=loss, engine="loop"))


def test_later_the_losses_of_a_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all are sure may change with the weights, and is given to Python."""
    looked = []
    look = parted.most_apart
    monkeypatch.setattr(parted, "most_apart", lambda *given: looked.append(given[3]) or look(*given))
    module, batch = Net(asked).double(), data()
    for _ in range(4):
        assert not gradient_gram(module, batch, loss_fn=each).plan.fallbacks
    assert [len(parts) for parts in looked] == [N, *[parted.FEW + len(pieces_of(N, 0))] * 3]
    few = [part for parts in looked[1:] for part in parts[: parted.FEW]]
    assert all(part.stop == part.start + 1 for part in [*looked[0], *few])
    for parts in looked[1:]:  # and all of them among few others
        assert sorted(place for part in parts[parted.FEW :] for place in range(N)[part]) == [*range(N)]
    places = {part.start for part in few}
    assert len(places) > 2 * parted.FEW  # others each time


class Packed(nn.Module):
    """The second layer takes the steps of all examples that count, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        return self.last(self.first(x).tanh()[torch.arange(STEPS) < count[:, None]])


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("place", [4, 20, 33])
def test_as_many_steps_as_if_each_had_as_many_as_the_first(place: int) -> None:
    count = torch.full((N,), 4)
    count[place], count[place + 1] = 3, 5
    x, labels = torch.randn(N, STEPS, 5).double(), torch.randint(0, 3, (N, STEPS))

    def loss(module: nn.Module, batch: Any) -> Tensor:
        mask = torch.arange(STEPS) < batch[1][:, None]
        return F.cross_entropy(module(batch[0], batch[1]), batch[2][mask], reduction="sum") / len(mask)

    module = Packed().double()
    expected = gradient_gram(module, (x, count, labels), loss_fn=loss, engine="loop")
    for _ in range(3):
        familiar.forget()
        found = gradient_gram(module, (x, count, labels), loss_fn=loss)
        assert "last.weight" in found.plan.fallbacks
        assert off(found, expected) < 1e-9


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("seed", range(6))
def test_a_coin_for_the_whole_batch(seed: int) -> None:
    """It falls one way nine times of ten, and each example is to have one of its own."""

    def dropped(hidden: Tensor, count: Tensor) -> Tensor:
        return hidden if torch.rand(()) < 0.9 else hidden.square()

    module, batch = Net(dropped).double(), data(odd=3, n=12)
    torch.manual_seed(seed)
    found = gradient_gram(module, batch, loss_fn=each)
    torch.manual_seed(seed)
    assert off(found, gradient_gram(module, batch, loss_fn=each, engine="loop")) < 1e-9
    assert found.plan.fallbacks
