"""Which gradients depend on the random numbers that a loss draws."""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.asking import ASKING
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.coins import Levels
from lightning_stiffness.gram.drawing import DROPPING, draws
from lightning_stiffness.gram.familiar import note_seen, place_of, was_seen
from lightning_stiffness.gram.loop import by_name, has_reentrant_checkpoint
from lightning_stiffness.gram.noise import LEVELS, OTHER
from lightning_stiffness.gram.problem import Examples, LossError, Problem
from lightning_stiffness.gram.reference import eager

_SLICE = 1 << 14
"""Entries of a gradient that are compared at a time: a gradient may be as large as the memory budget."""

OTHERS = 4
"""Times that a gradient is taken with other numbers."""

DRAWS = "its loss draws random numbers"
"""Why a parameter whose gradients depend on them is left to the loop: a batch draws others than its examples."""


FEW = 8
"""Of fewer numbers that are drawn, all may be the same by chance."""


SOME = 3
"""Levels whose turn it is where all have been looked at before, beside the first and the last one."""

TOUCHED = "touched"
"""What was seen of draws beside which, that played a part once."""


class _Asked(TorchFunctionMode):
    """Sees whether Python is given a value, and what is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.value = self.draws = False
        self.drawn: list[tuple[Any, ...]] = []
        """Of each call that draws: what tells its numbers from others."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.value = self.value or function in ASKING
        out = function(*args, **(kwargs or {}))
        if not draws(function, args, kwargs or {}, out):
            return out
        self.draws = self.draws or function not in DROPPING
        if out.numel() >= FEW:
            numbers = out.detach().double().reshape(-1)
            weights = torch.arange(1, len(numbers) + 1, dtype=numbers.dtype, device=numbers.device)
            self.drawn.append((function, out.shape, float(numbers @ weights)))
        return out


def touched_by_draws(
    problem: Problem, examples: Examples, most: int, turn: int = 0, key: Hashable = None
) -> list[str]:
    """Parameters whose gradients depend on the random numbers that the loss draws.

    A module may draw numbers that play no part in its gradients, as for a picture to log. The gradient of each
    batch is taken several times, with other numbers: so a draw that matters for one example in a hundred shows too.
    It may be a coin that falls one way more often than the other, or one of many numbers: where nothing changes,
    the gradient is taken at all levels from the least numbers to the largest. Where torch draws and gives Python a
    value besides, they all count as touched. So they do where other seeds change nothing: a loss that seeds the
    generators by itself draws the same numbers each time, a batch others than an example.

    Args:
        problem: what to differentiate; its loss draws numbers.
        examples: all of them.
        most: examples in a batch.
        turn: how many measurements there were before.
        key: what tells it from others: where all levels have shown nothing more of it, some are looked at each
            time, until they show something.
    """
    touched: set[str] = set()
    seen: set[Hashable] = set()
    for start, _, batch in examples.pieces(most):
        asked = _Asked()
        one = _gradient(problem, batch, start, 1, asked)
        reached, fixed, asked.drawn = problem.noise.reached(), asked.drawn, []
        problem.noise.seed(start, 1)
        outside = problem.noise.reached()[:OTHER] != reached[:OTHER]
        for once in range(2, 2 + OTHERS):
            other = _gradient(problem, batch, start, once, asked)
            if one is None or other is None or (asked.value and problem.noise.of_torch):
                return list(problem.parameters)
            if any(a == b for a, b in zip(reached, problem.noise.reached(), strict=False)):
                return list(problem.parameters)
            touched |= {name for name in one if name not in touched and _differ(one[name], other[name])}
            fixed, asked.drawn = [a for a, b in zip(fixed, asked.drawn, strict=False) if a == b], []
        if fixed:  # by a generator of its own
            return list(problem.parameters)
        levels, before = Levels(), frozenset(touched)
        known = key is not None and was_seen((key, before)) and not was_seen((TOUCHED, key))
        for level in _levels(turn if known else None) if outside or asked.draws else ():
            if len(touched) == len(problem.parameters):
                break
            other = _gradient(problem, batch, start, 2, levels.at(level), level=level)
            if one is None or other is None:
                return list(problem.parameters)
            touched |= {name for name in one if name not in touched and _differ(one[name], other[name])}
        if key is not None:
            more = touched != before or (before and was_seen((key, frozenset())))
            seen.add((TOUCHED, key) if more else (key, before))
    for what in seen:  # once all pieces were looked at in the same way
        note_seen(what)
    return [name for name in problem.parameters if name in touched]


def _levels(turn: int | None) -> list[int]:
    """The levels that are looked at: all, or those whose turn it is."""
    if turn is None:
        return [*range(LEVELS)]
    return sorted({0, LEVELS - 1, *(place_of(one, LEVELS) for one in range(SOME * turn, SOME * (turn + 1)))})


def _gradient(
    problem: Problem,
    batch: Batch,
    start: int,
    turn: int,
    asked: TorchFunctionMode,
    *,
    level: int | None = None,
) -> dict[str, Tensor] | None:
    """Gradient of a batch's loss, whose calls a mode sees; None where it has none to compare."""
    parameters = list(problem.parameters.values())
    problem.noise.seed(start, turn)
    if level is not None:
        problem.noise.go_to(level)
    try:
        with problem.kept(), eager():
            with asked:
                loss = problem.loss_fn(problem.module, problem.given(batch))
            if has_reentrant_checkpoint(loss):
                return None
            if not loss.requires_grad:
                return by_name(problem, [None] * len(parameters))
            return by_name(problem, torch.autograd.grad(loss.sum(), parameters, allow_unused=True))
    except LossError:
        raise
    except Exception:  # it may take no batch: the loop will see, and say what is wrong
        return None


def _differ(one: Tensor, two: Tensor) -> bool:
    rounding = 1e-12 if one.dtype in (torch.float64, torch.complex128) else 1e-6
    pieces = zip(
        *(gradient.reshape(-1).tensor_split(max(1, one.numel() // _SLICE)) for gradient in (one, two)), strict=True
    )
    finite = ((a.nan_to_num(), b.nan_to_num()) for a, b in pieces if len(a))
    sizes = [torch.stack([(a - b).abs().max(), a.abs().max()]) for a, b in finite]
    change, size = torch.stack(sizes).amax(0).tolist() if sizes else (0.0, 0.0)
    return bool(change > rounding * size)
