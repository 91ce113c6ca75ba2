"""The networks of the benchmark, written out, with random probes."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Network:
    """A classifier in evaluation mode with a probe of ``n`` examples."""

    module: nn.Module
    x: Tensor
    y: Tensor

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.module.parameters())

    def losses(self) -> Tensor:
        """One loss for each example ``[n]``."""
        return loss_fn(self.module, (self.x, self.y))

    def to(self, device: str) -> "Network":
        """The same on another device."""
        return Network(self.module.to(device), self.x.to(device), self.y.to(device))

    def first(self, k: int) -> "Network":
        """The same module with the first ``k`` examples."""
        return Network(self.module, self.x[:k], self.y[:k])


def loss_fn(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of each example ``[n]``."""
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def fully_connected() -> nn.Module:
    widths = (784, 500, 300, 100, 10)
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in itertools.pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Module:
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, norm: bool):
        super().__init__()

        def normed() -> nn.Module:
            return nn.BatchNorm2d(outside) if norm else nn.Identity()

        self.one = nn.Conv2d(inside, outside, 3, stride, 1, bias=not norm)
        self.norm_one, self.active_one = normed(), nn.ReLU()
        self.two = nn.Conv2d(outside, outside, 3, 1, 1, bias=not norm)
        self.norm_two, self.active_two = normed(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=not norm), normed())

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm_two(self.two(self.active_one(self.norm_one(self.one(x)))))
        return self.active_two(out + self.shortcut(x))


def resnet(widths: tuple[int, ...], blocks: int, norm: bool) -> nn.Module:
    """ResNet v1 for 32×32 images and 10 classes: ``(16, 32, 64), 3`` is ResNet-20."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=not norm)]
    layers += [nn.BatchNorm2d(widths[0])] if norm else []
    layers += [nn.ReLU()]
    net = nn.Sequential(*layers, *_stages(widths, blocks, norm), *_classifier(widths[-1], 10))
    if not norm:
        with torch.no_grad():  # keep activations of order one without normalisation
            for m in net.modules():
                if isinstance(m, ResidualBlock):
                    m.two.weight *= 0.2
    return net


def resnet18() -> nn.Module:
    """ResNet-18 as published, for 1000 classes: 7×7 stem of stride 2 and max-pool, 11,689,512 parameters."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *_stages((64, 128, 256, 512), 2, True), *_classifier(512, 1000))


def _stages(widths: tuple[int, ...], blocks: int, norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    inside = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(ResidualBlock(inside, width, 2 if stage and not block else 1, norm))
            inside = width
    return layers


def _classifier(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and a perceptron, out of plain linear layers, which every tool knows."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_one, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.norm_two, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm_one(x)).chunk(3, -1)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_two(x))))


class Transformer(nn.Module):
    """Four layers of width 256 over token and position embeddings; the mean over positions is classified."""

    def __init__(self, vocabulary: int = 30522, length: int = 64, width: int = 256, layers: int = 4):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, 4) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.head(self.norm(self.blocks(self.words(ids) + self.places(places))).mean(1))


def _images(module: nn.Module, n: int, *shape: int) -> Network:
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    if norms:  # running statistics as after training: those of the activations
        for m in norms:
            m.momentum = None
        with torch.no_grad():
            module.train()(torch.randn(64, *shape))
    return Network(module.eval(), torch.randn(n, *shape), torch.randint(10, (n,)))


def _tokens(n: int) -> Network:
    return Network(Transformer().eval(), torch.randint(30522, (n, 64)), torch.randint(10, (n,)))


@dataclass(frozen=True)
class Entry:
    """A network of the benchmark: title, network for ``n`` examples, and the ``n`` that is measured."""

    title: str
    make: Callable[[int], Network]
    n: int


NETWORKS: dict[str, Entry] = {
    "fc": Entry("FC 784-500-300-100-10", lambda n: _images(fully_connected(), n, 784), 500),
    "cnn": Entry("CNN of three 3×3 convolutions", lambda n: _images(convolutional(), n, 3, 32, 32), 500),
    "resnet20": Entry(
        "ResNet-20, BatchNorm in eval",
        lambda n: _images(resnet((16, 32, 64), 3, True), n, 3, 32, 32),
        500,
    ),
    "resnet20-plain": Entry(
        "ResNet-20 without norm",
        lambda n: _images(resnet((16, 32, 64), 3, False), n, 3, 32, 32),
        500,
    ),
    "transformer-64": Entry("Transformer 4×256, vocabulary 30522, T=64", _tokens, 64),
    "transformer-256": Entry("Transformer 4×256, vocabulary 30522, T=64", _tokens, 256),
    "resnet18": Entry(
        "ResNet-18 as published, 32×32 images",
        lambda n: _images(resnet18(), n, 3, 32, 32),
        500,
    ),
    "resnet18-cifar": Entry(
        "ResNet-18 with a 3×3 stem, 32×32 images",
        lambda n: _images(resnet((64, 128, 256, 512), 2, True), n, 3, 32, 32),
        500,
    ),
}


def build(key: str, n: int | None = None) -> Network:
    """A network of the benchmark: the same numbers at every call."""
    torch.manual_seed(0)
    return NETWORKS[key].make(n or NETWORKS[key].n)
