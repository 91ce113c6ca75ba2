"""Small modules on which tools that watch layers go wrong: parameters outside layers, shared, moved, frozen."""

from collections.abc import Callable

import torch
from _zoo import Network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.mid, self.head = nn.Embedding(10, 6), nn.Linear(6, 6), nn.Linear(6, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mid(self.words(ids)))).mean(1)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class _Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(6, 6), nn.Linear(6, 10)
        self.places = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.enter(x) + self.places).mean(1))


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(x, self.weight)))


class _InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.active, self.head = (
            nn.Linear(6, 6),
            nn.Linear(6, 6),
            nn.ReLU(True),
            nn.Linear(6, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.active(self.one(x))
        out = self.two(hidden)
        out += hidden
        return self.head(out)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.GRU(6, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[0][:, -1])


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.one(x))
        return self.head(checkpoint(lambda h: torch.tanh(self.two(h)), hidden, use_reentrant=False))


class _SequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.head(self.attention(x, x, x)[0].mean(0))


def _small_images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 10))


def _transposed() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 64, 10))


def _normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 10))


def _half_frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 10))
    net[0].weight.requires_grad_(False)
    return net


TRAPS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "tied embedding and head": (_Tied, lambda n: torch.randint(10, (n, 4))),
    "a layer called twice": (_Twice, lambda n: torch.randn(n, 6)),
    "position parameter": (_Positions, lambda n: torch.randn(n, 4, 6)),
    "F.linear with a parameter": (_Functional, lambda n: torch.randn(n, 6)),
    "weight_norm": (
        lambda: nn.Sequential(weight_norm(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 10)),
        lambda n: torch.randn(n, 6),
    ),
    "BatchNorm in eval": (_normed, lambda n: torch.randn(n, 6)),
    "grouped convolution": (_small_images, lambda n: torch.randn(n, 4, 4, 4)),
    "transposed convolution": (_transposed, lambda n: torch.randn(n, 4, 4, 4)),
    "attention, sequence first": (_SequenceFirst, lambda n: torch.randn(n, 4, 6)),
    "in-place ReLU and +=": (_InPlace, lambda n: torch.randn(n, 6)),
    "weight frozen, bias not": (_half_frozen, lambda n: torch.randn(n, 6)),
    "GRU": (_Recurrent, lambda n: torch.randn(n, 4, 6)),
    "activation checkpointing": (_Checkpointed, lambda n: torch.randn(n, 6)),
}
"""Small modules, each with its inputs for ``n`` examples."""


def trap(name: str, n: int = 6) -> Network:
    """One of :data:`TRAPS`."""
    torch.manual_seed(0)
    module, inputs = TRAPS[name]
    return Network(module().eval(), inputs(n), torch.randint(10, (n,)))
