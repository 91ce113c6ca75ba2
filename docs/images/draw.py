"""Draw the figures of the documentation from real training.

    python docs/images/draw.py                            # MNIST, the digits in examples/data
    python docs/images/draw.py --cifar100 cifar100.npz    # and CIFAR-100, with its 20 super-classes

The file holds ``x_train`` and ``x_test`` ``[n, 32, 32, 3]`` uint8, ``y_train_fine``, ``y_test_fine``,
``fine_names`` and ``coarse_of_fine``, its rows going round the classes. Takes some minutes on a CPU. Twenty epochs
magnify what is rounded otherwise: these pictures, and those of ``shoot.py``, were drawn with ``OMP_NUM_THREADS=1``.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

from _data import EMBEDDED, load_mnist  # noqa: E402
from _networks import convolutional, fully_connected  # noqa: E402

from lightning_stiffness import measure_stiffness  # noqa: E402
from lightning_stiffness.figures import (  # noqa: E402
    class_matrix_figure,
    distance_curve_figure,
    figure_to_rgb,
    layer_figure,
)


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar100", type=Path, help="also draw CIFAR-100 from this .npz file")
    options = parser.parse_args()
    if options.cifar100 is not None:
        cifar100(options.cifar100)
    mnist()
    layers()


def mnist() -> None:
    """The paper's fully connected network at the start, after one epoch and after twenty."""
    torch.manual_seed(0)
    train, val = (data.tensors for data in load_mnist(EMBEDDED).datasets())
    net = fully_connected()
    for epoch, step in training(net, train, epochs=20):
        if epoch in (0, 1, 20):
            result = measure_stiffness(net, take(train, 500), take(val, 500), loss_fn=loss, step=step, epoch=epoch)
            report(result)
            if epoch == 1:
                draw(class_matrix_figure(result, "train-val", "sign"), "matrix_sign.png")
                draw(class_matrix_figure(result, "train-val", "cos", theme="dark"), "matrix_dark.png")
            else:
                draw(class_matrix_figure(result, "train-val", "cos"), f"matrix_epoch{epoch}.png")
                draw(distance_curve_figure(result, "train-val", "cos"), f"curve_epoch{epoch}.png")


def layers() -> None:
    """The layers of the paper's convolutional network after three epochs."""
    torch.manual_seed(0)
    train, val = (data.tensors for data in load_mnist(EMBEDDED).datasets())
    net = convolutional()
    for epoch, step in training(net, train, epochs=3):
        if epoch == 3:
            result = measure_stiffness(
                net, take(train, 500), take(val, 500), loss_fn=loss, per_layer=True, step=step, epoch=epoch
            )
            report(result)
            draw(layer_figure(result, "train-val", "cos"), "layers.png")


def cifar100(path: Path) -> None:
    """The paper's three-layer convolutional network on a hundred classes."""
    torch.manual_seed(0)
    with np.load(path, allow_pickle=False) as file:
        train, val = (images(file[f"x_{part}"], file[f"y_{part}_fine"]) for part in ("train", "test"))
        names, groups = file["fine_names"].tolist(), file["coarse_of_fine"].tolist()
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 100))
    for epoch, step in training(net, train, epochs=15):
        if epoch in (3, 15):
            result = measure_stiffness(
                net,
                take(train, 1000),
                take(val, 1000),
                loss_fn=loss,
                class_names=names,
                superclasses=groups,
                step=step,
                epoch=epoch,
            )
            report(result)
            if epoch == 3:
                draw(class_matrix_figure(result, "train-val", "cos"), "matrix_superclasses.png")
            else:
                draw(distance_curve_figure(result, "train-val", "cos"), "curve_cifar100.png")


def training(
    net: nn.Module, data: tuple[Tensor, ...], *, epochs: int, rate: float = 1e-3
) -> Iterator[tuple[int, int]]:
    """Train with Adam on batches of 32; yields (epochs trained, steps trained) before each epoch and at the end."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    step = 0
    for epoch in range(epochs):
        yield epoch, step
        for picked in torch.randperm(len(data[0])).split(32):
            optimizer.zero_grad()
            loss(net, tuple(tensor[picked] for tensor in data)).mean().backward()
            optimizer.step()
            step += 1
    yield epochs, step


def loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """The loss of each example ``[n]``."""
    return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def images(pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images ``[n, 3, 32, 32]`` in [0, 1] and labels ``[n]``."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels).long()


def take(data: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """The first ``count`` examples."""
    return tuple(tensor[:count] for tensor in data)


def report(result) -> None:
    """Print the numbers behind the figures."""
    numbers = {name: round(value, 3) for name, value in result.scalars().items() if "/cos/" in name}
    print(f"epoch {result.epoch}, step {result.step}: {numbers}", flush=True)


def draw(figure: Figure, name: str) -> None:
    """Write a figure as a small PNG: 256 colours, each within 3% of the true one."""
    picture = Image.fromarray(figure_to_rgb(figure))
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        HERE / name, optimize=True
    )


if __name__ == "__main__":
    main()
