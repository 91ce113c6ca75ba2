"""Gradients held against the specification on a few examples, before they are trusted."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products, Square, accumulation_dtype, inner_products

TOLERANCE = 1e-4
"""Largest allowed error of an inner product, relative to the two norms."""

TOLERANCE_DOUBLE = 1e-5
"""The same for gradients in float64: no tighter, for parts of a module may compute in float32."""

GROSS = 0.1
"""Error of an inner product, relative to the norms, that is no rounding."""
TIMES = 3.0, 7.0
"""Multiples of a loss, whose gradients are rounded otherwise."""

ROUNDED = 30.0
"""Differences that may be rounding, over those that other multiples of the loss make."""

NOTHING = 1e-12
"""Squared norm of a parameter's gradient, over that of all, up to which it may be nothing but rounding."""


BETWEEN = (
    "an example alone has no gradient, but it has one in a batch: the loss compares the examples of a "
    "batch with each other (contrastive losses do), so there is no gradient of one example to measure"
)


class CoupledExamples(EngineRefusal):
    """The loss of a batch compares its examples, so that an example alone has no gradient."""


@dataclass
class Witness:
    """Inner products of the gradients of a few examples, each alone."""

    positions: list[int]
    """Which of all examples."""
    table: dict[str, Square]
    """Parameter → inner products ``k × k``."""
    limits: dict[str, float]
    """Parameter → allowed relative error, by precision."""

    @classmethod
    def of(cls, positions: list[int], gradients: list[dict[str, Tensor]]) -> "Witness":
        """From gradients, which are not kept: for each example, parameter → gradient."""
        first = gradients[0]
        limits = {name: limit_of(g.dtype) for name, g in first.items()}
        values = _products([list(one.values()) for one in gradients])
        return cls(positions, dict(zip(first, values, strict=True)), limits)

    def among(self, low: int, high: int) -> "Witness":
        """Those of the examples that are in a range."""
        inside = [i for i, p in enumerate(self.positions) if low <= p < high]
        if len(inside) == len(self.positions):
            return self
        table = {name: [[square[i][j] for j in inside] for i in inside] for name, square in self.table.items()}
        return Witness([self.positions[i] for i in inside], table, self.limits)

    def fill(self, other: "Witness") -> None:
        """Enter all that another one holds."""
        self.positions, self.table, self.limits = other.positions, other.table, other.limits

    def accept(self, name: str, positions: list[int], values: Square) -> None:
        """Take other inner products of one parameter's gradients for right, at some of the positions."""
        places = [self.positions.index(position) for position in positions]
        for a, i in enumerate(places):
            for b, j in enumerate(places):
                self.table[name][i][j] = values[a][b]


def limit_of(dtype: torch.dtype) -> float:
    """Largest allowed error of an inner product of gradients of some type, relative to the two norms."""
    return TOLERANCE_DOUBLE if dtype in (torch.float64, torch.complex128) else TOLERANCE


def _products(gradients: list[list[Tensor]]) -> list[Square]:
    """Inner products of each parameter's gradients for ``k`` examples."""
    k, first = len(gradients), gradients[0]
    dtype = accumulation_dtype(first[0].device)
    pairs = [(i, j) for i in range(k) for j in range(i + 1)]
    flat = [[gradient.flatten() for gradient in one] for one in gradients]
    unknown = torch.full((), torch.nan, dtype=dtype, device=first[0].device)
    dots: list[Tensor] = []
    for p, gradient in enumerate(first):
        direct = gradient.dtype in (torch.float32, torch.float64)
        dots += [torch.dot(flat[i][p], flat[j][p]) if direct else unknown for i, j in pairs]
    if len({dot.dtype for dot in dots}) > 1:
        dots = [dot.to(dtype) for dot in dots]
    numbers = torch.stack(dots).tolist()
    squares: list[Square] = []
    for p in range(len(first)):
        found = dict(zip(pairs, numbers[p * len(pairs) : (p + 1) * len(pairs)], strict=True))
        square = [[found[max(i, j), min(i, j)] for j in range(k)] for i in range(k)]
        # of another type, or too small or too large for products in their own precision
        if not all(1e-24 < square[i][i] < 1e24 for i in range(k)):
            square = inner_products(torch.stack([one[p] for one in flat])).tolist()
        squares.append(square)
    return squares


def sizes_of(squares: Iterable[Square]) -> list[float]:
    """Norms of the examples' gradients over all parameters."""
    return [math.sqrt(max(sum(own), 0.0)) for own in zip(*map(_diagonal, squares), strict=True)]


def _diagonal(square: Square) -> list[float]:
    return [row[i] for i, row in enumerate(square)]


@dataclass
class Verdict:
    """What came of a comparison."""

    factors: list[float]
    """Size of each witness's gradient over that of the example alone; NaN where that is zero."""
    wrong: dict[str, float]
    """Parameter → by how much of the norms it is off."""
    values: dict[str, Square]
    """The inner products compared, without those factors."""


