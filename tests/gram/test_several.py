"""Losses put together of several means, each over those examples that have its part."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.familiar import forget

PLACES = {"apart": [10, 30, 50], "together": [37, 50, 59]}
"""Which example of 60 lacks the first target, the second, and the third: as many each, so that all others have one
factor."""


def means(e: Tensor, k: Tensor) -> list[Tensor]:
    """Of the first target, and of the two others together: an example without one of these has a mean of one."""
    e = e.square() * k
    return [e[:, :1].sum() / k[:, :1].sum().clamp(min=1), e[:, 1:].sum() / k[:, 1:].sum().clamp(min=1)]


def two_terms(e: Tensor, k: Tensor) -> Tensor:
    first = (e[:, 0].abs() * k[:, 0]).sum() / k[:, 0].sum().clamp(min=1)
    return first + e[:, 1:][k[:, 1:]].square().mean()


def loop(e: Tensor, k: Tensor) -> Tensor:
    total = e.new_zeros(())
    for one in means(e, k):
        total += one
    return total


def written(e: Tensor, k: Tensor) -> Tensor:
    each = torch.zeros(2, dtype=e.dtype)
    for place, one in enumerate(means(e, k)):
        each[place] = one
    return each.mean()


def stacked(e: Tensor, k: Tensor) -> Tensor:
    return torch.stack(means(e, k)).mean()


def bins(e: Tensor, k: Tensor) -> Tensor:
    kind = torch.tensor([0, 1, 1]).expand(len(e), 3).reshape(-1)
    sums, counts = (e.new_zeros(2).index_add(0, kind, x.reshape(-1)) for x in (e.square() * k, k.to(e)))
    return (sums / counts.clamp(min=1)).sum()


def labels(e: Tensor, k: Tensor) -> Tensor:
    """A label for each example, and one for each of two tokens, some to be ignored."""
    label = torch.where(k, torch.arange(3), -100)
    tokens = torch.stack([e, -e.roll(1, 1)], dim=1).reshape(-1, 3)
    of_tokens = F.cross_entropy(tokens, label[:, 1:].reshape(-1))
    return F.cross_entropy(e, label[:, 0]).nan_to_num() + of_tokens


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    one.__name__: one for one in (two_terms, loop, written, stacked, bins, labels)
}


def setting(places: list[int], dtype: torch.dtype) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    known = torch.ones(60, 3, dtype=torch.bool)
    known[places, torch.arange(3)] = False
    return module, (torch.randn(60, 4, dtype=dtype), torch.randn(60, 3, dtype=dtype), known)


def loss_of(name: str) -> Callable[[nn.Module, Any], Tensor]:
    return lambda module, batch: LOSSES[name](module(batch[0]) - batch[1], batch[2])


def cosines(gram: Any) -> Tensor:
    return gram.values / (gram.norms[:, None] * gram.other_norms[None])


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parameters", [None, ["2.bias"]])
@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", LOSSES)
def test_means_over_those_that_have_a_target(
    name: str, places: str, parameters: list[str] | None, dtype: torch.dtype
) -> None:
    """An example without one of its targets has another direction alone, whatever its factor: all others agree."""
    module, batch = setting(PLACES[places], dtype)
    forget()
    for block in (None, tuple(one[:45] for one in batch)):
        grams = [
            gradient_gram(module, batch, other=block, loss_fn=loss_of(name), parameters=parameters, engine=engine)
            for engine in ("auto", "loop")
        ]
        limit = 1e-9 if dtype == torch.float64 else 1e-4
        assert float((cosines(grams[0]) - cosines(grams[1])).abs().max()) < limit


def of_one_mask(module: nn.Module, batch: Any) -> Tensor:
    """Two means over the same examples: a weighted mean of theirs, though of two parts."""
    out, known = module(batch[0]), batch[2][:, 0]
    return ((out - batch[1]).square().mean(1) * known).sum() / known.sum().clamp(min=1) + 0.1 * (
        out.logsumexp(1).square() * known
    ).sum() / known.sum().clamp(min=1)


def test_means_over_the_same_examples_stay_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example is taken alone once; later measurements of the same examples have few passes of their own."""
    module, batch = setting(PLACES["apart"], torch.float64)
    forget()
    counts = []
    for _ in range(3):
        derivative = mock.Mock(wraps=torch.autograd.grad)
        monkeypatch.setattr(torch.autograd, "grad", derivative)
        gram = gradient_gram(module, batch, loss_fn=of_one_mask)
        monkeypatch.undo()
        counts.append(derivative.call_count)
        assert gram.engine == "layerwise"
        slow = gradient_gram(module, batch, loss_fn=of_one_mask, engine="loop")
        known = batch[2][:, 0]
        assert float((cosines(gram) - cosines(slow))[known][:, known].abs().max()) < 1e-9
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    assert counts[0] > 60 > 20 > max(counts[1:])


def pseudo_labels(module: nn.Module, batch: Any) -> Tensor:
    """Of those of whose class the module is sure, beside a mean over those with a label."""
    out = module(batch[0])
    sure, guess = out.detach().softmax(1).max(1)
    chosen = (sure > 0.9).to(out)
    label = torch.where(batch[2].all(1), batch[1].argmax(1), -100)
    other = F.cross_entropy(out.roll(1, 1), guess, reduction="none")
    return F.cross_entropy(out, label) + (other * chosen).sum() / chosen.sum().clamp(min=1)


def weighed(module: nn.Module, batch: Any) -> Tensor:
    """The same beside a mean with weights."""
    out, weight = module(batch[0]), batch[1][:, 0].exp()
    sure, guess = out.detach().softmax(1).max(1)
    labels, others = batch[1].argmax(1), F.cross_entropy(out.roll(1, 1), guess, reduction="none")
    mean = (F.cross_entropy(out, labels, reduction="none") * weight).sum() / weight.sum()
    return mean + (others * (sure > 0.9)).mean()


def of_teacher(module: nn.Module, batch: Any) -> Tensor:
    """Chosen by a module that is not trained, and follows."""
    with torch.no_grad():
        sure, guess = module.teacher(batch[0]).softmax(1).max(1)  # type: ignore[operator]
    out, weight = module(batch[0]), batch[1][:, 0].exp()
    labels, others = batch[1].argmax(1), F.cross_entropy(out.roll(1, 1), guess, reduction="none")
    mean = (F.cross_entropy(out, labels, reduction="none") * weight).sum() / weight.sum()
    return mean + (others * (sure > 0.9)).mean()


class Taught(nn.Sequential):
    """With a teacher that is no part of the trained module."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        self.teacher: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self)[:3]:
            x = layer(x)
        return x


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", [pseudo_labels, weighed, of_teacher])
def test_parts_that_come_with_training(loss: Callable[[nn.Module, Any], Tensor]) -> None:
    """Of none at first, later of the few of which the module is sure."""
    for seed in range(6):
        forget()
        torch.manual_seed(seed)
        module, batch = Taught().double(), setting(PLACES["apart"], torch.float64)[1]
        module.teacher = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).double().requires_grad_(False)
        names = ["[0-2].*"]
        for _ in range(14):
            grams = [
                gradient_gram(module, batch, loss_fn=loss, parameters=names, engine=engine)
                for engine in ("auto", "loop")
            ]
            assert torch.equal(grams[0].norms > 0, grams[1].norms > 0)
            has = grams[1].norms > 0  # a gradient: not one without a label
            assert float((cosines(grams[0]) - cosines(grams[1]))[has][:, has].abs().max()) < 1e-9
            with torch.no_grad():
                module[2].weight *= 1.17
                module.teacher[2].weight *= 1.17
