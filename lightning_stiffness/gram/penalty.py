"""Penalties on parameters, which are added to the mean or the sum of all losses."""

from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.rowwise import MEANS, SUMS

PENALISING: frozenset[Any] = frozenset(
    {
        *(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, torch.sub, Tensor.sub, Tensor.__sub__),
        *(torch.subtract, Tensor.subtract, Tensor.__rsub__, torch.rsub),
    }
)
"""Functions that add one, or take it away."""


def is_sum(log: Sequence[Call], number: Tensor, pure: Container[int] = ()) -> bool:
    """Whether a number is made of all examples by a sum over them, and not by a mean, as far as calls tell.

    Args:
        log: the calls before, of one example.
        number: what some of them gave.
        pure: identities of what is computed from parameters alone.

    Example:
        >>> losses = torch.ones(1)
        >>> total, mean = losses.sum(), losses.mean()
        >>> log = [Call(torch.sum, (losses,), {}, total), Call(torch.mean, (losses,), {}, mean)]
        >>> is_sum(log, total), is_sum(log, mean)
        (True, False)
    """
    source = {id(one): call for call in log for one in call.made}
    left, seen = [number], set[int]()
    while left:
        call = source.get(id(left.pop()))
        if call is None or id(call) in seen:
            continue
        seen.add(id(call))
        how = call.kwargs.get("reduction")
        if call.function in MEANS or how == "mean":
            return False
        if call.function in SUMS or how == "sum":
            return True
        left += [one for one in call.given if id(one) not in pure]
    return False
