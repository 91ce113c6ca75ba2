"""The specification: one backward pass per example, then all inner products.

Slow and obviously right. Every other engine is compared with it; none of them shares code with it beyond
the choice of parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.product import Products, accumulation_dtype
from lightning_stiffness.gram.state import kept_state


def example_gradient(problem: Problem, example: Batch) -> dict[str, Tensor]:
    r"""Gradient :math:`\nabla_W L(f_W(x_i), y_i)` of one example's loss.

    Args:
        problem: what to differentiate.
        example: a batch of one example.

    Returns:
        Parameter name → gradient, of the parameter's shape, times the problem's scale; zero where the loss does
        not depend on it.
    """
    with kept_state(problem.module):  # each example meets the module as it was
        loss = problem.example_loss(example)
        parameters = list(problem.parameters.values())
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:  # else no parameter took part
            gradients = _derivative(problem, loss, example)
    return by_name(problem, gradients)


def by_name(problem: Problem, gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """Parameter name → gradient, dense and scaled; zero where it is None."""
    result = {}
    for (name, parameter), gradient in zip(problem.parameters.items(), gradients, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        gradient = (gradient.to_dense() if gradient.is_sparse else gradient).detach()
        result[name] = gradient if problem.scale is None else gradient * problem.scale[name]
    return result


def _derivative(problem: Problem, loss: Tensor, example: Batch) -> Sequence[Tensor | None]:
    parameters = list(problem.parameters.values())
    if not has_reentrant_checkpoint(loss):
        return torch.autograd.grad(loss, parameters, allow_unused=True)
    # Re-entrant checkpoints only know .backward(), which leaves its result in .grad. Asked by autograd.grad, one
    # raises an error, or worse: it hides its parameters, so that they seem not to take part.
    every = list(problem.module.parameters())
    kept = [parameter.grad for parameter in every]
    try:
        for parameter in every:
            parameter.grad = None
        problem.example_loss(example).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(every, kept, strict=True):
            parameter.grad = gradient


def has_reentrant_checkpoint(loss: Tensor) -> bool:
    """Whether some of the forward pass is a re-entrant activation checkpoint: autograd does not see inside."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def loop_gram(
    problem: Problem, rows: Examples, columns: Examples | None = None, *, memory_budget: int | None = None
) -> Products:
    r"""Gram :math:`g_i \cdot g_j` by one backward pass per example.

    Args:
        problem: what to differentiate.
        rows: the examples ``i``.
        columns: the examples ``j``; by default ``rows``.
        memory_budget: bytes for the gradients held at a time; by default all of them are held.

    Returns:
        Inner products ``[n, m]`` in float64 (for complex parameters :math:`\mathrm{Re}\langle g_i, g_j\rangle`).
    """
    width = sum(p.numel() * (2 if p.is_complex() else 1) for p in problem.parameters.values())
    # A block of row gradients and a block of column gradients are held at the same time, in float64.
    block = max(1, memory_budget // (16 * width)) if memory_budget else len(rows) + len(columns or ())
    blocks, squares, other_squares = [], [], []
    for low in range(0, len(rows), block):
        left = _gradients(problem, rows, low, low + block)
        squares.append((left * left).sum(1))
        row = []
        for start in range(0, len(columns or rows), block):
            same = columns is None and start == low
            right = left if same else _gradients(problem, columns or rows, start, start + block)
            row.append(left @ right.T)
            if low == 0:
                other_squares.append((right * right).sum(1))
        blocks.append(torch.cat(row, dim=1))
    values = torch.cat(blocks)
    if columns is None:  # a matrix product may round the two triangles differently
        values = (values + values.T) / 2
    return Products(values, torch.cat(squares), torch.cat(other_squares))


def _gradients(problem: Problem, examples: Examples, start: int, stop: int) -> Tensor:
    """Gradients of the examples from ``start`` up to ``stop`` as rows ``[k, p]``, float64."""
    return torch.stack(
        [
            torch.cat([_real(g) for g in example_gradient(problem, examples.one(i)).values()])
            for i in range(start, min(stop, len(examples)))
        ]
    )


def _real(gradient: Tensor) -> Tensor:
    flat = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return flat.reshape(-1).to(accumulation_dtype(flat.device))
