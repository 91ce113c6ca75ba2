"""Pairwise stiffness and labels → class matrix, within-class and between-class stiffness."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from lightning_stiffness import arguments
from lightning_stiffness.arguments import label_tensor, mask_tensor, real_tensor


def class_stiffness_matrix(
    stiffness: Float[Tensor, "n m"],
    labels: Integer[Tensor, " n"],
    other_labels: Integer[Tensor, " m"] | None = None,
    *,
    num_classes: int | None = None,
    same_example: Bool[Tensor, "n m"] | None = None,
) -> Float[Tensor, "c c"]:
    r"""Mean stiffness between every two classes.

    .. math:: C(a, b) = \operatorname{mean}\{ S(i, j) : y_i = a,\ y_j = b,\ i \ne j \}

    (Fort et al., arXiv:1901.09491v3, section 2.3.) Pairs without a stiffness (NaN) are left out.

    Args:
        stiffness: cosine or sign stiffness of every pair, shape ``[n, m]``.
        labels: class of each row, integers in ``[0, c)``, shape ``[n]``.
        other_labels: class of each column, shape ``[m]``. Left out: rows and columns are the same
            examples in the same order, and the diagonal does not count.
        num_classes: ``c``; by default one more than the largest label.
        same_example: mask ``[n, m]`` of the pairs of an example with itself, where the columns are another
            set that shares examples with the rows.

    Returns:
        Class matrix ``[c, c]``, dimensionless, in [-1, 1]; a cell without a pair is NaN.

    Raises:
        ValueError: if shapes or kinds of numbers do not fit, or labels lie outside ``[0, c)``.

    Example:
        >>> S = torch.tensor([[1.0, 0.5, -0.2], [0.5, 1.0, 0.0], [-0.2, 0.0, 1.0]])
        >>> class_stiffness_matrix(S, torch.tensor([0, 0, 1]))
        tensor([[ 0.5000, -0.1000],
                [-0.1000,     nan]])
    """
    sums, counts = class_sums(stiffness, labels, other_labels, num_classes=num_classes, same_example=same_example)
    return (sums / counts).to(stiffness.dtype)  # 0 / 0 is NaN: no pair, no value


def class_sums(
    stiffness: Float[Tensor, "n m"],
    labels: Integer[Tensor, " n"],
    other_labels: Integer[Tensor, " m"] | None = None,
    *,
    num_classes: int | None = None,
    same_example: Bool[Tensor, "n m"] | None = None,
) -> tuple[Float[Tensor, "c c"], Int[Tensor, "c c"]]:
    r"""Sum of the stiffness and number of the pairs behind each cell of :func:`class_stiffness_matrix`.

    Takes the same arguments and raises the same errors.

    Returns:
        Sums ``[c, c]``, float64 whatever the stiffness is in (half precision ends at 65504), and counts
        ``[c, c]``. Both add up over parts of the pairs.

    Example:
        >>> sums, counts = class_sums(torch.eye(3), torch.tensor([0, 0, 1]))
        >>> counts.tolist()
        [[2, 2], [2, 0]]
    """
    sums, counts = class_sums_of_each(
        [stiffness], labels, other_labels, num_classes=num_classes, same_example=same_example
    )
    return sums[0], counts


def class_sums_of_each(
    stiffness: Sequence[Tensor],
    labels: Tensor,
    other_labels: Tensor | None = None,
    *,
    num_classes: int | None = None,
    same_example: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`class_sums` of ``k`` measures that lack the same pairs: sums ``[k, c, c]``, counts ``[c, c]``."""
    counted = countable_pairs(stiffness[0], symmetric=other_labels is None, same_example=same_example)
    other = labels if other_labels is None else other_labels
    known = None if num_classes is None else arguments.whole("num_classes", num_classes, 1)
    labels = label_tensor("labels", labels, counted.shape[0], each="row", classes=known)
    other = label_tensor("other_labels", other, counted.shape[1], each="column", classes=known)
    classes = known or max([int(side.max()) + 1 for side in (labels, other) if len(side)], default=1)
    # In float64, where counts of pairs are exact up to 2^53
    rows, columns = (torch.nn.functional.one_hot(side, classes).double() for side in (labels, other))
    sums = [rows.T @ (torch.where(counted, S, 0.0).to(rows.dtype) @ columns) for S in stiffness]
    counts = rows.T @ (counted.to(rows.dtype) @ columns)
    return torch.stack(sums), counts.round().long()