def compare(witness: Witness, values: dict[str, Square], scalar: bool, whole: list[float] | None = None) -> Verdict:
    """Hold inner products of the witnesses against those of single examples, parameter by parameter.

    Args:
        witness: single examples.
        values: parameter → inner products of their gradients in a batch.
        scalar: whether the loss of a batch is one number, which leaves each example a positive factor.
        whole: norms of the examples' gradients over all parameters; by default over those compared.

    Raises:
        CoupledExamples: if no example alone has a gradient, but they have in a batch.
    """
    sizes, alone = sizes_of(values.values()), sizes_of(witness.table[name] for name in values)
    # Alone, what is standardised over the batch is 0 / 0
    if not any(0 < size < math.inf for size in alone) and any(0 < size < math.inf for size in sizes):
        raise CoupledExamples(BETWEEN)
    factors = [size / own if own else math.nan for size, own in zip(sizes, alone, strict=True)]
    if scalar:  # the smallest factors that fit: see whether what remains is one direction
        fit = [factor if math.isfinite(factor) and factor > 0 else 1.0 for factor in factors]
        values = {
            name: [
                [value / a / b for value, b in zip(row, fit, strict=True)]
                for row, a in zip(square, fit, strict=True)
            ]
            for name, square in values.items()
        }
    wrong = {}
    for name, square in values.items():
        limit = witness.limits[name]
        relative = _excess(square, witness.table[name], whole or alone, limit)
        if relative is not None:
            wrong[name] = relative
    return Verdict(factors, wrong, values)


def described(wrong: dict[str, float], witness: Witness) -> str:
    """What is wrong, in words."""
    names = ", ".join([*wrong][:3]) + (" …" if len(wrong) > 3 else "")
    most, limit = max(wrong.values()), max(witness.limits[name] for name in wrong)
    return (
        f"its gradients in a batch differ from those of single examples (those of {names} by {most:.1e} of the "
        f"norms, allowed {limit:.0e})"
    )


def most_off(witness: Witness, values: dict[str, Square], wrong: Iterable[str]) -> int:
    """The position of the example whose own gradients are wrong by most."""
    found = [0.0 for _ in witness.positions]
    for name in wrong:
        for i, right in enumerate(_diagonal(witness.table[name])):
            off = abs(values[name][i][i] - right)
            found[i] += (off / right if right else math.inf) if off > 0 else 0.0
    return witness.positions[found.index(max(found))]


def _excess(values: Square, expected: Square, alone: list[float], limit: float) -> float | None:
    """Largest error of some inner products, relative to the norms, if one is more than allowed; else None.

    Allowed is ``limit`` of the norms of the parameter's gradients, and a tenth of it of those of all gradients: so
    much may be rounding, but for what is as large as the gradients themselves. Where these are nothing alone,
    they may be ``limit`` of all of an example's in a batch, which is nothing but rounding.
    """
    norms = [math.sqrt(max(square, 0.0)) for square in _diagonal(expected)]
    places = [(a, b) for a in range(len(norms)) for b in range(len(norms))]
    if all(abs(values[a][b] - expected[a][b]) <= limit * norms[a] * norms[b] for a, b in places):
        return None
    floor = [limit * size for size in alone]
    """Norms up to which gradients that are nothing alone may be nothing but rounding in a batch."""
    pairs = []
    for a, b in places:
        own, whole = norms[a] * norms[b], norms[a] * norms[b] + 0.1 * alone[a] * alone[b]
        rounding = floor[a] * norms[b] + norms[a] * floor[b] + floor[a] * floor[b]
        allowed = min(limit * whole, GROSS * own if own > NOTHING * whole else rounding)
        pairs.append((values[a][b], expected[a][b], own, allowed))
    if all(
        abs(value - right) <= allowed or not (math.isfinite(value) or math.isfinite(right))
        for value, right, _, allowed in pairs
    ):
        return None
    relative = (abs(value - right) / own if own else math.inf for value, right, own, _ in pairs)
    return max(error if math.isfinite(error) else 1.0 for error in relative)


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
    picked = spread(len(rows), count)
    if columns is None:
        other, expected = picked, loop_gram(problem, _only(rows, picked))
    else:
        other = spread(len(columns), count)
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


def spread(n: int, count: int) -> list[int]:
    """Places of ``count`` examples, or all there are, evenly over ``n``.

    Example:
        >>> spread(9, 3), spread(3, 9)
        ([0, 4, 8], [0, 1, 2])
    """
    count = min(count, n)
    return sorted({round(i * (n - 1) / max(1, count - 1)) for i in range(count)})


def _only(examples: Examples, picked: list[int]) -> Examples:
    singles = tuple(examples.one(i) for i in picked)
    return Examples(singles, (1,) * len(singles))
