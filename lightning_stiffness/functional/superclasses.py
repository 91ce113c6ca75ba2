"""Groups of classes: stiffness within and between them, on one level or several."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from lightning_stiffness import arguments
from lightning_stiffness.functional.classes import cell_masks, class_stiffness_matrix, means_over, side

Superclasses = (
    Sequence[int] | Integer[Tensor, " c"] | Sequence[Sequence[int] | Integer[Tensor, " c"]] | Integer[Tensor, "l c"]
)
"""Group of each class, or several such groupings of the same classes, the finest first."""


def superclass_summary(matrix: Float[Tensor, "c c"], superclasses: Superclasses) -> dict[str, float]:
    r"""Stiffness between different classes of one super-class, and of different super-classes.

    .. math::
        \text{within} = \operatorname{mean}_{a \ne b,\ s(a) = s(b)} C(a, b) \qquad
        \text{between} = \operatorname{mean}_{s(a) \ne s(b)} C(a, b)

    (Fort et al., arXiv:1901.09491v3, the CIFAR-100 experiments of section 3.)

    Args:
        matrix: class matrix ``[c, c]``; NaN cells are left out.
        superclasses: group ``s(a)`` of each class, integers, length ``c``; or several such levels, such as the
            20 groups of CIFAR-100 and then living or not.

    Returns:
        ``{"within_superclass": …, "between_superclass": …}``, and for the second level the same names with
        ``_2`` behind them, and so on; NaN where there is no such cell.

    Raises:
        ValueError: if a level does not have one integer per class.

    Example:
        >>> C = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
        >>> {name: round(value, 6) for name, value in superclass_summary(C, [0, 0, 1]).items()}
        {'within_superclass': 0.5, 'between_superclass': 0.1}
        >>> round(superclass_summary(C, [[0, 1, 2], [0, 0, 1]])["within_superclass_2"], 6)
        0.5
    """
    masks = cell_masks(side(matrix), superclass_levels(superclasses, len(matrix)))
    return {name: value for name, value in means_over(matrix, masks).items() if "superclass" in name}


def superclass_stiffness_matrix(
    matrix: Float[Tensor, "c c"], superclasses: Sequence[int] | Integer[Tensor, " c"]
) -> Float[Tensor, "s s"]:
    r"""Coarse class matrix: the mean over the cells between two super-classes.

    .. math:: C'(g, h) = \operatorname{mean}\{ C(a, b) : s(a) = g,\ s(b) = h,\ a \ne b \}

    The cells ``C(a, a)`` stay out, so that the diagonal shows what different classes of one group share.

    Args:
        matrix: class matrix ``[c, c]``; NaN cells are left out.
        superclasses: group of each class, integers from 0, length ``c``.

    Returns:
        Coarse matrix ``[s, s]``; NaN where there is no cell (a group of a single class, on the diagonal).

    Raises:
        ValueError: if the mapping does not have one integer per class.

    Example:
        >>> C = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
        >>> superclass_stiffness_matrix(C, [0, 0, 1])
        tensor([[0.5000, 0.1000],
                [0.1000,    nan]])
    """
    groups = superclass_tensor(superclasses, side(matrix)).to(matrix.device)
    # A class matrix is itself a matrix of pairwise values, of classes: the same mean, one level up.
    return class_stiffness_matrix(matrix, groups)


def superclass_tensor(superclasses: Sequence[int] | Integer[Tensor, " c"], num_classes: int) -> Int[Tensor, " c"]:
    """The class → super-class mapping as a checked integer tensor ``[c]``.

    Raises:
        ValueError: if there is not exactly one non-negative integer for each of ``num_classes`` classes.

    Example:
        >>> superclass_tensor([0, 0, 1], 3)
        tensor([0, 0, 1])
    """
    groups = arguments.groups("superclasses", superclasses)
    if any(isinstance(entry, list) for entry in groups):
        raise ValueError(
            f"expected superclasses to be one list of groups here, got a list of {len(groups)}: pass one level at "
            "a time"
        )
    return _level(groups, num_classes)


def superclass_levels(superclasses: Superclasses, num_classes: int | None) -> list[Int[Tensor, " c"]]:
    """The groupings of the classes, each a tensor ``[c]``: one, or several levels of them.

    Args:
        superclasses: one grouping or a sequence of them.
        num_classes: ``c``; None: as many as the first grouping has entries.

    Raises:
        ValueError: if a level does not have one non-negative integer for each class.

    Example:
        >>> [groups.tolist() for groups in superclass_levels([[0, 1, 2], [0, 0, 1]], 3)]
        [[0, 1, 2], [0, 0, 1]]
    """
    groups: list[Any] = arguments.groups("superclasses", superclasses)
    levels = groups if any(isinstance(entry, list) for entry in groups) else [groups]
    return [_level(level, len(levels[0]) if num_classes is None else num_classes) for level in levels]


def _level(groups: list[Any], num_classes: int) -> Tensor:
    if len(groups) != num_classes:
        raise ValueError(
            f"expected superclasses to give one group for each of the {num_classes} classes, got shape "
            f"[{len(groups)}]: pass a list where entry a is the group of class a"
        )
    if any(group < 0 for group in groups):
        raise ValueError(f"expected superclasses to be integers from 0, got {arguments.shown(groups)}")
    return torch.tensor(groups, dtype=torch.long)
