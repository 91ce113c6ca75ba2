"""One run on images: train, measure at its moments, and put down what was found as plain values."""

from collections.abc import Iterator

import numpy as np
import torch
from _images import Array, Images
from _networks import COLOUR_NETWORKS, NETWORKS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_stiffness import measure_stiffness
from reproduction.plan import BATCH, Run
from reproduction.record import Plain, record

Batch = tuple[Tensor, Tensor]


def run_images(run: Run, images: Images) -> list[Plain]:
    """Train as the run says; what was measured at each of its moments.

    Adam at a constant rate, batches of 32, no augmentation (Fort et al., arXiv:1901.09491v3, section 3).

    Args:
        run: what to train.
        images: all the data there is of its data set.
    """
    generator = np.random.default_rng(run.seed)
    train, val = (dataset.tensors for dataset in images.datasets())
    train = take(train, stratified(images.y_train, run.system.train or len(train[0]), generator))
    # Of the examples trained on, the probe takes some; all test examples give the loss, some of them the probe.
    probes = [
        take(part, stratified(part[1].numpy(), min(run.system.probe, len(part[0])), generator))
        for part in (train, val)
    ]
    torch.manual_seed(run.seed)
    networks = COLOUR_NETWORKS if train[0].shape[1] == 3 else NETWORKS
    classes = 100 if images.superclasses else 10
    net = networks[run.system.model](classes, train[0].shape[1], train[0].shape[-1])
    found = []
    for step, epoch in training(net, train, run.system.moments, run.rate):
        result = measure_stiffness(
            net,
            *probes,
            loss_fn=losses,
            class_names=images.class_names,
            superclasses=images.superclasses or None,
            superclass_names=images.superclass_names or None,
            resamples=100 if run.detailed else 0,
            diagnostics=False,
            step=step,
            epoch=int(epoch),
        )
        quality = {"train": evaluate(net, train), "val": evaluate(net, val)}
        found.append(record(result, epoch, quality, detailed=run.detailed))
    return found


def training(net: nn.Module, data: Batch, moments: tuple[float, ...], rate: float) -> Iterator[tuple[int, float]]:
    """Train ``net``; stops to be measured at each moment, an epoch, giving (batches, epochs) trained so far."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    per_epoch = -(-len(data[0]) // BATCH)
    stops = {round(moment * per_epoch): moment for moment in moments}
    step = 0
    if 0 in stops:
        yield 0, 0.0
    while step < max(stops):
        for picked in torch.randperm(len(data[0])).split(BATCH):
            optimizer.zero_grad()
            losses(net, take(data, picked)).mean().backward()
            optimizer.step()
            step += 1
            if step in stops:
                yield step, float(stops[step])


def losses(net: nn.Module, batch: Batch) -> Tensor:
    """The loss of each example ``[n]``."""
    return cross_entropy(net(batch[0]), batch[1], reduction="none")


@torch.no_grad()
def evaluate(net: nn.Module, data: Batch) -> tuple[float, float]:
    """Mean loss and accuracy."""
    logits = torch.cat([net(part) for part in data[0].split(500)])
    return float(cross_entropy(logits, data[1])), float((logits.argmax(1) == data[1]).float().mean())


def take(data: Batch, picked: Tensor) -> Batch:
    """Some of the examples."""
    return data[0][picked], data[1][picked]


def stratified(labels: Array, count: int, generator: np.random.Generator) -> Tensor:
    """Indices of ``count`` examples, drawn by chance, as many of each class as can be.

    Raises:
        ValueError: if there are not so many.
    """
    if count > len(labels):
        raise ValueError(f"expected at least {count} examples to choose from, got {len(labels)}")
    shuffled = generator.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)  # the first of its class, the second, …
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        turn[own] = np.arange(len(own))
    order = shuffled[np.argsort(turn[shuffled], kind="stable")]
    return torch.from_numpy(order[:count])
