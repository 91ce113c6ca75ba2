"""Batches of every structure and losses of every reduction, on small networks."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import Built, Call, N, case, normal, randomised, tokens


def _network() -> nn.Module:
    return randomised(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))


def _labels() -> Tensor:
    return torch.randint(3, (N,))


@dataclass
class Record:
    """A batch as a dataclass."""

    x: Tensor
    y: Tensor
    source: str = "here"


Pair = namedtuple("Pair", ["x", "y"])


@case(refuses=("vmap",))
def dictionary_batch() -> Built:
    batch = {
        "x": normal(4),
        "y": _labels(),
        "meta": {"weight": torch.rand(N), "name": [f"image {i}" for i in range(N)]},
    }
    return (
        _network(),
        batch,
        lambda m, b: F.cross_entropy(m(b["x"]), b["y"], reduction="none") * b["meta"]["weight"],
    )


@case(dataclass={"kind": Record}, named_tuple={"kind": Pair})
def record_batch(kind: type) -> Built:
    return _network(), kind(normal(4), _labels()), lambda m, b: F.cross_entropy(m(b.x), b.y, reduction="none")


@case()
def shared_tensor_in_the_batch() -> Built:
    """A tensor of length 1 belongs to all examples."""
    return _network(), (normal(4), torch.rand(1, 4)), lambda m, b: m(b[0] * b[1]).square().sum(1)


@case(scale_free=True)
def mean_loss() -> Built:
    return _network(), (normal(4), _labels()), lambda m, b: F.cross_entropy(m(b[0]), b[1])


@case()
def sum_loss() -> Built:
    return _network(), (normal(4), _labels()), lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="sum")


@case(mean={"reduction": "mean"}, none={"reduction": "none"}, scale_free=True)
def class_weighted(reduction: str) -> Built:
    """The weighted mean divides by the batch's weights: a positive factor, other for one example alone."""
    weight = torch.tensor([0.2, 1.0, 3.0])
    return (
        _network(),
        (normal(4), _labels()),
        lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=weight, reduction=reduction),
    )


@case(mean={"reduction": "mean"}, none={"reduction": "none"}, scale_free=True)
def label_smoothed(reduction: str) -> Built:
    return (
        _network(),
        (normal(4), _labels()),
        lambda m, b: F.cross_entropy(m(b[0]), b[1], label_smoothing=0.2, reduction=reduction),
    )


def _tagger() -> nn.Module:
    return randomised(nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6)))


def _ragged(length: int) -> Tensor:
    """Token targets with -100 past lengths that differ from example to example."""
    return tokens(length, 6).masked_fill(torch.arange(length) >= torch.tensor([5, 1, 3, 2, 5, 4, 1])[:, None], -100)


@case(scale_free=True)
def token_weighted_mean() -> Built:
    """The mean over all tokens of the batch that count."""
    return (
        _tagger(),
        (tokens(5, 6), _ragged(5)),
        lambda m, b: F.cross_entropy(m(b[0]).flatten(0, 1), b[1].flatten(), ignore_index=-100),
    )


@case()
def masked_sum_of_tokens() -> Built:
    return (
        _tagger(),
        (tokens(5, 6), _ragged(5)),
        lambda m, b: F.cross_entropy(m(b[0]).mT, b[1], reduction="none").sum(1),
    )


@case()
def one_position_of_each() -> Built:
    """The loss looks at the last token that counts, another one in each example."""

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, last = batch
        return F.cross_entropy(module(ids)[torch.arange(len(ids)), last], ids[:, 0], reduction="none")

    return _tagger(), (tokens(5, 6), torch.tensor([4, 0, 2, 1, 4, 3, 0])), loss


@case()
def sequence_first_inside() -> Built:
    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return module(batch.transpose(0, 1)).square().sum((0, 2))

    return _network(), normal(5, 4), loss


@case()
def batch_axis_last_inside() -> Built:
    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        moved = batch.permute(1, 2, 0)  # [T, d, n]
        return (module.w @ moved + module.b[:, None]).tanh().square().sum((0, 1))

    return Call(lambda m, x: x, w=(3, 4), b=(3,)), normal(5, 4), loss


@case()
def binary_loss() -> Built:
    module = randomised(nn.Linear(4, 1))
    target = (torch.rand(N) > 0.5).to(torch.get_default_dtype())
    return (
        module,
        (normal(4), target),
        lambda m, b: F.binary_cross_entropy_with_logits(m(b[0])[:, 0], b[1], reduction="none"),
    )


@case()
def loss_with_parameters() -> Built:
    """Two tasks weighed by learned variances: parameters that only the loss knows."""

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        errors = torch.stack([module.net(batch[0]).square().sum(1), (module.net(batch[0]) - 1).abs().sum(1)], 1)
        return (errors * (-module.log_variance).exp() + module.log_variance).sum(1)

    return Call(lambda m, x: x, net=_network(), log_variance=(2,)), (normal(4), _labels()), loss


@case()
def penalty_for_each_example() -> Built:
    """A penalty on the weights in every example's loss: part of the gradient knows no data."""

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return module(batch).square().sum(1) + 0.1 * sum(p.square().sum() for p in module.parameters())

    return _network(), normal(4), loss


@case()
def gradient_through_two_losses() -> Built:
    """Knowledge distillation: a frozen teacher inside the module."""
    teacher = _network().requires_grad_(False)

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = module.student(batch[0])
        goal = module.teacher(batch[0]).softmax(-1)
        return F.cross_entropy(logits, batch[1], reduction="none") + F.kl_div(
            logits.log_softmax(-1), goal, reduction="none"
        ).sum(1)

    return Call(lambda m, x: x, student=_network(), teacher=teacher), (normal(4), _labels()), loss


@case(dtype=torch.float32, tolerance=1e-5)
def tiny_gradients() -> Built:
    """Gradients near 1e-22 in float32: their products are below the smallest float32."""
    return _network(), normal(4), lambda m, x: 1e-22 * m(x).square().sum(1)


@case(dtype=torch.float32, tolerance=1e-5)
def gradients_of_all_sizes() -> Built:
    scale = torch.logspace(-24, 10, N, dtype=torch.float32)
    return _network(), (normal(4), scale), lambda m, b: b[1] * m(b[0]).square().sum(1)


@case()
def example_without_gradient() -> Built:
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 2.0])
    return _network(), (normal(4), weight), lambda m, b: b[1] * m(b[0]).square().sum(1)


@case(nan={"value": float("nan")}, inf={"value": float("inf")})
def example_not_finite(value: float) -> Built:
    x = normal(4)
    x[4, 1] = value
    return _network(), x, lambda m, x: m(x).square().sum(1)


@case()
def token_not_finite() -> Built:
    """The NaN stays in one example of a network with convolutions and norms."""
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    x = normal(2, 6)
    x[2, 0, 3] = float("nan")
    return randomised(net), x, lambda m, x: m(x).square().sum(1)


@case()
def loss_of_one_column() -> Built:
    """Losses ``[n, 1]`` are not ``[n]``: summed, they are still the examples' losses."""
    return _network(), normal(4), lambda m, x: m(x).square().sum(1).reshape(-1)
