"""The gradient that a batch's losses give together, held against those of its halves."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_stiffness.gram.apart import OF_MEANS, TINY, Apart, beyond_rounding, limit_of_losses, loss_of, uneven
from lightning_stiffness.gram.batch import Batch, take
from lightning_stiffness.gram.problem import Problem
from lightning_stiffness.gram.references import Piece

SHARE = 8
"""Of what part of the room gradients take, those that are held against each other may."""

UNLIKE = Apart(0, math.inf, math.inf)


def gradients_apart(problem: Problem, piece: Piece, losses: Tensor, room: int) -> tuple[int, float] | None:
    """By how much of it the gradient that a batch's losses give together differs from what its halves give.

    A forward and a backward pass more, and those of the halves. What stops the gradient of some examples, by their
    place in a batch or by their rank among the others, changes no loss, and may show at none of those taken alone.

    Args:
        problem: module and loss.
        piece: the batch.
        losses: of its examples; or their mean.
        room: bytes for what is measured; gradients by large parameters beyond a part of it are left out.

    Returns:
        0 for the place, and the difference; None if there is none, or a half can't be taken.
    """
    own, weights = _with_room(problem, room), None
    if losses.numel() == piece.size:  # at the end of a training their plain sum may have next to no gradient
        weights = torch.randn(piece.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def look(own: Problem, batch: Batch) -> Apart | None:
        middle = uneven(piece.size) / piece.size
        parts = _three(own, piece, batch, weights)
        return parts and _gradients_apart(parts, (1.0, 1.0) if weights is not None else (middle, 1 - middle))

    return beyond_rounding(own, piece, look, losses.dtype) if own.parameters else None


def is_between(problem: Problem, piece: Piece, room: int) -> bool:
    r"""Whether the loss of a batch is a weighted mean of its halves' losses, and its gradient of their gradients.

    They are for :math:`\sum_i w_i \ell_i / \sum_i w_i`, as a mean over the labels that are not to be ignored, with
    weights that say nothing of each other. Where examples affect each other gradients are others.

    Args:
        problem: module and loss.
        piece: the batch.
        room: bytes for what is measured, as in :func:`gradients_apart`.
    """
    own = _with_room(problem, room)

    def look(own: Problem, batch: Batch) -> Apart | None:
        parts = _three(own, piece, batch, None)
        return UNLIKE if parts is None else _weighted_apart(parts)

    dtype = next(iter(problem.parameters.values())).dtype
    return bool(own.parameters) and beyond_rounding(own, piece, look, dtype, doubtful=True) is None


class Parts(NamedTuple):
    """Losses and gradients, by each parameter, of a batch and its halves."""

    losses: list[Tensor]
    gradients: list[list[Tensor]]


def _three(problem: Problem, piece: Piece, batch: Batch, weights: Tensor | None) -> Parts | None:
    middle, size = uneven(piece.size), piece.size
    found = [_gradient(problem, piece, batch, weights)]
    for part in (slice(0, middle), slice(middle, size)):
        few = None if weights is None else weights[part]
        found.append(_gradient(problem, piece, take(batch, part, size), few))
    parts = [one for one in found if one is not None]
    return Parts([loss for loss, _ in parts], [own for _, own in parts]) if len(parts) == len(found) else None


def _gradients_apart(parts: Parts, factors: tuple[float, float]) -> Apart | None:
    """The largest difference between a batch's gradient and those of its halves times some factors."""
    worst = Apart(0, 0.0, 0.0)
    for together, left, right in zip(*parts.gradients, strict=True):
        left, right = left * factors[0], right * factors[1]
        if not bool((together.isfinite() & left.isfinite() & right.isfinite()).all()):
            continue
        difference = float(torch.linalg.vector_norm(together - left - right))
        length = max(float(torch.linalg.vector_norm(part)) for part in (together, left, right))
        if difference > TINY and difference > worst.relative * length:
            worst = Apart(0, difference / length, difference)
    return worst if worst.relative > limit_of_losses(parts.gradients[0][0].dtype) * OF_MEANS else None


def _weighted_apart(parts: Parts) -> Apart | None:
    """The same with whichever factors, that are positive and one together, fit the gradients best."""
    together, left, right = (torch.cat([g.flatten().double() for g in one]) for one in parts.gradients)
    across = left - right
    share = float(torch.dot(together - right, across) / torch.dot(across, across))
    if not 0 < share < 1:
        return UNLIKE
    whole, one, other = (float(loss) for loss in parts.losses)
    expected = share * one + (1 - share) * other
    limit = limit_of_losses(parts.losses[0].dtype) * OF_MEANS
    if not abs(whole - expected) <= limit * max(abs(one), abs(other)):
        return Apart(0, abs(whole - expected) / max(abs(one), abs(other)), abs(whole - expected))
    return _gradients_apart(parts, (share, 1 - share))


def _with_room(problem: Problem, room: int) -> Problem:
    """The problem by its smaller parameters, whose gradients take but a part of the room."""
    parameters = problem.parameters
    names: list[str] = []
    left = room // SHARE
    for name in sorted(parameters, key=lambda name: parameters[name].numel()):
        left -= 3 * parameters[name].numel() * parameters[name].element_size()
        names += [name] * (left >= 0)
    return problem.of(names)


def _gradient(
    problem: Problem, piece: Piece, batch: Batch, weights: Tensor | None
) -> tuple[Tensor, list[Tensor]] | None:
    """The sum of losses with their weights, or a loss that is one number, and its gradient."""
    parameters = list(problem.parameters.values())
    try:
        loss = loss_of(problem, piece, batch)
        total = loss.reshape(()) if weights is None else (loss.reshape(-1) * weights.to(loss)).sum()
        return total.detach(), list(torch.autograd.grad(total, parameters, materialize_grads=True))
    except Exception:  # a batch of another length is not asked for: the single examples have to do
        return None
