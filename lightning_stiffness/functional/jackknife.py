"""One example left out at a time: how much each one matters to a mean over cells of the class matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_stiffness.functional.resampling import Block, per_stratum


def jackknife_variance(deleted: Tensor, strata: Tensor) -> Tensor:
    r"""Variance of a statistic from its values with one example left out, stratum by stratum.

    .. math:: \sum_a \frac{n_a - 1}{n_a} \sum_{i \in a} (T_{(-i)} - \bar T_a)^2

    Args:
        deleted: :math:`T_{(-i)}` of ``k`` statistics, ``[k, n]``.
        strata: stratum of each example, ``[n]``.

    Returns:
        Variances ``[k]``.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 6.0]])  # the mean of 3 numbers: their variance over 3
        >>> jackknife_variance((x.sum() - x) / 2, torch.zeros(3, dtype=torch.long))
        tensor([2.3333])
    """
    values = deleted.T
    groups = per_stratum(values, strata)
    scale = ((groups.size - 1) / groups.size)[strata]
    return (scale * (values - groups.mean[strata]) ** 2).sum(0)


@dataclass(frozen=True)
class Without:
    """Sums over the cells of the class matrix without each example ``i`` of one side, by :func:`without_each`.

    The last of the ``k + 1`` sums counts the pairs. Only the row of cells of the example's own class changes; in a
    symmetric block their column does too.
    """

    mine: Tensor
    """Class of each example of that side, ``[n]``."""
    cells: Tensor
    """With all examples, ``[k + 1, c, c]``; that side's classes first."""
    row: Tensor
    """Cells (class of i, b) without i, ``[k + 1, n, c]``."""
    column: Tensor | None
    """Cells (a, class of i) without i, ``[k + 1, n, c]``; None where that is the other side's."""


def without_each(every: Tensor, block: Block, classes: int) -> list[Without]:
    """The sums without each example, for each side that is drawn from.

    Args:
        every: of each pair, by ``k`` measures, and last 1 where it counts, ``[k + 1, n, m]``; else 0.
        block: the pairs, with classes as strata.
        classes: ``c``.

    Example:
        >>> S, y = torch.tensor([[0.0, 0.1, 0.2], [0.1, 0.0, 0.6], [0.2, 0.6, 0.0]]), torch.tensor([0, 0, 0])
        >>> every = torch.stack([S, 1 - torch.eye(3)]).double()
        >>> (without,) = without_each(every, Block(every[-1] > 0, y, y, True), 1)
        >>> without.row[0, :, 0]  # of the pairs left, each twice
        tensor([1.2000, 0.4000, 0.2000], dtype=torch.float64)
    """
    of_rows, of_columns = (
        torch.nn.functional.one_hot(y, classes).to(every.dtype) for y in (block.rows, block.columns)
    )
    with_columns = every @ of_columns
    with_rows = with_columns if block.symmetric else (of_rows.T @ every).transpose(1, 2)
    cells = of_rows.T @ with_columns
    row = cells[:, block.rows] - with_columns
    column = cells.transpose(1, 2)[:, block.columns] - with_rows
    if not block.symmetric:
        return [Without(block.rows, cells, row, None), Without(block.columns, cells.mT, column, None)]
    each = torch.arange(len(block.rows), device=every.device)
    row[:, each, block.rows] -= with_rows[:, each, block.rows]
    return [Without(block.rows, cells, row, column)]


def means_without(without: Without, share: Tensor) -> Tensor:
    r"""Weighted means over the cells of the class matrix, without each example of one side.

    .. math:: \frac{\sum_{a, b} s(a, b)\, C_{(-i)}(a, b)}{\sum_{a, b} s(a, b)}

    over the cells that still have a pair.

    Args:
        without: the sums.
        share: weights of the cells for ``q`` means, ``[q, c, c]``, that side's classes first.

    Returns:
        ``[k, q, n]``.

    Example:
        >>> S, y = torch.tensor([[0.0, 0.1, 0.2], [0.1, 0.0, 0.6], [0.2, 0.6, 0.0]]), torch.tensor([0, 0, 0])
        >>> every = torch.stack([S, 1 - torch.eye(3)]).double()
        >>> (without,) = without_each(every, Block(every[-1] > 0, y, y, True), 1)
        >>> means_without(without, torch.ones(1, 1, 1).double()).squeeze()
        tensor([0.6000, 0.2000, 0.1000], dtype=torch.float64)
    """
    mine, cells = without.mine, without.cells
    mean, there = _mean(cells)
    changes = [(without.row, cells[:, mine], share[:, mine])]
    if without.column is not None:
        share_below = share.transpose(1, 2)[:, mine].clone()
        share_below[:, torch.arange(len(mine), device=mine.device), mine] = 0.0  # the row has the cell (a, a)
        changes.append((without.column, cells.transpose(1, 2)[:, mine], share_below))
    upper = torch.einsum("qab,kab->kq", share, mean)[..., None]
    lower = torch.einsum("qab,ab->q", share, there)[..., None]
    for after, before, weight in changes:
        (new, new_there), (old, old_there) = _mean(after), _mean(before)
        upper = upper + torch.einsum("qnb,knb->kqn", weight, new - old)
        lower = lower + torch.einsum("qnb,nb->qn", weight, new_there - old_there)
    return torch.where(lower > 0, upper / lower, torch.nan)


def cells_variance(without: list[Without]) -> Tensor:
    r"""Variance of each cell of the class matrix, with one example left out at a time.

    A cell (a, b) depends on the examples of class a in its rows and on those of class b in its columns; their
    variances add up. Within a class of a symmetric block they are the same examples, left out of both.

    Args:
        without: the sums, for each side that is drawn from.

    Returns:
        ``[k, c, c]``; NaN where a cell has a pair only with one of its examples.

    Example:
        >>> S, y = torch.tensor([[0.0, 0.1, 0.2], [0.1, 0.0, 0.6], [0.2, 0.6, 0.0]]), torch.tensor([0, 0, 0])
        >>> every = torch.stack([S, 1 - torch.eye(3)]).double()
        >>> without = without_each(every, Block(every[-1] > 0, y, y, True), 1)
        >>> cells_variance(without)  # 2/3 of the squared deviations of 0.6, 0.2, 0.1
        tensor([[[0.0933]]], dtype=torch.float64)
    """
    by_rows, *by_columns = (_rows_variance(side) for side in without)
    if by_columns:
        return by_rows + by_columns[0].mT
    other = by_rows.mT.clone()
    other.diagonal(dim1=1, dim2=2).zero_()
    return by_rows + other


def _rows_variance(without: Without) -> Tensor:
    """The part that comes from the examples of the rows, ``[k, c, c]``."""
    mine, rest = without.mine, without.row
    there = rest[-1] > 0.5  # counts are whole numbers
    cells = torch.where(there, rest[:-1] / rest[-1], torch.nan).permute(1, 0, 2)
    groups = per_stratum(cells, mine)
    scale = ((groups.size - 1) / groups.size)[mine]
    deviations = scale * (cells - groups.mean[mine]) ** 2
    shape = without.cells.shape[1], *deviations.shape[1:]
    return deviations.new_zeros(shape).index_add(0, mine, deviations).transpose(0, 1)


def _mean(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and, last, counts → means, 0 where there is no pair, and where there is one."""
    sums, counts = cells[:-1], cells[-1]
    there = counts > 0.5  # counts are whole numbers
    return torch.where(there, sums / counts, 0.0), there.to(sums.dtype)
