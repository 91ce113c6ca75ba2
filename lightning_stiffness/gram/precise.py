"""The comparison with single examples once more in float64, where rounding in float32 may have decided it.

A ReLU or a maximum whose inputs lie within rounding of a tie may take one side in a batch and the other for the
example alone. Both gradients are right, and no engine is to blame: in float64 the two agree.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.batch import map_leaves
from lightning_stiffness.gram.check import Witness, compare, sizes_of
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import refer

ROUNDING = 1e-5
"""Size of a parameter's gradient in float32, over that of all, up to which it may be nothing but rounding."""
LEAST = 0.01
"""Least size of a gradient in float64, over that in float32, for the copy to count as the same module."""


def agree_in_double(problem: Problem, every: Examples, witness: Witness, most: int, names: list[str]) -> set[str]:
    """Parameters whose gradients in a batch agree with those of single examples in float64.

    Everything is done as in the measurement, with the same examples in the same batches, on a copy of the module.

    Args:
        problem: what was measured, in float32.
        every: all examples.
        witness: the single examples.
        most: examples in a pass.
        names: parameters whose gradients differ in float32.

    Returns:
        Those of the names that agree; none where the module cannot be copied, or does not run in float64.
    """
    try:
        double = in_double(problem, list(problem.parameters))
        held = [piece for piece in every.pieces(most) if _inside(piece, witness.positions)]
        batches = tuple(converted(batch) for _, _, batch in held)
        singles = [converted(every.one(start + i)) for start, size, _ in held for i in range(size)]
        examples = Examples(batches, tuple(size for _, size, _ in held), singles if every.singles else None)
        places = [_place(held, position) for position in witness.positions]
        alone = Witness.of(places, [example_gradient(double, examples.one(place)) for place in places])
        collector = Collector(double, refer(double, examples, places[0]))
        collected = collector.collect(names, examples, 0, most)
        found = collected.products(names, places, double.device)
        whole = sizes_of(alone.table.values())
        wrong = compare(alone, found, collected.scalar, whole).wrong.keys() | collector.failures.keys()
    except Exception:  # whatever stands in the way of a second look, the first one counts
        return set()
    return {name for name in names if name not in wrong and _same_size(alone, witness, name)}


def in_double(problem: Problem, names: list[str]) -> Problem:
    """The same gradients, by some parameters, on a copy of the module in float64."""
    module: nn.Module = copy.deepcopy(problem.module).double()
    parameters = dict(module.named_parameters())
    scale = problem.scale and {name: problem.scale[name].double() for name in names}
    wanted = {name: parameters[name] for name in names}
    kept = KeptModule(module.modules(), problem.losses)
    kept.writes_to_batch = problem.module_kept is not None and problem.module_kept.writes_to_batch
    return Problem(module, problem.loss_fn, wanted, scale=scale, module_kept=kept)


def converted(batch: Any) -> Any:
    """A batch with float64 for float32."""

    def double(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.dtype == torch.float32 else leaf

    return map_leaves(double, batch)


def _inside(piece: tuple[int, int, Any], positions: list[int]) -> bool:
    start, size, _ = piece
    return any(start <= position < start + size for position in positions)


def _place(held: list[tuple[int, int, Any]], position: int) -> int:
    """Where an example is among those of some pieces."""
    before = 0
    for start, size, _ in held:
        if start <= position < start + size:
            return before + position - start
        before += size
    raise IndexError(position)


def _same_size(double: Witness, single: Witness, name: str) -> bool:
    # A loss that does not look at the module it is given leaves the copy without a gradient.
    exact, rounded = (sizes_of([witness.table[name]]) for witness in (double, single))
    whole = sizes_of(single.table.values())
    return all(a >= LEAST * b or b <= ROUNDING * c for a, b, c in zip(exact, rounded, whole, strict=True))
