"""Modules and losses in which the examples of a batch change each other: never a wrong number."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import Built, Call, case, normal, randomised


def _loss(module: nn.Module, x: Tensor) -> Tensor:
    return module(x).square().flatten(1).sum(1)


@case(couples=True)
def batch_statistics_by_hand() -> Built:
    """Hidden coupling: mean and deviation over the batch, whatever the mode."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.a(x)
        hidden = (hidden - hidden.mean((0, 1))) / (hidden.std((0, 1)) + 0.1)
        return torch.tanh(m.b(hidden))

    return randomised(Call(forward, a=nn.Linear(4, 3), b=nn.Linear(3, 2))), normal(5, 4), _loss


@case(couples=True)
def batch_norm_without_running_statistics() -> Built:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return (
        randomised(nn.Sequential(nn.Conv2d(2, 3, 3), norm, nn.ReLU(), nn.Conv2d(3, 2, 3))),
        normal(2, 6, 6),
        _loss,
    )


@case(couples=True, refuses=("vmap",))
def batch_norm_forced_into_training() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return F.batch_norm(
            m.a(x), m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, training=True
        )

    return randomised(Call(forward, a=nn.Conv1d(2, 3, 3), norm=nn.BatchNorm1d(3))), normal(2, 6), _loss


@case(couples=True)
def contrastive() -> Built:
    """InfoNCE: every other example is a negative; one example alone has no loss."""

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        one, two = (F.normalize(module(view)) for view in batch)
        return F.cross_entropy(one @ two.T, torch.arange(len(one), device=one.device), reduction="none")

    return randomised(nn.Linear(4, 3)), (normal(4), normal(4)), loss


@case(couples=True)
def attention_over_the_batch() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.a(x)
        return (hidden @ hidden.T).softmax(-1) @ m.b(x)

    return randomised(Call(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 2))), normal(4), _loss


@case(couples=True)
def neighbour_of_the_batch() -> Built:
    """Weak coupling: one example sees a thousandth of the one before it."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.b(torch.tanh(m.a(x)) + 1e-3 * m.a(x).roll(1, 0))

    return randomised(Call(forward, a=nn.Linear(4, 3), b=nn.Linear(3, 2))), normal(4), _loss


@case(couples=True)
def load_balancing_loss() -> Built:
    """The auxiliary loss of routed experts is a product of two batch means."""

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        gate = module.router(batch).softmax(-1)
        balance = (gate.mean((0, 1)) * F.one_hot(gate.argmax(-1), 3).to(gate).mean((0, 1))).sum()
        return module.layer(batch * gate[..., :1]).square().sum((1, 2)) + balance

    return randomised(Call(lambda m, x: x, router=nn.Linear(4, 3), layer=nn.Linear(4, 2))), normal(5, 4), loss
