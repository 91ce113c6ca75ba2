"""Which examples and parameters are worked on together, within the memory budget."""

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_stiffness.gram.batch import Batch, is_per_example, leaves
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.devices import room_of
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.reference import Reference

PASSES = 3
"""Bytes that a forward and backward pass holds, over those of the forward pass's tensors."""

NEAR, FEWEST = 32 << 20, 64
"""Bytes of the forward pass's tensors, and the examples at least, that a processor takes at a time: up to a fifth
less time than all examples at once, whose tensors it fetches from afar, and which the system's allocator hands out
page by page once they are larger. Measured with convolutions."""


class BudgetError(ValueError):
    """A memory budget too small for the measurement; the message says the least that would do."""


@dataclass(frozen=True)
class Group:
    """Parameters that share a forward pass."""

    names: list[str]
    most: int
    """Examples in a pass."""
    block: int | None
    """Examples of each side whose gradients are held at a time; None for all."""
    slab: int
    """Bytes for gradients formed at a time."""


def slab_of(room: int, device: torch.device) -> int:
    """Bytes for what is formed at a time: a quarter of what may be used, or less."""
    return max(1, min(room // 4, room_of(device)))


def partition(
    problem: Problem, every: Examples, reference: Reference, collector: Collector, room: int, asked: bool
) -> list[Group]:
    """The division with the fewest forward passes that fits the budget.

    A quarter of it is for gradients formed at a time, the rest for what a pass over the module holds and for
    what is kept of the parameters.

    Args:
        problem: module and loss.
        every: all examples.
        reference: one of them alone.
        collector: looks at two of them.
        room: bytes.
        asked: whether somebody has asked for that budget. Where nobody has, more is taken if it is needed.

    Raises:
        BudgetError: if not even two examples and one parameter fit; the message says the least that would do.
    """
    names = list(problem.parameters)
    activations = reference.activation_bytes()
    one_pass = PASSES * activations
    n = len(every)
    everything = sum(p.numel() * p.element_size() for p in problem.parameters.values())
    slab = collector.room
    # What is certain for a budget is only likely without one; it saves a look at two examples.
    formed = everything if asked else reference.dense_bytes(problem.parameters)
    if n * (one_pass + formed) <= 3 * room // 4 and (not asked or 2 * (everything + activations) <= room):
        return [Group(names, _examples_of_a_pass(n, activations, problem), None, slab)]
    held = collector.bytes_per_example(names, every)
    largest = max(held.values(), default=0)
    # the gradients of two examples taken alone; two examples in a pass, beside one parameter's part of four
    least = max(2 * (everything + activations), 2 * one_pass + 4 * largest)
    if not asked:
        room = max(room, least)
    elif room < least:
        raise BudgetError(
            f"memory_budget={room} bytes is too small: two examples and the largest parameter take {least}, "
            "the least that would do"
        )
    # A pass takes half of what is left beside the slab, where that is enough for two examples.
    most = max(2, min(_examples_of_a_pass(n, activations, problem), int(3 * room // 8 // max(1, one_pass))))
    kept = max(3 * room // 4 - most * one_pass, 4 * largest)
    groups: list[Group] = []
    together: list[str] = []
    size = 0
    for name in names:
        own = held[name] * n
        if own > kept:
            block = max(2, int(kept // (2 * held[name])))
            groups.append(Group([name], min(most, block), block, slab))
            continue
        if together and size + own > kept:
            groups.append(Group(together, most, None, slab))
            together, size = [], 0
        together.append(name)
        size += own
    if together:
        groups.append(Group(together, most, None, slab))
    # An example is computed among the same ones for every parameter: with others, a mean would weigh it otherwise.
    least_most = min(group.most for group in groups)
    return [replace(group, most=least_most) for group in groups]


def _examples_of_a_pass(n: int, activations: int, problem: Problem) -> int:
    """How many examples go through the module at a time where memory does not decide."""
    if any(parameter.device.type != "cpu" for parameter in problem.parameters.values()):
        return n
    passes = math.ceil(n / max(FEWEST, NEAR // max(1, activations)))
    return math.ceil(n / passes)


def first_place(every: Examples) -> int:
    """An example of the batch of several whose examples are largest: what it takes is what each takes at most.

    Raises:
        EngineRefusal: if every batch has one example.
    """
    starts = itertools.accumulate(every.sizes, initial=0)
    several = [
        (start, batch, size)
        for start, batch, size in zip(starts, every.batches, every.sizes, strict=False)
        if size > 1
    ]
    if not several:
        raise EngineRefusal("its examples come one by one, not in batches")
    if len(several) == 1:
        return several[0][0] + 1
    start, _, _ = max(several, key=lambda one: _bytes_of_one(*one[1:]))
    return start + 1


def _bytes_of_one(batch: Batch, size: int) -> int:
    tensors = (leaf for _, leaf in leaves(batch) if isinstance(leaf, Tensor) and is_per_example(leaf, size))
    return sum(leaf[0].numel() * leaf.element_size() for leaf in tensors)


def block_of(every: Examples, most: int, span: tuple[int, int]) -> Examples:
    """The examples of a block of whole pieces, divided into the same pieces as all of them are."""
    pieces = ((start, start + size) for start, size, _ in every.pieces(most))
    return Examples.joined([every.part(*piece) for piece in pieces if span[0] <= piece[0] < span[1]])


def blocks_of(every: Examples, most: int, length: int) -> list[tuple[int, int]]:
    """First and last position of blocks of whole pieces: an example is always computed among the same ones."""
    blocks: list[tuple[int, int]] = []
    ends = set(itertools.accumulate(every.sizes))
    for start, size, _ in every.pieces(most):
        if blocks and start not in ends and start + size - blocks[-1][0] <= length:
            blocks[-1] = (blocks[-1][0], start + size)
        else:
            blocks.append((start, start + size))
    return blocks
