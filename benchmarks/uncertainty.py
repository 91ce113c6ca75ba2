"""Time and coverage of the bootstrap intervals: ``python benchmarks/uncertainty.py [--trials 300]``.

Time: 500 examples, 10 classes, 200 resamples, three blocks, both measures, over that of the paper CNN's Gram of the
same number of examples. Coverage: how often the 95% interval
holds the truth, over simulated gradients (class mean + a part that follows the input + noise).
"""

import argparse
import statistics
import time
from itertools import pairwise

import torch
from _zoo import convolutional

from lightning_stiffness.functional import block_intervals, critical_length, distance_curve, joint_intervals
from lightning_stiffness.gram import gradient_gram


class Population:
    def __init__(self, classes: int, parameters: int, mean: float, follows: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.classes, self.draw = classes, torch.Generator().manual_seed(1)
        self.mean = torch.randn(classes, parameters, generator=generator, dtype=torch.float64) * mean
        self.map = torch.randn(3, parameters, generator=generator, dtype=torch.float64) * follows

    def sample(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(len(labels), 3, generator=self.draw, dtype=torch.float64)
        g = self.mean[labels] + x @ self.map
        g = g + torch.randn(*g.shape, generator=self.draw, dtype=torch.float64)
        return torch.nn.functional.normalize(g, dim=1), x

    def truth(self, edges: torch.Tensor, k: int = 100_000) -> dict[str, float]:
        S, d, means = [], [], []
        for a in range(self.classes):
            (g, x), (h, y) = self.sample(torch.full((k,), a)), self.sample(torch.full((k,), a))
            S.append((g * h).sum(1))
            d.append((x - y).norm(dim=1))
            means.append(torch.cat([g, h]).mean(0))
        between = torch.stack(means) @ torch.stack(means).T
        stiffness, distance = torch.cat(S)[None], torch.cat(d)[None]
        taken = torch.ones_like(stiffness, dtype=torch.bool)
        limits = (float(edges[0]), float(edges[-1]))
        curve = distance_curve(stiffness, distance, taken, bins=len(edges) - 1, limits=limits)
        return {
            "within": float(stiffness.mean()),
            "between": float(between[~torch.eye(self.classes, dtype=torch.bool)].mean()),
            **{f"bin {i}": value for i, value in enumerate(curve.mean.tolist())},
            "ξ": critical_length(stiffness, distance, taken).value,
        }


def coverage(population: Population, size: int, trials: int, symmetric: bool) -> str:
    edges = torch.linspace(0, 4, 6, dtype=torch.float64)
    truth = population.truth(edges)
    y = torch.arange(population.classes).repeat_interleave(size)
    hits = {name: [0, 0] for name in truth}
    for trial in range(trials):
        g, x = population.sample(y)
        h, z = (g, x) if symmetric else population.sample(y)
        result = block_intervals(
            g @ h.T,
            y,
            None if symmetric else y,
            symmetric=symmetric,
            distance=torch.cdist(x, z),
            pairs=y[:, None] == y[None],
            edges=edges,
            seed=trial,
        )
        assert result.curve is not None
        ends = [result.summary["within_class"], result.summary["between_class"], *result.curve.tolist()]
        for (name, value), (low, high) in zip(truth.items(), [*ends, result.critical_length], strict=True):
            if low == low and value == value:  # neither is NaN
                hits[name][0] += low <= value <= high
                hits[name][1] += 1
    return "  ".join(f"{name} {100 * a / b:.1f}%" if b else f"{name} none" for name, (a, b) in hits.items())


def seconds(repeats: int = 7) -> tuple[float, float]:
    """Of all intervals of three blocks and both measures, and of the paper CNN's Gram of as many examples."""
    population, y = Population(10, 20, 0.3, 0.5), torch.arange(10).repeat_interleave(50)
    (g, x), (h, z) = population.sample(y), population.sample(y)
    edges, same = torch.linspace(0, 6, 21, dtype=torch.float64), y[:, None] == y[None]
    net, images, labels = convolutional(), torch.rand(1000, 3, 32, 32), torch.arange(1000) % 10

    def loss_fn(module: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    times: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        marks = [time.perf_counter()]
        for a, b, u, v, symmetric in ((g, g, x, x, True), (g, h, x, z, False), (h, h, z, z, True)):
            other, d = None if symmetric else y, torch.cdist(u, v)
            both = [a @ b.T, torch.sign(a @ b.T)]
            joint_intervals(both, y, other, symmetric=symmetric, distance=d, pairs=same, edges=edges)
        marks.append(time.perf_counter())
        gradient_gram(net, (images, labels), loss_fn=loss_fn)
        marks.append(time.perf_counter())
        for kept, (start, end) in zip(times, pairwise(marks), strict=True):
            kept.append(end - start)
    own, gram = (statistics.median(kept[1:]) for kept in times)
    return own, gram


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300, help="0: the time alone")
    trials = parser.parse_args().trials
    own, gram = seconds()
    print(
        f"three blocks of 500 + 500 examples, both measures, {torch.get_num_threads()} threads: {own:.2f} s, "
        f"{own / gram:.2f} of the Gram of the paper's CNN in the same run"
    )
    if not trials:
        return
    for settings in ((3, 10, 0.5, 0.5, 50), (10, 10, 0.3, 0.5, 20), (10, 50, 0.0, 0.0, 20), (4, 10, 0.5, 0.5, 5)):
        for symmetric in (True, False):
            covered = coverage(Population(*settings[:4]), settings[4], trials, symmetric)
            print(f"{settings[0]} classes of {settings[4]}, {'one set' if symmetric else 'two sets'}: {covered}")


if __name__ == "__main__":
    main()
