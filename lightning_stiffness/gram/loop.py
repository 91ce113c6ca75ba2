"""The specification: one backward pass per example, then all inner products.

Slow and obviously right. Every other engine is compared with it; none of them shares code with it beyond
the choice of parameters.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.problem import Examples, LossError, Problem
from lightning_stiffness.gram.product import Products, accumulation_dtype

REENTRANT = "CheckpointFunctionBackward"
"""Node of a re-entrant activation checkpoint."""
CHANGE = 1e-3
"""Change of an example's gradient from one time to the next, relative to its norm, that is no rounding."""


def example_gradient(problem: Problem, example: Batch, position: int | None = None) -> dict[str, Tensor]:
    r"""Gradient :math:`\nabla_W L(f_W(x_i), y_i)` of one example's loss.

    Args:
        problem: what to differentiate.
        example: a batch of one example.
        position: of the example among all, for the random numbers that its loss draws, if it does.

    Returns:
        Parameter name → gradient, of the parameter's shape, times the problem's scale; zero where the loss does
        not depend on it.
    """
    with problem.kept():  # each example meets the module as it was
        with problem.watched():
            loss = problem.example_loss(problem.given(example), position)
        problem.unhook()
        parameters = list(problem.parameters.values())
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:  # else no parameter took part
            gradients = _derivative(problem, loss, example, position)
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


def _derivative(problem: Problem, loss: Tensor, example: Batch, position: int | None) -> Sequence[Tensor | None]:
    parameters = list(problem.parameters.values())
    if not has_reentrant_checkpoint(loss):
        tracked = [parameter for parameter in parameters if parameter.requires_grad]  # others the loss has frozen
        grads = torch.autograd.grad(loss, tracked, allow_unused=True) if tracked else ()
        found = dict(zip(map(id, tracked), grads, strict=True))
        return [found.get(id(parameter)) for parameter in parameters]
    # Re-entrant checkpoints only know .backward(), which leaves its result in .grad. Asked by autograd.grad, one
    # raises an error, or worse: it hides its parameters, so that they seem not to take part.
    every = list(problem.module.parameters())
    kept = [parameter.grad for parameter in every]
    try:
        for parameter in every:
            parameter.grad = None
        problem.example_loss(problem.given(example), position).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(every, kept, strict=True):
            parameter.grad = gradient


def has_reentrant_checkpoint(loss: Tensor) -> bool:
    """Whether some of the forward pass is a re-entrant activation checkpoint: autograd does not see inside."""
    return any(node.name() == REENTRANT for node in nodes_behind(loss))


def _following(node: Node) -> Iterable[Node | None]:
    return [following for following, _ in node.next_functions]


def nodes_behind(loss: Tensor, following: Callable[[Node], Iterable[Node | None]] = _following) -> list[Node]:
    """The nodes of the graph that a tensor was computed by, each once, from the last on.

    Args:
        loss: the tensor.
        following: where to go on from a node; by default to all that it was computed from.
    """
    waiting, seen = [loss.grad_fn], dict[Node, None]()
    for node in waiting:  # which grows meanwhile
        if node is not None and node not in seen:
            seen[node] = None
            waiting += following(node)
    return [*seen]


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

    Raises:
        LossError: if an example's gradient is not the same each time.
    """
    width = max(1, sum(p.numel() * (2 if p.is_complex() else 1) for p in problem.parameters.values()))
    # A block of row gradients and a block of column gradients are held at the same time, in float64.
    block = max(1, memory_budget // (16 * width)) if memory_budget else len(rows) + len(columns or ())
    others, offset = (rows, 0) if columns is None else (columns, len(rows))
    marks: dict[int, Tensor] = {}

    def gradients(examples: Examples, start: int, offset: int) -> Tensor:
        found = _gradients(problem, examples, range(start, min(start + block, len(examples))), offset)
        mark = torch.stack([(found * found).sum(1), found.sum(1)])
        _check_same(marks.setdefault(offset + start, mark), mark)
        return found

    blocks = []
    for low in range(0, len(rows), block):
        left = gradients(rows, low, 0)
        row = []
        for start in range(0, len(others), block):
            right = left if columns is None and start == low else gradients(others, start, offset)
            row.append(left @ right.T)
        blocks.append(torch.cat(row, dim=1))
    values = torch.cat(blocks)
    if columns is None:  # a matrix product may round the two triangles differently
        values = (values + values.T) / 2
    squares = torch.cat([marks[low][0] for low in range(0, len(rows), block)])
    other_squares = torch.cat([marks[offset + start][0] for start in range(0, len(others), block)])
    return Products(values, squares, other_squares)


def _check_same(first: Tensor, again: Tensor) -> None:
    """Compare squared norms and sums ``[2, k]`` of some gradients with those that they had the first time."""
    sizes = torch.stack([first[0], first[0].sqrt()])
    if bool(((again - first).abs() > CHANGE * sizes).any()):
        raise LossError(
            "the loss gives an example another gradient each time it is computed, as where it draws random numbers "
            "from a generator of its own: let it draw them from torch's, NumPy's or Python's global generator, or "
            "give so large a memory_budget that each example is computed once"
        )


def _gradients(problem: Problem, examples: Examples, places: range, offset: int) -> Tensor:
    """Gradients of some examples as rows ``[k, p]``, float64; ``offset`` is the place of the first among all."""
    found: list[Tensor] = []
    while len(found) < len(places):
        place = places[len(found)]
        gradient = example_gradient(problem, examples.one(place), offset + place)
        found.append(torch.cat([_real(g) for g in gradient.values()]))
        # Not after each, which takes time: most losses that draw numbers draw them for the first example too.
        if len(found) in (1, len(places)) and problem.noise.woke():
            found.clear()
    return torch.stack(found)


def _real(gradient: Tensor) -> Tensor:
    flat = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return flat.reshape(-1).to(accumulation_dtype(flat.device))
