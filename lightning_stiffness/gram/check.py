"""A Gram held against the specification on a few examples, before it is trusted."""

import torch
from torch import Tensor

from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products

TOLERANCE = 1e-4
"""Largest allowed error of an inner product, relative to the two norms."""


def check_against_loop(
    problem: Problem, products: Products, rows: Examples, columns: Examples | None = None, *, count: int = 3
) -> None:
    """Compare some entries of a Gram with those that one backward pass per example gives.

    Args:
        problem: what was differentiated.
        products: the Gram to check.
        rows: the examples of its rows.
        columns: the examples of its columns; None where they are the rows.
        count: how many examples of the rows (and of the columns) to look at, spread over them.

    Raises:
        EngineRefusal: if an inner product is off by more than ``TOLERANCE`` of the norms.
    """
    picked = _spread(len(rows), count)
    if columns is None:
        other, expected = picked, loop_gram(problem, _only(rows, picked))
    else:
        other = _spread(len(columns), count)
        expected = loop_gram(problem, _only(rows, picked), _only(columns, other))
    got = products.values[picked][:, other]
    scale = expected.squares.sqrt()[:, None] * expected.other_squares.sqrt()[None, :]
    wrong = (
        _off(got, expected.values, scale) | _off(products.squares[picked], expected.squares, expected.squares).any()
    )
    if bool(wrong.any()):
        worst = float(((got - expected.values).abs() / scale).nan_to_num(posinf=0.0).max())
        raise EngineRefusal(
            f"its inner products differ from those of single examples (by {worst:.1e} of the norms, allowed "
            f"{TOLERANCE:.0e}): the module computes other gradients for a batch than for each example alone"
        )


def _off(got: Tensor, expected: Tensor, scale: Tensor) -> Tensor:
    # Where the specification itself is not finite, the fast engine must not be finite either.
    both_lost = ~torch.isfinite(expected) & ~torch.isfinite(got)
    return ~((got - expected).abs() <= TOLERANCE * scale) & ~both_lost


def _spread(n: int, count: int) -> list[int]:
    return sorted({round(i * (n - 1) / max(1, count - 1)) for i in range(min(count, n))})


def _only(examples: Examples, picked: list[int]) -> Examples:
    singles = tuple(examples.one(i) for i in picked)
    return Examples(singles, (1,) * len(singles))
