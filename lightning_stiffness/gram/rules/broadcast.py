"""Sums and products with a bare parameter, and a parameter repeated for every example."""

from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.rules.registry import NoRule, Parts, data, dense, real, reduced, rule, shared
from lightning_stiffness.gram.uses import Operand, Use


@rule(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, values=False)
def add(use: Use, one: Any, other: Any, *, alpha: float = 1) -> Parts:
    """y = x + α p, with dp = α Σ d."""
    return _sum(use, (one, 1), (other, alpha))


@rule(torch.sub, Tensor.sub, Tensor.__sub__, torch.subtract, Tensor.subtract, values=False)
def subtract(use: Use, one: Any, other: Any, *, alpha: float = 1) -> Parts:
    """y = x − α p."""
    return _sum(use, (one, 1), (other, -alpha))


@rule(Tensor.__rsub__, torch.rsub, values=False)
def subtract_from(use: Use, one: Any, other: Any, *, alpha: float = 1) -> Parts:
    """y = p − α x."""
    return _sum(use, (other, 1), (one, -alpha))


def _sum(use: Use, *terms: tuple[Any, float]) -> Parts:
    d = use.gradient()
    if d is None:
        return []
    parts = Parts()
    for operand, factor in terms:
        if isinstance(operand, Operand) and operand.wanted:
            gradient = reduced(d, shared(operand).shape)
            if operand.pure is not None and not operand.pure.tensor.is_complex() and d.is_complex():
                gradient = gradient.real  # a real parameter moves the real part alone
            parts.append(dense(operand, gradient if factor == 1 else gradient * factor))
    return parts


@rule(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply)
def multiply(use: Use, one: Any, other: Any) -> Parts:
    """y = x p, with dp = Σ d x."""
    d = real(use)
    weight, x = (one, other) if isinstance(one, Operand) and one.wanted else (other, one)
    if not isinstance(weight, Operand) or not isinstance(x, Operand) or x.wanted:
        raise NoRule
    values = data(x).canonical()
    if values.is_complex():
        raise NoRule
    n, shape = values.shape[0], values.shape[1:]
    values = values.reshape(n, *(1,) * (d.ndim - 1 - len(shape)), *shape)
    return [dense(weight, reduced(d * values, shared(weight).shape))]


@rule(Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to, values=False)
def expand(use: Use, parameter: Operand, *shape: Any, **options: Any) -> Parts:
    """One parameter for every example: dp = d, summed over what repeats within an example."""
    d = use.gradient()
    if d is None:
        return []
    return [dense(parameter, reduced(d, shared(parameter).shape))]
