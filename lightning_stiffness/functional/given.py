"""What the intervals of one block are given: measures of its pairs, strata of its examples, borders of its bins."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.arguments import label_tensor, real_tensor, shown


def measures_of_pairs(stiffness: Sequence[Tensor]) -> list[Tensor]:
    """Several measures of the same pairs, detached.

    Args:
        stiffness: stiffness of every pair by each measure, ``[n, m]``.

    Raises:
        ValueError: for anything but a list of tensors of one shape that lack the same pairs.

    Example:
        >>> [values.tolist() for values in measures_of_pairs([torch.eye(1), -torch.eye(1)])]
        [[[1.0]], [[-1.0]]]
    """
    if isinstance(stiffness, Tensor | str) or not isinstance(stiffness, Sequence) or not stiffness:
        alone = ": pass [stiffness]" if isinstance(stiffness, Tensor) else ""
        raise ValueError(
            "expected stiffness to be a list of tensors [n, m], one for each measure, got "
            f"{shown(stiffness)}{alone}"
        )
    first = real_tensor("stiffness", stiffness[0], "n m").detach()
    found = [first]
    for other in stiffness[1:]:
        values = real_tensor("each of stiffness", other, "n m", like=("the first", first)).detach()
        if not torch.equal(torch.isnan(first), torch.isnan(values)):
            raise ValueError("expected measures of one Gram, but different pairs of them are NaN")
        found.append(values)
    return found


def strata_of(labels: Tensor | None, length: int, name: str, device: torch.device) -> Tensor:
    """What examples are drawn within: classes, or all of them together.

    Args:
        labels: class of each example ``[n]``; None for no classes.
        length: number of examples ``n``.
        name: of the argument.
        device: where they are wanted, if there are no labels.

    Raises:
        ValueError: for labels that are not ``n`` integers from 0.

    Example:
        >>> strata_of(None, 3, "labels", torch.device("cpu")).tolist()
        [0, 0, 0]
    """
    if labels is None:
        return torch.zeros(length, dtype=torch.long, device=device)
    return label_tensor(name, labels, length, each="row" if name == "labels" else "column")


def bin_borders(edges: Tensor) -> Tensor:
    """Borders of bins ``[b + 1]``; those of pairs nearly at one distance may round to the same number.

    Raises:
        ValueError: for fewer than two, or borders out of order.

    Example:
        >>> bin_borders(torch.tensor([0.0, 1.0, 1.0])).tolist()
        [0.0, 1.0, 1.0]
    """
    borders = real_tensor("edges", edges, "b+1", whole=True)
    if len(borders) < 2 or not bool((borders[1:] >= borders[:-1]).all()):
        raise ValueError(
            f"expected edges to be two borders of bins or more, in order, got {shown(borders.tolist())}: pass "
            "DistanceCurve.edges"
        )
    return borders
