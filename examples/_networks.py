"""The networks of Fort et al. (arXiv:1901.09491v3) for images."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def fully_connected(classes: int = 10, channels: int = 1, side: int = 28) -> nn.Sequential:
    """channels · side² (784 for grey 28×28) → 500 → 300 → 100 → classes, with ReLU in between."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side**2, 500),
        nn.ReLU(),
        nn.Linear(500, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def convolutional(classes: int = 10, channels: int = 1, side: int = 28) -> nn.Sequential:
    """Three 3×3 convolutions of 16, 32 and 32 channels, each with ReLU and 2×2 max-pooling, then a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 28 → 14, or 32 → 16
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 14 → 7, or 16 → 8
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 7 → 3, or 8 → 4
        nn.Flatten(),
        nn.Linear(32 * (side // 8) ** 2, classes),
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut without parameters (He et al., arXiv:1512.03385, option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.stride, self.more_channels = stride, after - before

    def forward(self, images: Tensor) -> Tensor:
        """``[n, before, h, w]`` → ``[n, after, h / stride, w / stride]``."""
        shortcut = pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more_channels))
        return torch.relu(self.second(torch.relu(self.first(images))) + shortcut)


def resnet20(classes: int = 10, channels: int = 3, side: int = 32) -> nn.Sequential:
    """ResNet-20, version 1, without batch normalisation; any ``side`` will do."""
    blocks: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
    before = 16
    for after in (16, 32, 64):
        for place in range(3):
            blocks.append(ResidualBlock(before, after, stride=2 if place == 0 and after != 16 else 1))
            before = after
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


NETWORKS = {"fc": fully_connected, "cnn": convolutional}
"""For grey images."""
COLOUR_NETWORKS = {"cnn": convolutional, "resnet20": resnet20}
"""For images with three channels."""
