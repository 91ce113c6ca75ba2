"""Which runs there are: systems × learning rates × seeds, in a default, a full and a quick scale."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
MAIN_RATE = 1e-3
"""Adam's usual rate, and that of every claim that compares no rates."""
BATCH = 32


@dataclass(frozen=True)
class System:
    """A data set and a network, with how they are trained and measured."""

    name: str
    title: str
    data: str
    """``mnist``, ``fashion_mnist``, ``cifar10``, ``cifar100`` or ``mnli``."""
    model: str
    train: int | None
    """Training examples of a run; None: all there are. Few, so that overfitting sets in."""
    moments: tuple[float, ...]
    """When to measure, in epochs; the last one ends the run."""
    probe: int
    """Examples of each split to measure on."""
    seeds: int
    rates: tuple[float, ...] = (MAIN_RATE,)
    kind: str = "images"

    @property
    def epochs(self) -> int:
        """Epochs of a run."""
        return int(self.moments[-1])


@dataclass(frozen=True)
class Run:
    """One training: a system at one learning rate from one seed.

    The seed decides the initial weights, the order of the batches, which examples are trained on and which are
    measured on. Runs of one seed that differ in the rate share all of these.
    """

    system: System
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Also that of its file."""
        return f"{self.system.name}_lr{self.rate:g}_seed{self.seed}"

    @property
    def detailed(self) -> bool:
        """Are matrices, curves and intervals kept, for the figures? Only for one run of each system and rate."""
        return self.seed == 0

    def settings(self, data_sum: str) -> dict[str, Any]:
        """All that its numbers depend on, as plain values; a run with other settings is another run.

        Args:
            data_sum: checksum of the data.
        """
        system = asdict(replace(self.system, seeds=0, rates=()))
        for name in ("seeds", "rates", "title"):
            del system[name]
        system["moments"] = list(self.system.moments)
        own = {"rate": self.rate, "seed": self.seed, "batch": BATCH, "detailed": self.detailed}
        return {**system, **own, "data_sum": data_sum}


_MOMENTS = (0, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 18, 27, 40)
_FEWER = (0, 1, 2, 4, 7, 12, 18, 25)

SYSTEMS = (
    System("cifar10-resnet20", "CIFAR-10, ResNet-20", "cifar10", "resnet20", 1000, _FEWER, 250, 3),
    System("cifar100-cnn", "CIFAR-100, CNN", "cifar100", "cnn", 5000, (0, 1, 2, 3, 5, 8, 12), 1000, 3),
    System("mnist-fc", "MNIST, FC", "mnist", "fc", 1500, _MOMENTS, 500, 5, RATES),
    System("fashion-fc", "Fashion-MNIST, FC", "fashion_mnist", "fc", 1500, _MOMENTS, 500, 5, RATES),
    System("fashion-cnn", "Fashion-MNIST, CNN", "fashion_mnist", "cnn", 1500, _MOMENTS, 500, 4, RATES),
    System("cifar10-cnn", "CIFAR-10, CNN", "cifar10", "cnn", 1500, _MOMENTS, 500, 4, RATES),
    System("mnli-bert", "MNLI, BERT", "mnli", "bert", 320, (0, 1, 2, 4, 6), 60, 3, (1e-4,), kind="text"),
    System("mnist-cnn", "MNIST, CNN", "mnist", "cnn", 1500, _MOMENTS, 500, 3),
)


ORDER = (
    *("mnist-fc", "mnist-cnn", "fashion-fc", "fashion-cnn"),
    *("cifar10-cnn", "cifar10-resnet20", "cifar100-cnn", "mnli-bert"),
)
"""Of the systems on the page; that of :data:`SYSTEMS` puts long runs first."""


def full(system: System) -> System:
    """All training examples there are, and twice the epochs on five seeds."""
    return replace(system, train=None, moments=(*system.moments, 2 * system.epochs), seeds=5)


def quick(system: System) -> System:
    """Three epochs on a handful of examples: does it all run?"""
    many = system.data == "cifar100"
    if system.kind == "text":
        system = replace(system, model="small")  # needs no package and no download
    return replace(
        system,
        train=200 if many else 96,
        moments=(0, 1, 2, 3),
        probe=200 if many else 40,
        seeds=2,
        rates=system.rates[-3:],
    )


def runs_of(systems: Sequence[System]) -> list[Run]:
    """All runs, those of the first seed first, so that a broken-off day's work is complete for fewer seeds."""
    most = max(system.seeds for system in systems)
    return [
        Run(system, rate, seed)
        for seed in range(most)
        for system in systems
        if seed < system.seeds
        for rate in system.rates
    ]
