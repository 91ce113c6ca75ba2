"""One example left out at a time: how much each one matters to a mean over cells of the class matrix."""

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


def means_without(values: Tensor, block: Block, share: Tensor, side: int) -> Tensor:
    r"""Weighted means over the cells of the class matrix, without each example of one side.

    .. math:: \frac{\sum_{a, b} s(a, b)\, C_{(-i)}(a, b)}{\sum_{a, b} s(a, b)}

    over the cells that still have a pair.

    Args:
        values: of each pair, by ``k`` measures, ``[k, n, m]``; 0 where the block counts no pair.
        block: the pairs, with classes as strata.
        share: weights of the cells for ``q`` means, ``[q, c, c]``.
        side: whose examples to leave out, 0 for the rows and 1 for the columns.

    Returns:
        ``[k, q, n]``, or ``[k, q, m]`` for the columns.

    Example:
        >>> S, y = torch.tensor([[[0.0, 0.1, 0.2], [0.1, 0.0, 0.6], [0.2, 0.6, 0.0]]]), torch.tensor([0, 0, 0])
        >>> block = Block(~torch.eye(3, dtype=torch.bool), y, y, True)
        >>> means_without(S.double(), block, torch.ones(1, 1, 1).double(), 0).squeeze()
        tensor([0.6000, 0.2000, 0.1000], dtype=torch.float64)
    """
    classes = share.shape[-1]
    mine, theirs = block.sides[side], block.columns if side == 0 else block.rows
    every = torch.cat([values, block.counted.to(values.dtype)[None]])
    if side == 1:
        every, share = every.transpose(1, 2), share.transpose(1, 2)
    to_mine, to_theirs = (torch.nn.functional.one_hot(y, classes).to(values.dtype) for y in (mine, theirs))
    lost = every @ to_theirs
    cells = to_mine.T @ lost
    mean, there = _mean(cells)
    # Leaving out an example of class a changes the row of cells a, and in a symmetric block the column too.
    row = cells[:, mine] - lost
    changes = [(row, cells[:, mine], share[:, mine])]
    if block.symmetric:
        each = torch.arange(len(mine), device=values.device)
        lost_below = (to_mine.T @ every).transpose(1, 2)
        row[:, each, mine] -= lost_below[:, each, mine]
        below = cells.transpose(1, 2)[:, mine]
        share_below = share.transpose(1, 2)[:, mine].clone()
        share_below[:, each, mine] = 0.0  # the cell (a, a) is in the row already
        changes.append((below - lost_below, below, share_below))
    upper = torch.einsum("qab,kab->kq", share, mean)[..., None]
    lower = torch.einsum("qab,ab->q", share, there)[..., None]
    for after, before, weight in changes:
        (new, new_there), (old, old_there) = _mean(after), _mean(before)
        upper = upper + torch.einsum("qnb,knb->kqn", weight, new - old)
        lower = lower + torch.einsum("qnb,nb->qn", weight, new_there - old_there)
    return torch.where(lower > 0, upper / lower, torch.nan)


def cells_variance(values: Tensor, block: Block, classes: int) -> Tensor:
    r"""Variance of each cell of the class matrix, with one example left out at a time.

    A cell (a, b) depends on the examples of class a in its rows and on those of class b in its columns; their
    variances add up. Within a class of a symmetric block they are the same examples, left out of both.

    Args:
        values: of each pair, by ``k`` measures, ``[k, n, m]``; 0 where the block counts no pair.
        block: the pairs, with classes as strata.
        classes: ``c``.

    Returns:
        ``[k, c, c]``; NaN where a cell has a pair only with one of its examples.

    Example:
        >>> S, y = torch.tensor([[[0.0, 0.1, 0.2], [0.1, 0.0, 0.6], [0.2, 0.6, 0.0]]]), torch.tensor([0, 0, 0])
        >>> block = Block(~torch.eye(3, dtype=torch.bool), y, y, True)
        >>> cells_variance(S.double(), block, 1)  # 2/3 of the squared deviations of 0.6, 0.2, 0.1
        tensor([[[0.0933]]], dtype=torch.float64)
    """
    every = torch.cat([values, block.counted.to(values.dtype)[None]])
    by_rows = _rows_variance(every, block.rows, block.columns, classes, both=block.symmetric)
    if not block.symmetric:
        columns = _rows_variance(every.transpose(1, 2), block.columns, block.rows, classes, both=False)
        return by_rows + columns.transpose(1, 2)
    other = by_rows.transpose(1, 2).clone()
    other.diagonal(dim1=1, dim2=2).zero_()
    return by_rows + other


def _rows_variance(every: Tensor, mine: Tensor, theirs: Tensor, classes: int, *, both: bool) -> Tensor:
    """The part that comes from the examples of the rows, ``[k, c, c]``; ``both``: they are those of the columns."""
    to_mine, to_theirs = (torch.nn.functional.one_hot(y, classes).to(every.dtype) for y in (mine, theirs))
    lost = every @ to_theirs
    rest = (to_mine.T @ lost)[:, mine] - lost
    if both:
        each = torch.arange(len(mine), device=every.device)
        rest[:, each, mine] -= (to_mine.T @ every).transpose(1, 2)[:, each, mine]
    there = rest[-1] > 0.5  # counts are whole numbers
    without = torch.where(there, rest[:-1] / rest[-1], torch.nan).permute(1, 0, 2)
    groups = per_stratum(without, mine)
    scale = ((groups.size - 1) / groups.size)[mine]
    deviations = scale * (without - groups.mean[mine]) ** 2
    return deviations.new_zeros(classes, *deviations.shape[1:]).index_add(0, mine, deviations).transpose(0, 1)


def _mean(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and, last, counts → means, 0 where there is no pair, and where there is one."""
    sums, counts = cells[:-1], cells[-1]
    there = counts > 0.5  # counts are whole numbers
    return torch.where(there, sums / counts, 0.0), there.to(sums.dtype)
