"""The losses of a batch held against those of its parts."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_stiffness.gram.batch import Batch, take
from lightning_stiffness.gram.check import TOLERANCE, TOLERANCE_DOUBLE
from lightning_stiffness.gram.precise import converted, in_double
from lightning_stiffness.gram.problem import Problem
from lightning_stiffness.gram.reference import eager
from lightning_stiffness.gram.references import Piece

OF_MEANS = 0.03
"""What means may be off by, over what a single loss may: rounding averages out, and so do the losses of a few."""

CLOSE, CLOSE_SINGLE = 1e-6, 3e-5
"""What each example's loss in float64 may be off by, relative to it: some of it may be computed in float32. Where
something else is computed for a batch, gradients differ by more than losses do. And in float32, where what is off
by more is looked at in float64."""

ROUNDING = 1e-3
"""How much smaller a difference is in float64, that is rounding in float32."""

SINGLE = 8
"""So many examples are taken one by one, in small batches all of them."""

TINY = 1e-13
"""Losses of next to nothing are rounding in float64 too."""


class Apart(NamedTuple):
    """The largest difference between a batch and its parts."""

    place: int
    """In the batch: of the example, or 0 for all of them."""
    relative: float
    size: float


Look = Callable[[Problem, Batch], Apart | None]


def most_apart(
    problem: Problem,
    piece: Piece,
    losses: Tensor,
    parts: Sequence[slice],
    factors: Sequence[float],
) -> tuple[int, float] | None:
    """The example whose loss differs most between a batch and its parts, and by how much of the loss.

    Forward passes over the parts, without gradients. A threshold that all examples decide together may show at none
    of the few that are taken alone.

    Args:
        problem: module and loss.
        piece: the batch.
        losses: of its examples; or their mean or sum.
        parts: of the batch, all of it where its loss is one number.
        factors: what the loss of each part is multiplied with, where that of a batch is one number.

    Returns:
        The place in the batch (0 for a number); None if none differs, or a part can't be taken.
    """

    def look(own: Problem, batch: Batch) -> Apart | None:
        whole = losses if own is problem else loss_of(own, piece, batch)
        return losses_apart(own, piece, batch, whole, parts, factors)

    with torch.no_grad():
        return beyond_rounding(problem, piece, look, losses.dtype)


def beyond_rounding(problem: Problem, piece: Piece, look: Look, dtype: torch.dtype) -> tuple[int, float] | None:
    """What differs in float32 is looked at again in float64: a small loss is the difference of large numbers.

    Args:
        problem: module and loss.
        piece: the batch.
        look: finds the largest difference.
        dtype: of what is looked at.
    """
    found = look(problem, piece.batch)
    if found is None or dtype == torch.float64:
        return found and found[:2]
    try:
        again = look(in_double(problem, list(problem.parameters)), converted(piece.batch))
    except Exception:  # a module that does not run in float64: the single examples have to do
        return None
    # A loss that is zero but for rounding differs there too, by as much less as float64 rounds less
    return again[:2] if again is not None and again.size > ROUNDING * found.size else None


def uneven(size: int) -> int:
    """About half of a batch, with no divisor in common.

    So no kind of example makes up the same part of either half as of the batch, unless all are of it; and what is
    weighed by how many there are of a kind weighs otherwise there.

    Example:
        >>> [uneven(size) for size in (2, 3, 6, 7, 40)]
        [1, 1, 1, 3, 19]
    """
    return next(middle for middle in range(size // 2, 0, -1) if math.gcd(middle, size) == 1)


def parts_of(size: int) -> list[slice]:
    """Parts of a batch of all lengths: some single examples, then each part as long as the two before it together.

    What few examples do as all of them do, one may do otherwise; and a loss that weighs kinds of examples by their
    number weighs them otherwise in most parts.

    Example:
        >>> [[part.stop - part.start for part in parts_of(size)] for size in (3, 31)]
        [[1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 5, 13]]
    """
    lengths = [1] * min(SINGLE, size)
    left = size - len(lengths)
    while left and left >= 2 * (lengths[-2] + lengths[-1]):
        lengths.append(lengths[-2] + lengths[-1])
        left -= lengths[-1]
    ends = list(accumulate([*lengths, left] if left else lengths))
    return [slice(low, high) for low, high in pairwise([0, *ends])]


def one_by_one(places: Iterable[int]) -> list[slice]:
    """Parts of one example each."""
    return [slice(place, place + 1) for place in places]


def pieces_of(size: int, turn: int) -> list[slice]:
    """A batch in about as many parts as each has examples, of neighbours or of every so many, by turns. Two
    examples are in one part of the former or of the latter, never of both.

    Example:
        >>> pieces_of(7, 0)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        >>> pieces_of(7, 1)
        [slice(0, 7, 3), slice(1, 7, 3), slice(2, 7, 3)]
    """
    count = math.isqrt(size - 1) + 1
    if turn % 2:
        return [slice(first, size, count) for first in range(count)]
    ends = [size * k // count for k in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(ends)]


def halves_of(size: int, turn: int) -> list[slice]:
    """A batch in two parts, of neighbours or of every other one, by turns.

    Example:
        >>> halves_of(7, 0), halves_of(7, 1)
        ([slice(0, 3, None), slice(3, 7, None)], [slice(0, 7, 2), slice(1, 7, 2)])
    """
    middle = uneven(size)
    return [slice(k, size, 2) for k in range(2)] if turn % 2 else [slice(0, middle), slice(middle, size)]


def shares_of(parts: Iterable[slice], size: int) -> list[float]:
    """What part of the examples each is.

    Example:
        >>> shares_of([slice(0, 1), slice(1, 4)], 4)
        [0.25, 0.75]
    """
    return [len(range(*part.indices(size))) / size for part in parts]


def of_a_sum(parts: Sequence[slice]) -> tuple[list[slice], list[float]]:
    r"""Parts of a batch, and the factors with which their losses make its own, where that is a sum.

    A constant :math:`c` may be added to it, as a penalty on the parameters, which the loss of each part holds once.
    Two examples tell what it is: :math:`c = \ell_0 + \ell_1 - \ell_{01}`, so that the sum over all is that over
    the :math:`k` parts less :math:`(k - 1) c`.

    Example:
        >>> of_a_sum([slice(0, 3), slice(3, 7)])[1]
        [1.0, 1.0, -1.0, -1.0, 1.0]
    """
    more = len(parts) - 1.0
    return [*parts, slice(0, 1), slice(1, 2), slice(0, 2)], [*[1.0] * len(parts), -more, -more, more]


def losses_apart(
    problem: Problem,
    piece: Piece,
    batch: Batch,
    losses: Tensor,
    parts: Sequence[slice],
    factors: Sequence[float],
) -> Apart | None:
    """The largest difference of a loss, or of the number; None if it is not more than it may be.

    Args:
        problem: module and loss.
        piece: which examples, and how many.
        batch: of them, in the problem's precision.
        losses: of the batch.
        parts: of the batch.
        factors: of the parts.
    """
    each = losses.numel() == piece.size
    found: list[Tensor] = []
    for part, factor in zip(parts, factors, strict=True):
        try:
            few = loss_of(problem, piece, take(batch, part, piece.size)).detach()
        except Exception:  # a batch of another length is not asked for: the single examples have to do
            return None
        if few.numel() != (len(range(*part.indices(piece.size))) if each else 1):
            return None
        found.append(few.reshape(-1).double() * (1.0 if each else factor))
    together, apart = losses.detach().reshape(-1).double(), torch.cat(found)
    places = [place for part in parts for place in range(*part.indices(piece.size))]
    if each:
        together = together[places]
    size = apart.abs().nan_to_num(0.0, 0.0, 0.0)
    if each:
        size = size + size.mean()
    else:
        apart, size = apart.sum(), size.sum()
    difference = (together - apart).abs()
    difference[(difference <= TINY) | ~(together.isfinite() | apart.isfinite())] = 0.0
    relative = difference / size.clamp_min(TINY)
    worst = int(relative.nan_to_num(math.inf).argmax())
    off = float(relative[worst].nan_to_num(math.inf))
    limit = limit_of_losses(losses.dtype)
    if each:
        limit = CLOSE if losses.dtype == torch.float64 else min(limit, CLOSE_SINGLE)
    else:
        limit *= OF_MEANS
    if off <= limit:
        return None
    return Apart(places[worst] if each else 0, off, float(difference[worst].nan_to_num(math.inf)))


def is_of_draws(problem: Problem, piece: Piece) -> bool:
    """Whether the losses of a batch are others with other random numbers."""
    one, other = (loss_of(problem, piece, piece.batch, turn).detach() for turn in (1, 2))  # it may take gradients
    return not torch.equal(one.nan_to_num(), other.nan_to_num())


def loss_of(problem: Problem, piece: Piece, batch: Batch, turn: int = 1) -> Tensor:
    """The loss of a piece's batch, or of a part of it, with the random numbers of the piece, or with others."""
    problem.noise.seed(piece.offset + piece.start, turn)
    with problem.kept(), eager():
        return problem.loss_fn(problem.module, problem.given(batch))


def limit_of_losses(dtype: torch.dtype) -> float:
    """What a loss may be off by, relative to it."""
    return TOLERANCE_DOUBLE if dtype == torch.float64 else 10 * TOLERANCE
