"""A corpus of entailment that no download gives: sentences about coloured things, labelled by enumerating worlds.

A premise says one or two things about a scene, such as "most dogs are red, and exactly two animals are black";
the hypothesis says one more. A world is how many dogs, and how many other animals, have which colour. The
hypothesis is *entailed* if it holds in every world in which the premise holds, *contradicted* if in none of
them, else *neutral*. As in ordinary speech, there is at least one thing of each sort that is spoken of.
"""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LABELS = ("entailment", "neutral", "contradiction")
Triple = tuple[str, str, int]
"""Premise, hypothesis and the label's place in ``LABELS``."""

SORTS = {
    "animals": ("dogs", "cats", "horses", "cows", "birds", "mice"),
    "vehicles": ("cars", "trucks", "boats", "trains", "buses", "bicycles"),
    "clothes": ("hats", "shirts", "shoes", "gloves", "coats", "scarves"),
    "fruits": ("apples", "pears", "grapes", "plums", "cherries", "melons"),
    "toys": ("balls", "dolls", "kites", "drums", "puzzles", "blocks"),
}
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")

Counts = NDArray[np.int64]
Rule = Callable[[Counts, Counts, Counts], NDArray[np.bool_]]

# What is said of n things, of which x have the first colour and y the second.
STATEMENTS: dict[str, Rule] = {
    "all {n} are {x}": lambda x, y, n: x == n,
    "no {n} are {x}": lambda x, y, n: x == 0,
    "some {n} are {x}": lambda x, y, n: x >= 1,
    "not all {n} are {x}": lambda x, y, n: x < n,
    "most {n} are {x}": lambda x, y, n: 2 * x > n,
    "exactly two {n} are {x}": lambda x, y, n: x == 2,
    "exactly three {n} are {x}": lambda x, y, n: x == 3,
    "at least two {n} are {x}": lambda x, y, n: x >= 2,
    "at least three {n} are {x}": lambda x, y, n: x >= 3,
    "at most two {n} are {x}": lambda x, y, n: x <= 2,
    "fewer than two {n} are {x}": lambda x, y, n: x < 2,
    "more than two {n} are {x}": lambda x, y, n: x > 2,
    "more {n} are {x} than {y}": lambda x, y, n: x > y,
    "as many {n} are {x} as {y}": lambda x, y, n: x == y,
    "all {n} are {x} or {y}": lambda x, y, n: x + y == n,
    "no {n} are {x} or {y}": lambda x, y, n: x + y == 0,
}
MOST = 6
"""Things of one sort and colour in a world, at most. From 5 on the labels stay the same; at 4 some are wrong."""


@dataclass(frozen=True)
class Clause:
    """One thing said, with the colours' names and the noun left open."""

    statement: str
    general: bool
    """Of all animals, not of the dogs among them."""
    swapped: bool
    """With the two colours in the other order."""

    def text(self, noun: str, sort: str, colours: tuple[str, str]) -> str:
        """As an English clause."""
        x, y = reversed(colours) if self.swapped else colours
        return self.statement.format(n=sort if self.general else noun, x=x, y=y)


CLAUSES = [Clause(*parts) for parts in itertools.product(STATEMENTS, (False, True), (False, True))]


@lru_cache(maxsize=1)
def _truth() -> dict[Clause, int]:
    """For every clause the worlds in which it holds, as the bits of an integer."""
    # 2 sorts (dogs, other animals) × 3 colours (first, second, any other): a number of each.
    cells = np.array(list(itertools.product(range(MOST + 1), repeat=6))).reshape(-1, 2, 3)
    cells = cells[cells[:, 0].sum(axis=1) > 0]
    held = {}
    for clause in CLAUSES:
        counts = cells.sum(axis=1) if clause.general else cells[:, 0]
        x, y = counts[:, 0], counts[:, 1]
        if clause.swapped:
            x, y = y, x
        bits = np.packbits(STATEMENTS[clause.statement](x, y, counts.sum(axis=1)))
        held[clause] = int.from_bytes(bits.tobytes(), "big")
    return held


def label_of(premise: tuple[Clause, ...], hypothesis: Clause) -> int | None:
    """Place in ``LABELS``; None where the premise holds in no world."""
    truth = _truth()
    worlds = truth[premise[0]]
    for clause in premise[1:]:
        worlds &= truth[clause]
    if not worlds:
        return None
    also = worlds & truth[hypothesis]
    return LABELS.index("entailment" if also == worlds else "neutral" if also else "contradiction")


def generate_pairs(count: int, seed: int = 0) -> list[Triple]:
    """So many different pairs in random order, the three labels equally often (to within one)."""
    draw = random.Random(seed)
    wanted = [count // 3 + (label < count % 3) for label in range(3)]
    found: list[dict[tuple[str, str], None]] = [{}, {}, {}]
    while any(len(pairs) < number for pairs, number in zip(found, wanted, strict=True)):
        premise = tuple(draw.sample(CLAUSES, draw.choice((1, 2))))
        hypothesis = draw.choice(CLAUSES)
        label = label_of(premise, hypothesis)
        if label is None or hypothesis in premise or len(found[label]) == wanted[label]:
            continue
        sort, nouns = draw.choice(list(SORTS.items()))
        words = draw.choice(nouns), sort, tuple(draw.sample(COLOURS, 2))
        said = ", and ".join(clause.text(*words) for clause in premise)
        found[label][said, hypothesis.text(*words)] = None
    pairs = [(*pair, label) for label, texts in enumerate(found) for pair in texts]
    draw.shuffle(pairs)
    return pairs
