"""Values of all examples together that Python is given, and may decide by what is computed for all of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import Call

DECIDING: frozenset[Any] = frozenset(
    {
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.item, Tensor.tolist),
        torch.is_nonzero,
    }
)
"""Functions that give Python a number."""


def may_decide(log: Sequence[Call], asking: Call) -> bool:
    """Whether what a call gives Python comes of the module's parameters, and parameters are used after it.

    Only then may a module leave early, or go on until all are done, by how far it has come with an example. What is
    told of the data alone, as a padded length, is the same as long as these are; what is told at the end, as an
    accuracy for a log, decides on nothing but itself.

    Args:
        log: the calls for one example, in order.
        asking: the call among them.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> made = weight * 2
        >>> large, none = made.detach() > 3, torch.zeros(())
        >>> log = [
        ...     Call(torch.mul, (weight, 2), {}, made),
        ...     Call(Tensor.detach, (made,), {}, none),
        ...     Call(Tensor.__bool__, (none,), {}, False),
        ... ]
        >>> may_decide(log, log[2]), may_decide([*log, log[0]], log[2])
        (False, True)
    """
    place = next(i for i, call in enumerate(log) if call is asking)
    if not any(_has_parameter(call) for call in log[place + 1 :]):
        return False
    made: set[int] = set()
    for call in log[:place]:
        if any(one.requires_grad or id(one) in made for one in call.given):
            made.update(map(id, call.made))
    return any(one.requires_grad or id(one) in made for one in asking.given)


def _has_parameter(call: Call) -> bool:
    return any(one.requires_grad and one.is_leaf for one in call.given)
