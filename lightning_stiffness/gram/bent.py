"""The gradient that a batch's losses give together, held against those of its parts."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_stiffness.gram.apart import (
    OF_MEANS,
    TINY,
    Apart,
    beyond_rounding,
    limit_of_losses,
    loss_of,
)
from lightning_stiffness.gram.batch import Batch, take
from lightning_stiffness.gram.check import ROUNDED, TIMES
from lightning_stiffness.gram.precise import converted, in_double
from lightning_stiffness.gram.problem import Problem
from lightning_stiffness.gram.references import Piece

SHARE = 8
"""Of what part of the room gradients take, those that are held against each other may."""

MOST = 1 << 21
"""Entries of gradients of parts of a batch that are looked at together."""


class _Found(NamedTuple):
    """A loss, and its gradient by each parameter."""

    loss: Tensor
    gradient: list[Tensor]


def gradients_apart(
    problem: Problem,
    piece: Piece,
    losses: Tensor,
    parts: Sequence[slice],
    factors: Sequence[float],
    room: int,
) -> tuple[int, float] | None:
    """By how much of it the gradient that a batch's losses give together differs from what its parts give.

    A forward and a backward pass more, and those of the parts. What stops the gradient of some examples, by their
    place in a batch or by their rank among the others, changes no loss, and may show at none of those taken alone.

    Args:
        problem: module and loss.
        piece: the batch.
        losses: of its examples; or their mean or sum.
        parts: of the batch, all of it.
        factors: what the loss of each part is multiplied with, where that of a batch is one number.
        room: bytes for what is measured; gradients by large parameters beyond a part of it are left out.

    Returns:
        0 for the place, and the difference; None if there is none, or a part can't be taken.
    """
    own, weights = _with_room(problem, room), None
    if losses.numel() == piece.size:  # at the end of a training their plain sum may have next to no gradient
        weights = torch.randn(piece.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def look(own: Problem, batch: Batch) -> Apart | None:
        whole = _gradient(own, piece, batch, weights)
        if whole is None:
            return None
        sums, longest = [torch.zeros_like(g) for g in whole.gradient], _lengths(whole.gradient)
        for part, factor in zip(parts, factors, strict=True):
            few = _gradient(own, piece, take(batch, part, piece.size), None if weights is None else weights[part])
            if few is None:
                return None
            found = [g * factor for g in few.gradient] if weights is None else few.gradient
            sums = [before + more for before, more in zip(sums, found, strict=True)]
            longest = [max(pair) for pair in zip(longest, _lengths(found), strict=True)]
        return _largest(whole.gradient, sums, longest, partial(_gradient, own, piece, batch, weights))

    return beyond_rounding(own, piece, look, losses.dtype) if own.parameters else None


def is_made_of_parts(problem: Problem, piece: Piece, parts: Sequence[slice], room: int) -> bool | None:
    r"""Whether the gradient of a batch is that of its parts, each times a factor of its own that is not negative.

    So it is for :math:`\sum_i w_i \ell_i / \sum_i w_i`, as a mean over the labels that are not to be ignored, with
    weights that say nothing of each other. Where examples affect each other gradients are others.

    Args:
        problem: module and loss, which is one number.
        piece: the batch.
        parts: of the batch.
        room: bytes for what is measured: smaller parameters tell.

    Returns:
        None where there is no telling.
    """
    count = len(parts)
    # what _with_room counts are 24 bytes an entry, in float64
    own = _with_room(problem, min(room, SHARE * 24 * MOST // count))
    if sum(p.numel() for p in own.parameters.values()) < 4 * count:  # which any factors may fit
        return None
    fits = _fit_together(own, piece, piece.batch, parts)
    if fits is not False or next(iter(own.parameters.values())).dtype == torch.float64:
        return fits
    try:
        double, batch = in_double(own, list(own.parameters)), converted(piece.batch)
    except Exception:  # a module that can't be copied
        return None
    return _fit_together(double, piece, batch, parts)


def _fit_together(problem: Problem, piece: Piece, batch: Batch, parts: Sequence[slice]) -> bool | None:
    whole = _gradient(problem, piece, batch, None)
    few = [_gradient(problem, piece, take(batch, part, piece.size), None) for part in parts]
    if whole is None or not all(few):
        return None
    found = [one.gradient for one in few if one is not None]
    found = [one for one in found if all(bool(g.isfinite().all()) for g in one)]  # without a label there is none
    if not found or not all(bool(g.isfinite().all()) for g in whole.gradient):
        return None
    columns = torch.stack([_flat(one) for one in found], dim=1)
    factors: list[float] = torch.linalg.lstsq(columns, _flat(whole.gradient)[:, None], driver="gelsd")[0][
        :, 0
    ].tolist()
    lengths = torch.linalg.vector_norm(columns, dim=0).tolist()
    least = limit_of_losses(whole.loss.dtype) * float(torch.linalg.vector_norm(_flat(whole.gradient)))
    if any(factor * length < -least for factor, length in zip(factors, lengths, strict=True)):
        return False
    sums = [sum(f * g for f, g in zip(factors, own, strict=True)) for own in zip(*found, strict=True)]
    sums = [torch.as_tensor(one) for one in sums]
    multiple = partial(_gradient, problem, piece, batch, None)
    return _largest(whole.gradient, sums, _lengths(whole.gradient), multiple) is None


def _flat(gradient: list[Tensor]) -> Tensor:
    """In float64, on the processor: there are routines for columns that are no basis."""
    flat = [torch.view_as_real(one).flatten() if one.is_complex() else one.flatten() for one in gradient]
    return torch.cat([one.double().cpu() for one in flat])


def _largest(
    together: list[Tensor], sums: list[Tensor], longest: list[float], multiple: Callable[[float], _Found | None]
) -> Apart | None:
    """The largest difference of gradients, relative to the longest of what they are made of, if it is too large.

    The gradient of a parameter may be nothing but rounding, as that of the bias of an attention's keys, which a
    softmax does not see. Such a one is another for another multiple of the loss, by next to nothing beside the
    largest of all.

    Args:
        together: gradients of a batch.
        sums: of its parts.
        longest: of both, the norms.
        multiple: gives those of the batch for so many times its loss.
    """
    limit = limit_of_losses(together[0].dtype) * OF_MEANS
    differences = _lengths([whole - other for whole, other in zip(together, sums, strict=True)])
    apart = [
        k
        for k, (difference, length) in enumerate(zip(differences, longest, strict=True))
        if math.isfinite(difference) and difference > max(TINY, limit * length)
    ]
    again = multiple(TIMES[0]) if apart else None
    if again is not None:
        noise = _lengths([again.gradient[k] / TIMES[0] - together[k] for k in apart])
        most = limit * max(longest)  # what grows otherwise than the loss, as by a hook that clips, is more
        rounding = [differences[k] <= ROUNDED * own <= ROUNDED * most for k, own in zip(apart, noise, strict=True)]
        apart = [k for k, nothing in zip(apart, rounding, strict=True) if not nothing]
    longest = [max(length, TINY) for length in longest]
    worst = max(apart, key=lambda k: differences[k] / longest[k], default=None)
    return None if worst is None else Apart(0, differences[worst] / longest[worst], differences[worst])


def _lengths(gradient: list[Tensor]) -> list[float]:
    return [float(torch.linalg.vector_norm(one)) for one in gradient]


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
    problem: Problem, piece: Piece, batch: Batch, weights: Tensor | None, times: float = 1.0
) -> _Found | None:
    """Of the sum of losses with their weights, or of a loss that is one number; of so many times it."""
    parameters = list(problem.parameters.values())
    try:
        loss = loss_of(problem, piece, batch)
        total = loss.reshape(()) if weights is None else (loss.reshape(-1) * weights.to(loss)).sum()
        found = torch.autograd.grad(times * total, parameters, materialize_grads=True)
        return _Found(total.detach(), list(found))
    except Exception:  # a batch of another length is not asked for: the single examples have to do
        return None
