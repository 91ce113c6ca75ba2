"""Linear maps: ``linear``, ``addmm``, matrix products and ``einsum`` of two operands."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.parts import Outer
from lightning_stiffness.gram.rules.registry import NoRule, Parts, data, dense, real, reduced, rule, shared
from lightning_stiffness.gram.uses import Operand, Use


@rule(F.linear, factored=True)
def linear(use: Use, input: Operand, weight: Operand, bias: Operand | None = None) -> Parts:
    """y = x Wᵀ + b, with dW = Σ d xᵀ and db = Σ d."""
    d = real(use)
    n, parts = len(d), Parts()
    if weight.wanted:
        if len(shared(weight).shape) != 2:
            raise NoRule
        x = data(input).canonical()
        parts.append((weight, Outer(d.reshape(n, -1, d.shape[-1]), x.reshape(n, -1, x.shape[-1]))))
    if bias is not None and bias.wanted:
        parts.append(dense(bias, reduced(d, shared(bias).shape)))
    return parts


@rule(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, factored=True)
def matmul(use: Use, left: Operand, right: Operand) -> Parts:
    """y = x W, with dW = Σ xᵀ d; and y = W x, with dW = Σ d xᵀ."""
    return _product(use, left, right, 1)


@rule(Tensor.__rmatmul__, factored=True)
def reflected_matmul(use: Use, right: Operand, left: Operand) -> Parts:
    """The same with its operands the other way round."""
    return _product(use, left, right, 1)


def _product(use: Use, left: Operand, right: Operand, factor: float) -> Parts:
    d = real(use)
    if left.wanted == right.wanted:
        raise NoRule
    weight, x = (right, left) if right.wanted else (left, right)
    if len(shared(weight).shape) != 2 or len(data(x).shape) < 2:
        raise NoRule
    n, values = len(d), x.canonical()
    if factor != 1:
        d = d * factor
    if weight is right:
        return [(weight, Outer(values.reshape(n, -1, values.shape[-1]), d.reshape(n, -1, d.shape[-1])))]
    # the columns of x and d are the positions
    d, values = d.mT, values.mT
    return [(weight, Outer(d.reshape(n, -1, d.shape[-1]), values.reshape(n, -1, values.shape[-1])))]


@rule(torch.addmm, Tensor.addmm, factored=True)
def addmm(use: Use, bias: Operand, left: Operand, right: Operand, *, beta: float = 1, alpha: float = 1) -> Parts:
    """y = β b + α x W."""
    d = real(use)
    parts = Parts()
    if left.wanted or right.wanted:
        parts += _product(use, left, right, alpha)
    if bias.wanted:
        parts.append(dense(bias, reduced(d, shared(bias).shape) * beta))
    return parts


@rule(torch.einsum)
def einsum(use: Use, equation: str, *operands: object) -> Parts:
    """y = Σ x W over named axes, where every axis of W is summed with x or kept in y, not both."""
    d = real(use)
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "..." in equation or "->" not in equation or len(operands) != 2:
        raise NoRule
    source, target = equation.replace(" ", "").split("->")
    names = source.split(",")
    one, two = operands
    if not isinstance(one, Operand) or not isinstance(two, Operand) or one.wanted == two.wanted:
        raise NoRule
    weight, x = (one, two) if one.wanted else (two, one)
    of_weight, of_x = names if one.wanted else reversed(names)
    if any(len(set(axes)) != len(axes) for axes in (of_weight, of_x, target)):
        raise NoRule
    inside = [a for a in of_weight if a in of_x and a not in target]
    outside = [a for a in of_weight if a in target and a not in of_x]
    along = [a for a in of_x if a in target and a not in of_weight]
    covered = len(inside) + len(outside) == len(of_weight) and len(inside) + len(along) == len(of_x)
    if not covered or len(outside) + len(along) != len(target) or not inside or not outside:
        raise NoRule
    if list(of_weight) == outside + inside:
        first = outside
    elif list(of_weight) == inside + outside:
        first = inside
    else:
        raise NoRule
    if len(first) != 1:  # rows of a part are the first axis of the parameter
        raise NoRule
    shared(weight)
    n, values = len(d), data(x).canonical()
    to_out = d.permute(0, *(1 + target.index(a) for a in along + outside)).reshape(
        n, -1, _size(weight, of_weight, outside)
    )
    to_in = values.permute(0, *(1 + of_x.index(a) for a in along + inside)).reshape(
        n, -1, _size(weight, of_weight, inside)
    )
    return [(weight, Outer(to_out, to_in) if first is outside else Outer(to_in, to_out))]


def _size(weight: Operand, names: str, axes: list[str]) -> int:
    size = 1
    for axis in axes:
        size *= weight.shape[names.index(axis)]
    return size
