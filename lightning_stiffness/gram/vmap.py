"""Per-example gradients by ``torch.func``: ``vmap(grad(loss))``, in chunks that fit the memory budget."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.batch import Batch, is_per_example, leaves, map_leaves
from lightning_stiffness.gram.devices import default_budget
from lightning_stiffness.gram.draws import DRAWS, touched_by_draws
from lightning_stiffness.gram.problem import EngineRefusal, Examples, LossError, Problem
from lightning_stiffness.gram.product import Products, inner_products, squared_norms
from lightning_stiffness.gram.quiet import quiet_vmap
from lightning_stiffness.gram.swap import swapped

CHUNK = 256
"""Examples at a time: that bounds what vmap holds on the way, activations and one more copy of the gradients."""


def vmap_gram(
    problem: Problem, rows: Examples, columns: Examples | None = None, *, memory_budget: int | None = None
) -> Products:
    r"""Gram :math:`g_i \cdot g_j` from per-example gradients taken many at a time.

    Parameters are taken in groups whose per-example gradients fit the budget, and the groups' Grams added:
    a Gram is a sum over parameters. A parameter too large for that is taken in blocks of examples.

    Args:
        problem: what to differentiate.
        rows: the examples ``i``.
        columns: the examples ``j``; by default ``rows``.
        memory_budget: bytes for the gradients held at a time; by default half of what may be
            used, which leaves the other half to what vmap holds on the way.

    Returns:
        Inner products ``[n, m]`` in float64.

    Raises:
        EngineRefusal: if ``torch.func`` cannot trace the module, or gradients depend on random numbers that the
            loss draws; the message holds the reason.
    """
    noise = problem.noise
    noise.seed(0)
    if noise.woke() or noise.drawn:
        every = rows if columns is None else Examples.joined([rows, columns])
        if touched_by_draws(problem, every, CHUNK):
            raise EngineRefusal(DRAWS)
    beyond = _beyond_vmap(problem, rows)
    if beyond is not None:
        raise EngineRefusal(beyond)
    products = _by_groups(problem, rows, columns, memory_budget or default_budget(problem.device) // 2)
    return vmap_gram(problem, rows, columns, memory_budget=memory_budget) if noise.woke() else products


class _Seen(TorchFunctionMode):
    """Sees calls that torch.func does not refuse, and does not know what to do with."""

    why: str | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.why = self.why or _BEYOND.get(func)
        return func(*args, **(kwargs or {}))


_BEYOND: dict[Any, str] = {
    # as module.to(dtype) sets it for every parameter
    torch.Tensor.data.__set__: (  # type: ignore[attr-defined]
        "its forward pass exchanges the data of tensors, which torch.func does not survive"
    ),
    torch.Tensor.__repr__: "it makes a text of values, which torch.func makes of those of many examples",
}


def _beyond_vmap(problem: Problem, examples: Examples) -> str | None:
    """Why a loss is not to be had by torch.func, if it is not."""
    seen = _Seen()
    with problem.kept(), problem.watched(), seen:
        problem.loss_fn(problem.module, problem.given(examples.one(0)))
    return seen.why


def _by_groups(problem: Problem, rows: Examples, columns: Examples | None, budget: int) -> Products:
    examples = len(rows) + len(columns or ())
    total = None
    for group, width in _groups(problem, max(1, budget // examples)):
        part = problem.of(group)
        block = max(1, budget // (2 * width)) if examples * width > budget else examples
        products = _blockwise(part, rows, columns, block)
        total = products if total is None else total + products
    assert total is not None  # a problem has at least one parameter
    return total


def _groups(problem: Problem, most: int) -> Iterator[tuple[dict[str, torch.nn.Parameter], int]]:
    """Parameters in groups of at most ``most`` bytes an example (or of one), each with its bytes."""
    group: dict[str, torch.nn.Parameter] = {}
    width = 0
    for name, parameter in problem.parameters.items():
        own = parameter.numel() * parameter.element_size()
        if group and width + own > most:
            yield group, width
            group, width = {}, 0
        group[name] = parameter
        width += own
    yield group, width


def _blockwise(problem: Problem, rows: Examples, columns: Examples | None, block: int) -> Products:
    """The Gram of one group of parameters, ``block`` gradients of each side held at a time."""
    others, offset = (rows, 0) if columns is None else (columns, len(rows))
    parts: list[list[Tensor]] = []
    squares, other_squares = [], []
    for low in range(0, len(rows), block):
        left = _gradients(problem, rows.part(low, min(low + block, len(rows))), low)
        squares.append(_squares(left))
        parts.append([])
        for start in range(0, len(others), block):
            if columns is None and start < low:
                parts[-1].append(parts[start // block][low // block].T)
                continue
            same = columns is None and start == low
            stop = min(start + block, len(others))
            right = left if same else _gradients(problem, others.part(start, stop), offset + start)
            parts[-1].append(_products(left, None if same else right))
            if low == 0:
                other_squares.append(_squares(right))
    values = torch.cat([torch.cat(row, dim=1) for row in parts])
    return Products(values, torch.cat(squares), torch.cat(other_squares))


def _gradients(problem: Problem, examples: Examples, offset: int) -> list[Tensor]:
    """Per-example gradients, ``[k, p]`` for each parameter; ``offset`` is the first one's place among all."""
    names = list(problem.parameters)
    values = {name: p.detach() for name, p in problem.parameters.items()}
    pieces = []
    for start, size, piece in examples.pieces(CHUNK):
        mapped = [leaf for _, leaf in leaves(piece) if _mapped(leaf, size)]
        if size > 1 and any(is_per_example(leaf, size) and isinstance(leaf, list) for _, leaf in leaves(piece)):
            raise EngineRefusal("the batch holds lists of plain Python values, which vmap cannot split")
        per_example = vmap(grad(_loss_of(problem, piece, size)), in_dims=(None, 0), randomness="same")
        problem.noise.seed(offset + start, 1)  # the same numbers in every pass over the piece
        try:
            with problem.kept(), quiet_vmap():  # a buffer set in forward would hold vmap's own tensors
                pieces.append(per_example(values, mapped))
        except LossError:
            raise  # the caller's to mend, whatever the engine
        except Exception as error:
            raise EngineRefusal(f"torch.func could not trace it: {type(error).__name__}: {error}") from error
    found = []
    for name in names:
        gradients = torch.cat([piece[name].detach() for piece in pieces])
        gradients = gradients if problem.scale is None else gradients * problem.scale[name]
        found.append(gradients.reshape(len(gradients), -1))
    return found


