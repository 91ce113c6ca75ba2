"""Stiffness in a training loop of your own: torch alone, without Lightning.

    python examples/plain_pytorch.py                        # MNIST, the fully connected network, 5 epochs
    python examples/plain_pytorch.py --model cnn --lr 3e-3

measure_stiffness gives everything that the callback logs, and gradient_gram the inner products of the gradients
themselves: here, which training images help or hurt one test image most. Data as in mnist.py. Results are saved
where TensorBoard's tab Stiffness finds them.
"""

import argparse
from collections.abc import Iterator

import torch
from _data import ABOUT_GREY, load_mnist
from _networks import NETWORKS
from _options import example_parser, free_folder, read_options
from _report import print_data, print_results
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_stiffness import gradient_gram, measure_stiffness
from lightning_stiffness.functional import cosine_stiffness

Batch = tuple[Tensor, Tensor]


def loss_fn(net: nn.Module, batch: Batch) -> Tensor:
    """The loss of each example ``[n]``: all that the package has to know of a network."""
    images, labels = batch
    return cross_entropy(net(images), labels, reduction="none")


def main() -> None:
    """Train, measure, and say what was found."""
    options, data = read_options(
        example_parser(__doc__, NETWORKS, data=ABOUT_GREY), lambda options: load_mnist(options.data)
    )
    print_data(data)
    torch.manual_seed(options.seed)
    device = find_device(options.accelerator)
    train, val = ((images.to(device), labels.to(device)) for images, labels in map(tensors, data.datasets()))
    net = NETWORKS[options.model]().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr)
    logs = free_folder(options.log_dir / f"plain-{options.model}")

    probe = {"train": take(train, choose(train, options)), "val": take(val, choose(val, options))}
    results, step = [], 0
    for epoch in range(options.max_epochs + 1):
        if epoch > 0:
            for picked in torch.randperm(len(train[0])).split(32):
                optimizer.zero_grad()
                loss_fn(net, take(train, picked)).mean().backward()
                optimizer.step()
                step += 1
        result = measure_stiffness(net, **probe, loss_fn=loss_fn, step=step, epoch=epoch)
        result.save(logs / "stiffness" / f"step_{step:08d}.npz")
        results.append(result)
        metrics = dict(evaluate(net, {"train": train, "val": val}))
        numbers = result.summary["train-val"]["cos"]
        print(
            f"epoch {epoch}: loss {metrics['loss/train']:.4f}, on the test part {metrics['loss/val']:.4f}; "
            f"stiffness within a class {numbers['within_class']:.3f}, between {numbers['between_class']:.3f}",
            flush=True,
        )
    print_influence(net, probe)
    print_results(results[0], results[-1], metrics, logs, options.log_dir)


def print_influence(net: nn.Module, probe: dict[str, Batch]) -> None:
    """Which training images would a step on help the first test image most, and which would hurt it most?"""
    one = take(probe["val"], torch.tensor([0]))
    gram = gradient_gram(net, probe["train"], one, loss_fn=loss_fn)
    stiffness = cosine_stiffness(gram.values, gram.norms, gram.other_norms)[:, 0]
    labels = probe["train"][1]
    print(f"\nA test image of class {int(one[1])}, loss {loss_fn(net, one).item():.4f}:")
    for word, order in (("helped", stiffness.argsort(descending=True)), ("hurt", stiffness.argsort())):
        told = ", ".join(f"class {int(labels[at])} ({stiffness[at]:+.2f})" for at in order[:4].tolist())
        print(f"  {word} most by steps on training images of {told}")


def choose(part: Batch, options: argparse.Namespace) -> Tensor:
    """The examples to measure on: as many as asked for, the same in every epoch."""
    generator = torch.Generator().manual_seed(options.seed)
    return torch.randperm(len(part[0]), generator=generator)[: options.probe_size]


@torch.no_grad()
def evaluate(net: nn.Module, parts: dict[str, Batch]) -> Iterator[tuple[str, float]]:
    """Loss and accuracy on each part."""
    for name, (images, labels) in parts.items():
        logits = torch.cat([net(some) for some in images.split(1000)])
        yield f"loss/{name}", float(cross_entropy(logits, labels))
        yield f"accuracy/{name}", float((logits.argmax(1) == labels).float().mean())


def take(part: Batch, picked: Tensor) -> Batch:
    """Some of the examples."""
    return part[0][picked], part[1][picked]


def tensors(dataset: torch.utils.data.TensorDataset) -> Batch:
    """All images and all labels."""
    images, labels = dataset.tensors
    return images, labels


def find_device(accelerator: str) -> torch.device:
    """The device that Lightning would call so."""
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


if __name__ == "__main__":
    main()
