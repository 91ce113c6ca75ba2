"""Is a grouping of the classes visible in the class matrix beyond chance? A permutation test."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from lightning_stiffness import arguments
from lightning_stiffness.functional.classes import side
from lightning_stiffness.functional.superclasses import superclass_tensor

_ALL_UP_TO = 7
"""Classes up to which every order is tried: 7! = 5040."""
_CELLS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class Grouping:
    """What :func:`grouping_test` finds."""

    difference: float
    """Mean stiffness of different classes in one group less that of classes in different groups."""
    p_value: float
    """Share of the orders of the classes in which the difference is as large; NaN without one."""
    permutations: int
    """Number of orders of the classes behind it."""
    exact: bool
    """They were all orders."""


def grouping_test(
    matrix: Float[Tensor, "c c"],
    superclasses: Sequence[int] | Integer[Tensor, " c"],
    *,
    permutations: int = 999,
    seed: int = 0,
) -> Grouping:
    r"""Permutation test: do classes of one group help each other more than chance would have it?

    .. math::
        T(s) = \operatorname{mean}_{a \ne b,\ s(a) = s(b)} C(a, b) - \operatorname{mean}_{s(a) \ne s(b)} C(a, b)

    with :math:`s(a)` the group of class :math:`a`. If the groups said nothing about stiffness, the classes could
    be dealt to groups of these sizes in any other order :math:`\pi` as well. The p-value is one-sided,

    .. math:: p = \frac{\#\{\pi : T(s \circ \pi) \ge T(s)\}}{\text{number of } \pi}

    over all orders for up to 7 classes; for more over ``permutations`` drawn orders and the given one itself,
    which keeps the test valid (Phipson and Smyth, 2010), so that no p is below 1 / (``permutations`` + 1). The
    diagonal C(a, a) takes no part.

    Args:
        matrix: class matrix ``[c, c]``; NaN cells are left out.
        superclasses: group of each class, integers, ``[c]``.
        permutations: how many orders to draw.
        seed: of the draws; no global random state is read or changed.

    Returns:
        The test. ``p_value`` is NaN where there is no cell of one of the two kinds.

    Raises:
        ValueError: if the mapping does not have one integer per class, ``permutations`` < 1, or for other types.

    Example:
        >>> C = torch.full((6, 6), 0.1)
        >>> C[:3, :3] = C[3:, 3:] = 0.4
        >>> test = grouping_test(C, [0, 0, 0, 1, 1, 1])
        >>> round(test.difference, 6), test.p_value  # 72 of the 720 orders keep the groups together
        (0.3, 0.1)
    """
    permutations, seed = arguments.whole("permutations", permutations, 1), arguments.seed(seed)
    classes = side(matrix)
    groups = superclass_tensor(superclasses, classes).to(matrix.device)
    different = ~torch.eye(classes, dtype=torch.bool, device=matrix.device)
    there = different & ~torch.isnan(matrix)
    value = matrix.double().masked_fill(~there, 0.0)
    within = (groups[:, None] == groups[None, :]) & different
    orders = _orders(classes, permutations, seed).to(matrix.device)
    observed = float(_differences(value, there, within, torch.arange(classes, device=matrix.device)[None]))
    exact = classes <= _ALL_UP_TO
    number = len(orders) + int(not exact)
    if math.isnan(observed):
        return Grouping(observed, math.nan, number, exact)
    # Orders that deal the classes alike agree up to the rounding of their sums.
    bar = observed - 1e-12 * max(1.0, float(value.abs().max()))
    step = max(1, _CELLS_AT_A_TIME // max(1, int(within.sum())))
    hits = sum(
        int((_differences(value, there, within, orders[low : low + step]) >= bar).sum())
        for low in range(0, len(orders), step)
    )
    return Grouping(observed, (hits + int(not exact)) / number, number, exact)


def _orders(classes: int, permutations: int, seed: int) -> Int[Tensor, "k c"]:
    """All orders of a few classes; of more classes some drawn ones."""
    if classes <= _ALL_UP_TO:
        return torch.tensor(list(itertools.permutations(range(classes))), dtype=torch.long).reshape(-1, classes)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(permutations, classes, generator=generator, dtype=torch.float64).argsort(1)


def _differences(
    value: Float[Tensor, "c c"],
    there: Bool[Tensor, "c c"],
    within: Bool[Tensor, "c c"],
    orders: Int[Tensor, "k c"],
) -> Float[Tensor, " k"]:
    """T for each order of the classes; NaN, which is not as large as anything, where there is no such cell."""
    rows, columns = torch.nonzero(within, as_tuple=True)
    cells = orders[:, rows], orders[:, columns]
    inside, count = value[cells].sum(1), there[cells].sum(1)
    outside, rest = value.sum() - inside, there.sum() - count
    return torch.where((count > 0) & (rest > 0), inside / count - outside / rest, torch.nan)