def _loss_of(problem: Problem, piece: Batch, size: int) -> Callable[[dict[str, Tensor], list[Tensor]], Tensor]:
    """The loss as a function of the parameters and one example's tensors, in the order of the leaves."""

    copied = problem.module_kept is not None and problem.module_kept.writes_to_batch

    def loss(tensors: dict[str, Tensor], example: list[Tensor]) -> Tensor:
        remaining = iter(example)

        def put(leaf: Any) -> Any:
            if not _mapped(leaf, size):
                return leaf
            one = next(remaining)[None]
            return one.clone() if copied else one  # to which the loss may write

        swap = {problem.parameters[name]: tensor for name, tensor in tensors.items()}
        with swapped(problem.module, swap):
            return problem.example_loss(map_leaves(put, piece))

    return loss


def _mapped(leaf: Any, size: int) -> bool:
    return isinstance(leaf, Tensor) and is_per_example(leaf, size)


def _products(left: list[Tensor], right: list[Tensor] | None) -> Tensor:
    pairs = ((a, None) for a in left) if right is None else zip(left, right, strict=True)
    return torch.stack([inner_products(a, b) for a, b in pairs]).sum(0)


def _squares(gradients: list[Tensor]) -> Tensor:
    return torch.stack([squared_norms(g) for g in gradients]).sum(0)
