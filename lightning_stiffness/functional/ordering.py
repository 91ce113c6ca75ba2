"""Orders of the classes that make the structure of a class matrix visible."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from lightning_stiffness.arguments import choice
from lightning_stiffness.functional.classes import side
from lightning_stiffness.functional.superclasses import superclass_tensor

ORDERS = ("given", "group", "cluster")
"""The names that ``order=`` takes."""


def class_order(
    matrix: Float[Tensor, "c c"],
    order: str = "cluster",
    superclasses: Sequence[int] | Integer[Tensor, " c"] | None = None,
) -> list[int]:
    r"""The classes in an order in which those that help each other stand together.

    ``"cluster"`` is the order of the leaves of a hierarchical clustering with average linkage at the distance

    .. math:: d(a, b) = 1 - \tfrac{1}{2} (C(a, b) + C(b, a))

    with neighbouring leaves as near as the tree allows (Bar-Joseph et al., 2001). A pair of classes without a
    value counts as far as the mean of the others.

    Args:
        matrix: class matrix ``[c, c]``; NaN where there is no pair.
        order: ``"given"`` (as the classes are numbered), ``"group"`` (by super-class, and as numbered within), or
            ``"cluster"``, which needs SciPy.
        superclasses: group of each class ``[c]``, for ``"group"``.

    Returns:
        A permutation of ``0 … c - 1``: the class at each place.

    Raises:
        ValueError: for an unknown order, ``"group"`` without groups, or shapes that do not fit.
        ModuleNotFoundError: for ``"cluster"`` without SciPy.

    Example:
        >>> class_order(torch.eye(3), "group", [1, 0, 1])
        [1, 0, 2]
    """
    classes = side(matrix)
    if choice("order", order, ORDERS) == "group":
        if superclasses is None:
            raise ValueError("order='group' needs superclasses=, the group of each class; 'cluster' finds its own")
        groups = superclass_tensor(superclasses, classes)
        return [int(a) for a in torch.argsort(groups, stable=True)]
    if order == "given" or classes < 3:
        return list(range(classes))
    return _leaves(matrix.detach().cpu().double().numpy())


def _leaves(cells: Any) -> list[int]:
    try:
        hierarchy = import_module("scipy.cluster.hierarchy")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "order='cluster' needs SciPy: pip install scipy, or pip install '.[cluster]' in a clone of the "
            "project; order='group' and order='given' do without"
        ) from error
    likeness = np.where(np.isnan(cells), cells.T, cells)
    likeness = (likeness + likeness.T) / 2
    above = np.triu_indices(len(cells), 1)
    distance = 1 - likeness[above]
    known = ~np.isnan(distance)
    distance[~known] = distance[known].mean() if known.any() else 1.0
    tree = hierarchy.linkage(distance, method="average", optimal_ordering=True)
    return [int(a) for a in hierarchy.leaves_list(tree)]