def countable_pairs(
    stiffness: Float[Tensor, "n m"],
    *,
    symmetric: bool,
    same_example: Bool[Tensor, "n m"] | None = None,
) -> Bool[Tensor, "n m"]:
    """Pairs that enter a mean: those that have a stiffness and are not one example with itself.

    Args:
        stiffness: stiffness of every pair, shape ``[n, m]``.
        symmetric: rows and columns are the same examples in the same order.
        same_example: mask ``[n, m]`` of further pairs of an example with itself; in either order, if symmetric.

    Returns:
        Mask ``[n, m]``.

    Raises:
        ValueError: if ``symmetric`` and not square, the mask has another shape, or for no tensors.

    Example:
        >>> countable_pairs(torch.tensor([[1.0, 0.5], [float("nan"), 1.0]]), symmetric=True).tolist()
        [[False, True], [False, False]]
    """
    stiffness = real_tensor("stiffness", stiffness, "n m")
    counted = ~torch.isnan(stiffness)
    if arguments.switch("symmetric", symmetric):
        if stiffness.shape[0] != stiffness.shape[1]:
            raise ValueError(
                "expected stiffness [n, n] of one set of examples, where neither other_labels nor symmetric=False "
                f"say that the columns are others, got {list(stiffness.shape)}"
            )
        counted = counted & ~torch.eye(len(stiffness), dtype=torch.bool, device=stiffness.device)
    if same_example is not None:
        same_example = mask_tensor("same_example", same_example, ("stiffness", stiffness))
        counted = counted & ~(same_example | same_example.T if symmetric else same_example)
    return counted


def overall_stiffness(
    stiffness: Float[Tensor, "n m"],
    *,
    symmetric: bool,
    same_example: Bool[Tensor, "n m"] | None = None,
) -> float:
    """Mean stiffness over all pairs of different examples, whatever their class.

    Args: see :func:`countable_pairs`.

    Returns:
        The mean, dimensionless; NaN without a pair.

    Example:
        >>> overall_stiffness(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), symmetric=True)
        0.5
    """
    counted = countable_pairs(stiffness, symmetric=symmetric, same_example=same_example)
    # Choosing the pairs first would copy them, at seven times the time
    return float(stiffness.masked_fill(~counted, 0.0).sum(dtype=torch.float64) / counted.sum())


def class_summary(matrix: Float[Tensor, "c c"]) -> dict[str, float]:
    r"""Within-class and between-class stiffness of a class matrix.

    .. math::
        \text{within} = \operatorname{mean}_a C(a, a) \qquad
        \text{between} = \operatorname{mean}_{a \ne b} C(a, b)

    (Fort et al., arXiv:1901.09491v3, section 2.3, Eq. 7: means over cells, not over pooled pairs.)

    Args:
        matrix: class matrix ``[c, c]``; NaN cells are left out.

    Returns:
        ``{"within_class": …, "between_class": …}``; NaN where every cell is missing.

    Raises:
        ValueError: if the matrix is not square.

    Example:
        >>> class_summary(torch.tensor([[0.5, -0.25], [0.25, 1.0]]))
        {'within_class': 0.75, 'between_class': 0.0}
    """
    return means_over(matrix, cell_masks(side(matrix), []))


def cell_masks(num_classes: int, levels: Sequence[Integer[Tensor, " c"]]) -> dict[str, Bool[Tensor, "c c"]]:
    """Which cells of the class matrix each of its summaries is the mean of.

    Args:
        num_classes: ``c``.
        levels: groupings of the classes.

    Example:
        >>> {name: int(cells.sum()) for name, cells in cell_masks(3, [torch.tensor([0, 0, 1])]).items()}
        {'within_class': 3, 'between_class': 6, 'within_superclass': 2, 'between_superclass': 4}
    """
    same_class = torch.eye(num_classes, dtype=torch.bool, device=levels[0].device if levels else None)
    masks = {"within_class": same_class, "between_class": ~same_class}
    for number, groups in enumerate(levels, start=1):
        same_group = groups[:, None] == groups[None, :]
        behind = "" if number == 1 else f"_{number}"
        masks[f"within_superclass{behind}"] = same_group & ~same_class
        masks[f"between_superclass{behind}"] = ~same_group
    return masks


def means_over(matrix: Tensor, masks: dict[str, Tensor]) -> dict[str, float]:
    """The mean over each choice of cells ``[c, c]``; NaN cells are left out."""
    there = ~torch.isnan(matrix)
    return {name: float(matrix[cells.to(matrix.device) & there].double().mean()) for name, cells in masks.items()}


def side(matrix: Tensor) -> int:
    """The number of classes of a class matrix; ``ValueError`` if it is none."""
    return int(real_tensor("matrix", matrix, "c c").shape[0])
