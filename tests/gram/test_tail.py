"""Losses that are one number: whether each example counts in a batch with the sign that it has alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import familiar, gradient_gram
from lightning_stiffness.gram.measurement import WEIGHTED
from tests.gram.test_alone import N, data, each, net
from tests.gram.test_rowwise import assert_same_angles
from tests.gram.test_scales import off


class Several(nn.Module):
    """With parameters that some losses use."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()
        self.scale = nn.Parameter(torch.tensor(-0.3, dtype=torch.float64))
        self.register_buffer("rate", torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[:] + 0 * self.scale  # a slice leaves nothing sure


def batch(seed: int = 0) -> tuple[Tensor, ...]:
    return (*data(seed), torch.rand(N, dtype=torch.float64) + 0.1, torch.randn(N, dtype=torch.float64))


def masked(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def logged(module: nn.Module, b: Any) -> Tensor:
    losses = each(module, b)
    ratio = (losses.mean() - 1).abs() / losses.mean()  # of which the loss knows nothing
    assert ratio.requires_grad
    return losses.mean()


def with_term(module: Any, b: Any, weight: float) -> Tensor:
    scores = module(b[0])
    return F.cross_entropy(scores, b[1]) + weight * (-0.5 * torch.mean(torch.sum(1 + scores - scores.exp(), 1)))


def with_itself(e: Tensor) -> Tensor:
    return e @ e / len(e)


def in_a_list(number: Tensor) -> Tensor:
    numbers = torch.zeros(2, dtype=number.dtype)
    numbers[0] = number
    return numbers.sum()


def one_by_one(scores: Tensor, labels: Tensor) -> Tensor:
    losses = (F.cross_entropy(scores[i][None], labels[i][None]) for i in range(len(scores)))
    return sum(losses, start=torch.zeros(())) / len(scores)


@torch.jit.script
def mean_by_script(losses: Tensor) -> Tensor:
    return losses.mean()


AS_ALONE: dict[str, Any] = {
    "mean": lambda m, b: each(m, b).mean(),
    "sum over their number": lambda m, b: each(m, b).sum() / len(b[0]),
    "over a number": lambda m, b: -(-each(m, b)).mean() * 0.5 / 3,
    "root": lambda m, b: F.mse_loss(m(b[0]), b[0][:, :3]).sqrt() + 1e-3,
    "mask": lambda m, b: masked(each(m, b), (b[1] >= 0).double()),
    "mask of truth values": lambda m, b: (each(m, b) * (b[1] >= 0)).sum() / (b[1] >= 0).sum(),
    "positive weights": lambda m, b: (each(m, b) * b[2]).sum() / b[2].sum(),
    "ignored labels": lambda m, b: F.cross_entropy(m(b[0]), b[1], ignore_index=1),
    "two terms": lambda m, b: with_term(m, b, 0.1),
    "stacked": lambda m, b: torch.stack([each(m, b).mean(), F.mse_loss(m(b[0]), b[0][:, :3])]).sum(),
    "learned factor": lambda m, b: each(m, b).mean() * torch.exp(-m.scale) + m.scale,
    "negative buffer": lambda m, b: -(each(m, b).mean() * m.rate),
    "penalty": lambda m, b: each(m, b).mean() + 1e-2 * sum(p.square().sum() for p in m.parameters()),
    "logged": logged,
    "over axes": lambda m, b: (m(b[0]) - b[0][:, :3]).square().mean(0).sum(),
    "root as a power": lambda m, b: F.mse_loss(m(b[0]), b[0][:, :3]) ** 0.5,
    "squared norm": lambda m, b: (m(b[0]) - b[0][:, :3]).norm().pow(2) / 2,
    "noise ratio": lambda m, b: -10 * torch.log10(1.0 / F.mse_loss(m(b[0]), b[0][:, :3])),
    "relative norm": lambda m, b: (m(b[0]) - b[0][:, :3]).norm() / b[0].norm(),
    "over a spread": lambda m, b: F.mse_loss(m(b[0]), b[0][:, :3]) / b[0].var(),
    "an error by itself": lambda m, b: with_itself(m(b[0])[:, 0] - b[2]),
    "fixed task weights": lambda m, b: (
        torch.stack([each(m, b).mean(), F.mse_loss(m(b[0]), b[0][:, :3])])
        @ torch.tensor([0.3, 0.7], dtype=torch.float64)
    ),
    "a new number": lambda m, b: each(m, b).sum() / b[2].new_tensor(float(len(b[2]))),
    "other names": lambda m, b: torch.divide(
        torch.multiply(torch.subtract(each(m, b).mean().clip(0), -1.0), 3.0), 2.0
    ),
    "written to": lambda m, b: in_a_list(each(m, b).mean()),
    "example by example": lambda m, b: one_by_one(m(b[0]), b[1]),
    "stacked examples": lambda m, b: torch.stack([row.square().mean() for row in m(b[0])]).mean(),
    "with a mask by vmap": lambda m, b: (each(m, b) * torch.vmap(lambda v: v[0] < 9)(b[0])).mean(),
    "by class": lambda m, b: torch.zeros(3, dtype=torch.float64).index_add(0, b[1], each(m, b)).sum() / len(b[1]),
    "a mean by script": lambda m, b: mean_by_script(each(m, b)),
    "largest": lambda m, b: each(m, b).mean().clamp(min=-1e6),
    "no less than zero": lambda m, b: F.relu(each(m, b).mean()).clamp(min=0),
    "if it is a number": lambda m, b: torch.where(torch.isfinite(each(m, b).mean()), each(m, b).mean(), 0.0),
    "none": lambda m, b: each(m, b).mean().nan_to_num(0.0) * torch.isfinite(each(m, b).mean()),
    "if there are any": lambda m, b: torch.where(b[2].sum() > 0, each(m, b).sum() / b[2].sum(), 0.0),
}


@pytest.mark.parametrize("kind", AS_ALONE)
def test_losses_in_which_examples_count_as_they_do_alone(kind: str) -> None:
    module = Several()
    for step in range(3):
        b = batch(step)
        found, expected = (gradient_gram(module, b, loss_fn=AS_ALONE[kind], engine=e) for e in ("auto", "loop"))
        assert "sign" not in str(found.plan.fallbacks)
        assert_same_angles(found, expected)


class Attending(nn.Module):
    """The bias of its keys, the smallest parameter, has a gradient that is nothing but rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.queries, self.values, self.last = (nn.Linear(6, size) for size in (6, 6, 6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.scaled_dot_product_attention(self.queries(x), self.keys(x), self.values(x))[:, :])


def test_gradients_that_are_rounding_say_nothing_of_weights() -> None:
    """Of a mean over the tokens that have a label, in which sentences weigh by their lengths."""
    torch.manual_seed(0)
    module = Attending()
    for _ in range(3):
        labels = torch.randint(0, 8, (N, 5))
        labels[torch.arange(5) > torch.randint(1, 6, (N, 1))] = -100
        found = gradient_gram(
            module,
            (torch.randn(N, 5, 6), labels),
            loss_fn=lambda m, b: F.cross_entropy(m(b[0]).reshape(-1, 8), b[1].reshape(-1)),
        )
        assert not found.plan.fallbacks
        assert WEIGHTED in found.plan.notes


def by_weights_in_place(losses: Tensor, weights: Tensor) -> Tensor:
    weights = weights.abs()
    weights.sub_(0.3)
    weights[: len(weights) // 2].sub_(0.4)
    return (losses * weights).sum() / weights.sum()


def normalised(losses: Tensor) -> Tensor:
    return losses.square().sum() / losses.sum()


@torch.jit.script
def by_softmax(losses: Tensor) -> Tensor:
    return (losses * (losses * losses).softmax(0)).sum()


def where_small(number: Tensor) -> Tensor:
    return torch.where(number > 2.5, number.detach(), number)


AGAINST: dict[str, Any] = {
    "hinge": lambda m, b: F.relu(each(m, b).mean() - 0.9) + 0 * m(b[0]).sum(),
    "capped": lambda m, b: each(m, b).mean().clamp(max=2.5),
    "capped in place": lambda m, b: each(m, b).mean().clamp_(max=2.5),
    "at most a number": lambda m, b: torch.minimum(each(m, b).mean(), b[0].new_tensor(2.5)),
    "the larger of two": lambda m, b: torch.stack([each(m, b).mean(), m(b[0]).square().mean()]).max(),
    "left out by where": lambda m, b: where_small(each(m, b).mean()),
    "left out by a factor": lambda m, b: each(m, b).mean() * (each(m, b).mean() < 2.5),
    "left out by a number": lambda m, b: each(m, b).mean() * (each(m, b).mean().detach() < 2.5).double(),
    "left out by a mask": lambda m, b: each(m, b).mean().masked_fill(each(m, b).mean() > 2.5, 0.0),
    "flooding": lambda m, b: (each(m, b).mean() - 1).abs() + 1,
    "normalised": lambda m, b: normalised(each(m, b)),
    "weights of both signs": lambda m, b: (each(m, b) * b[3]).sum() / b[3].sum(),
    "changed in place": lambda m, b: by_weights_in_place(each(m, b), b[3]),
    "their number in Python": lambda m, b: (each(m, b) * b[3]).sum() / b[3].sum().item(),
    "spread": lambda m, b: each(m, b).mean() + each(m, b).std() if len(b[0]) > 1 else each(m, b).mean(),
    "scripted": lambda m, b: by_softmax(each(m, b)),
    "centred": lambda m, b: (each(m, b) - 0.999 * each(m, b).mean()).square().mean(),
    "a product": lambda m, b: each(m, b).mean() * (m(b[0]).mean()),
    "negative class weights": lambda m, b: F.cross_entropy(
        m(b[0]), b[1], torch.tensor([1.0, -0.4, 0.5], dtype=torch.float64)
    ),
    "its own softmax": lambda m, b: (each(m, b) * (3 * each(m, b)).softmax(0)).sum(),
}


@pytest.mark.parametrize("kind", AGAINST)
@pytest.mark.filterwarnings("ignore")
def test_losses_in_which_an_example_may_count_against_others(kind: str) -> None:
    module = Several()
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for step in range(8):
        b = batch(step // 4)
        found, expected = (gradient_gram(module, b, loss_fn=AGAINST[kind], engine=e) for e in ("auto", "loop"))
        assert off(found, expected) < 1e-9
        assert found.plan.fallbacks
        for _ in range(4):
            optimizer.zero_grad()
            each(module, b).mean().backward()
            optimizer.step()


@torch.jit.script
def weights_of(losses: Tensor) -> Tensor:
    return losses.softmax(0)


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_weights_that_come_to_depend_on_each_other_are_looked_at_now_and_then() -> None:
    """All the same at first, and of which no call tells."""
    familiar.forget()
    module, b = Several(), batch()
    module.rate.fill_(0.0)

    def loss_fn(module: Any, b: Any) -> Tensor:
        losses = each(module, b)
        return (losses * (b[2] * weights_of(module.rate * losses))).sum() / b[2].mean()

    refused = []
    for step in range(18):
        module.rate.fill_(0.0 if step < 5 else 5.0)
        found = gradient_gram(module, b, loss_fn=loss_fn)
        refused.append(bool(found.plan.fallbacks))
    assert not all(refused[:5])
    assert any(refused[5:14])


def chosen(losses: Tensor, labels: Tensor) -> Tensor:
    return losses[labels != 1].mean()


def lost(losses: Tensor, labels: Tensor) -> Tensor:
    return torch.nanmean(losses.masked_fill(labels == 1, torch.nan))


def by_their_number(losses: Tensor, labels: Tensor) -> Tensor:
    return losses[labels != 1].sum() / len(losses[labels != 1])


OVER_SOME = {
    "ignored": lambda scores, y: F.cross_entropy(scores, y, ignore_index=1),
    "weighed": lambda scores, y: F.cross_entropy(scores, y, torch.tensor([1.0, 9.0, 2.0], dtype=torch.float64)),
    "negative log": lambda scores, y: F.nll_loss(scores.log_softmax(1), y, ignore_index=1),
    "chosen": lambda scores, y: chosen(F.cross_entropy(scores, y, reduction="none"), y),
    "lost": lambda scores, y: lost(F.cross_entropy(scores, y, reduction="none"), y),
    "their number": lambda scores, y: by_their_number(F.cross_entropy(scores, y, reduction="none"), y),
}


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", OVER_SOME)
def test_a_mean_over_one_example_is_not_taken_for_a_sum(loss: str) -> None:
    """The example that is taken alone in the other batch does not count there, and those that do have small
    gradients."""
    module, x = Several().double(), data(n=6)[0]
    module.scale.requires_grad_(False)
    rows = x[:3], torch.tensor([1, 1, 2])
    columns = 0.1 * x[3:], torch.tensor([0, 1, 2])

    def loss_fn(module: nn.Module, b: Any) -> Tensor:
        found: Tensor = OVER_SOME[loss](module(b[0]), b[1])
        return found

    for _ in range(3):
        found, expected = (
            gradient_gram(module, rows, columns, loss_fn=loss_fn, engine=e) for e in ("auto", "loop")
        )
        if WEIGHTED in found.plan.notes:
            one, other = (g.values / g.norms[:, None] / g.other_norms for g in (found, expected))
            assert one.isfinite().any()
            assert torch.allclose(one, other, rtol=0, atol=1e-9, equal_nan=True)
        else:
            assert off(found, expected) < 1e-9
