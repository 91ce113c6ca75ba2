"""Grams worked out by several processes, started by test_share.py: python share_run.py RANK FILE PROCESSES."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_stiffness.gram import Examples, gram_of_examples, measurement, together
from lightning_stiffness.gram.share import _HEAD, Abandoned, OutOfStep, Share, exchange


class Text(nn.Module):
    """Tied embedding, attention, norm: every way in which gradients are held."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.place = nn.Parameter(torch.randn(6, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)

    def forward(self, x):
        return (self.block(self.embedding(x) + self.place) @ self.embedding.weight.T).mean(1)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).abs()


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)
    )


def cases():
    torch.manual_seed(0)
    labels = torch.arange(100) % 4
    linear = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
    yield "linear", linear, torch.randn(100, 8), labels, "none"
    yield "mean", linear, torch.randn(100, 8), labels, "mean"
    yield "convolution", conv(), torch.randn(100, 1, 8, 8), labels, "none"
    yield "text", Text(), torch.randint(0, 30, (100, 6)), labels, "none"
    yield "complex", Complex(), torch.randn(100, 8), labels, "none"


def few(share: Share) -> None:
    """Fewer examples than the processes can divide among them."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))

    def loss_fn(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    for sizes in ((2,), (2, 2), (3, 3), (1, 3)):
        examples = Examples.of(*((torch.randn(size, 8), torch.arange(size)) for size in sizes))
        alone, both = (gram_of_examples(net, examples, loss_fn=loss_fn, share=one) for one in (None, share))
        assert torch.allclose(both.values, alone.values, rtol=1e-5), sizes
        assert not both.plan.fallbacks, (sizes, both.plan.fallbacks)


def without_gradients(share: Share) -> None:
    """Examples of all processes that have none, once the calls are known: each looks at those of its own."""
    torch.manual_seed(3)
    net, x = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)), torch.randn(100, 8)
    examples = Examples.of((x, torch.arange(100) % 4))

    def loss_fn(module, batch):
        losses = functional.cross_entropy(module(batch[0]), batch[1], reduction="none")
        return losses * (batch[0][:, 0] < 0.5)

    alone = gram_of_examples(net, examples, loss_fn=loss_fn)
    assert int((alone.norms == 0).sum()) > 10
    for _ in range(5):
        both = gram_of_examples(net, examples, loss_fn=loss_fn, share=share)
        assert torch.allclose(both.values, alone.values, rtol=1e-5, atol=1e-7)
        assert not both.plan.fallbacks, both.plan.fallbacks


def several_means(share: Share) -> None:
    """Two means, each over those that have its targets; as many lack some in every process, so that all others have
    one factor."""
    torch.manual_seed(4)
    net, known = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)), torch.ones(90, 3, dtype=torch.bool)
    for first in range(0, 90, 15):
        known[[first + 3, first + 7, first + 12], [0, 1, 2]] = False
    examples = Examples.of((torch.randn(90, 8), torch.randn(90, 3), known))

    def loss_fn(module, batch):
        off, known = module(batch[0]) - batch[1], batch[2]
        first = (off[:, 0].abs() * known[:, 0]).sum() / known[:, 0].sum().clamp(min=1)
        return first + off[:, 1:][known[:, 1:]].square().mean()

    shared = gram_of_examples(net, examples, loss_fn=loss_fn, share=share)
    slow = gram_of_examples(net, examples, loss_fn=loss_fn, engine="loop")
    cosines = [gram.values / (gram.norms[:, None] * gram.norms) for gram in (shared, slow)]
    assert torch.allclose(*cosines, atol=1e-4), float((cosines[0] - cosines[1]).abs().max())


def disagree(rank: int, share: Share) -> None:
    """Processes that divide the work each in its own way, as memory or rounding may have it, end with the Gram."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4))
    examples = Examples.of((torch.randn(100, 8), torch.arange(100) % 4))
    partition, divide, gathered = measurement.partition, together.divide, []

    def loss_fn(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    def two_groups(*arguments):
        (group,) = partition(*arguments)
        return [replace(group, names=group.names[:2]), replace(group, names=group.names[2:])]

    def blocks(*arguments):
        return [replace(group, block=20) for group in partition(*arguments)]

    def owned(by):
        return lambda mine, names, *others: dict.fromkeys(names, 0) if rank == by else None

    def check(name, *, again):
        gathered.clear()
        found = gram_of_examples(net, examples, loss_fn=loss_fn, share=share)
        limit = 1e-6 * float(alone.norms.max()) ** 2
        assert float((found.values - alone.values).abs().max()) < limit, name
        assert not found.plan.fallbacks, (name, found.plan.fallbacks)
        assert gathered.count("groups") == again, (name, gathered)
        return gathered.count("parts")

    deliver = Share.deliver

    def counted(self, *arguments, about):
        gathered.append(about)
        return deliver(self, *arguments, about=about)

    alone = gram_of_examples(net, examples, loss_fn=loss_fn)
    Share.deliver = counted
    try:
        assert check("alike", again=0) == 1
        for name, other, who in (
            ("the first has two groups", two_groups, [0]),
            ("another has two groups", two_groups, [1]),
            ("another has blocks", blocks, [1]),
        ):
            measurement.partition = other if rank in who else partition
            check(name, again=1)
        for other in (two_groups, blocks):
            measurement.partition = other
            check("all have them", again=0)
        measurement.partition = partition
        for by in (0, 1):
            together.divide = owned(by)
            assert check("other owners", again=0) == 2
    finally:
        measurement.partition, together.divide, Share.deliver = partition, divide, deliver


def main() -> None:
    rank, count = int(sys.argv[1]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=count)
    share = Share(rank, count, torch.device("cpu"))
    multiply, mine = together.multiply, []

    def counted(*arguments):
        steps = multiply(*arguments)
        mine.extend(steps)
        return steps

    together.multiply = counted
    for name, net, x, y, reduction in cases():

        def loss_fn(module, batch, reduction=reduction):
            return functional.cross_entropy(module(batch[0]), batch[1], reduction=reduction)

        examples = Examples.of((x[:40], y[:40]), (x[40:], y[40:]))
        alone = gram_of_examples(net, examples, loss_fn=loss_fn)
        mine.clear()
        both = gram_of_examples(net, examples, loss_fn=loss_fn, share=share)
        done = sum(step.flops for step in mine)  # by this process
        off = float((alone.values - both.values).abs().max() / alone.values.abs().max())
        assert off < 1e-6, (name, off)
        assert not both.plan.fallbacks, (name, both.plan.fallbacks)
        everything = sum(step.flops for step in alone.plan.steps)
        assert sum(step.flops for step in both.plan.steps) == pytest.approx(everything, rel=0.2), name
        assert done < 0.8 * everything, (name, done, everything)
        cross = gram_of_examples(net, examples.part(0, 5), examples.part(5, 100), loss_fn=loss_fn, share=share)
        assert torch.allclose(
            cross.values, alone.values[:5, 5:], rtol=1e-5, atol=1e-6 * float(alone.norms.max()) ** 2
        )
        print(rank, name, f"{off:.1e}")
        step = {
            n: torch.rand(p.shape, generator=torch.Generator().manual_seed(0)) for n, p in net.named_parameters()
        }
        grams = [
            gram_of_examples(net, examples, loss_fn=loss_fn, share=one, per_layer=True, step=step)
            for one in (None, share)
        ]
        for layer, gram in grams[0].layers.items():
            limit = 1e-6 * float(grams[0].norms.max()) ** 2
            assert float((gram.values - grams[1].layers[layer].values).abs().max()) < limit, (name, layer)

    few(share)
    print(rank, "few")
    disagree(rank, share)
    without_gradients(share)
    several_means(share)
    print(rank, "unlike")

    # One process fails: the other hears of it and goes on alone, with the right numbers.
    net, x, y = nn.Linear(8, 4), torch.randn(100, 8), torch.arange(100) % 4
    calls = 0

    def failing(module, batch):
        nonlocal calls
        calls += 1
        if rank == 1 and len(batch[0]) > 1:
            raise RuntimeError("no room")
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    def sound(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    examples = Examples.of((x, y))
    # The processes drew the same numbers, so that what they hold is the same.
    both = gram_of_examples(net, examples, loss_fn=failing, share=share)
    alone = gram_of_examples(net, examples, loss_fn=sound)
    assert torch.allclose(both.values, alone.values, rtol=1e-5, atol=1e-6 * float(alone.norms.max()) ** 2)
    print(rank, "failure", "; ".join(both.plan.fallbacks.values()))
    told = "own error" if rank == 0 else f"process 0 of {count} could not do its part: own error"
    with pytest.raises(RuntimeError if rank == 0 else OutOfStep, match=told):
        share.gather(torch.zeros(2), RuntimeError("own error") if rank == 0 else None)
    delivered = share.deliver([torch.full((k,), float(rank)) for k in range(count)])
    assert [values.tolist() for values in delivered] == [[float(k)] * rank for k in range(count)]
    # Short and long ones, up to the length at which they go in two pieces
    for length in (0, 10, *range(_HEAD - 100, _HEAD + 10, 10), 2 * _HEAD, 100_000):
        said = exchange("words", "x" * (length + rank))
        assert said == [("words", "x" * (length + k)) for k in range(count)], length
    with pytest.raises(Abandoned, match="has given up the measurement"):
        share.gather(None, about="one thing" if rank else "another")
    print(rank, "done")
    distributed.barrier()  # neither ends while the other still speaks to it
    sys.stdout.flush()
    # Threads of Gloo that end after the interpreter would abort it; and destroying the group with the interpreter's
    # lock held, as torch 2.4 does, may wait for ever for a thread that waits for the lock.
    os._exit(0)


if __name__ == "__main__":
    main()
