"""Gradients held against the specification on a few examples, before they are trusted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products, accumulation_dtype, inner_products

TOLERANCE = 1e-4
"""Largest allowed error of an inner product, relative to the two norms."""

TOLERANCE_DOUBLE = 1e-5
"""The same for gradients in float64: no tighter, for parts of a module may compute in float32."""


class CoupledExamples(EngineRefusal):
    """The loss of a batch compares its examples, so that an example alone has no gradient."""


@dataclass
class Witness:
    """Inner products of the gradients of a few examples, each alone."""

    positions: list[int]
    """Which of all examples."""
    rows: dict[str, int]
    """Parameter → row of the table."""
    table: Tensor
    """Inner products ``[p, k, k]``, float64."""
    limits: Tensor
    """Allowed relative errors ``[p]``, by precision."""

    @classmethod
    def of(cls, positions: list[int], gradients: list[dict[str, Tensor]]) -> "Witness":
        """From gradients, which are not kept: for each example, parameter → gradient."""
        first = gradients[0]
        exact = [g.dtype in (torch.float64, torch.complex128) for g in first.values()]
        limits = torch.tensor([TOLERANCE_DOUBLE if e else TOLERANCE for e in exact], dtype=torch.float64)
        table = _products([list(one.values()) for one in gradients])
        return cls(positions, {name: row for row, name in enumerate(first)}, table, limits)

    def among(self, low: int, high: int) -> "Witness":
        """Those of the examples that are in a range."""
        if all(low <= p < high for p in self.positions):
            return self
        inside = [i for i, p in enumerate(self.positions) if low <= p < high]
        table = self.table[:, inside][:, :, inside]
        return Witness([self.positions[i] for i in inside], self.rows, table, self.limits)

    def expected(self, names: list[str]) -> Tensor:
        """Inner products ``[p, k, k]`` of some parameters' gradients."""
        return self.table if len(names) == len(self.rows) else self.table[[self.rows[name] for name in names]]

    def tolerances(self, names: list[str]) -> Tensor:
        """Allowed relative errors ``[p]`` for some parameters."""
        return self.limits if len(names) == len(self.rows) else self.limits[[self.rows[name] for name in names]]

    def accept(self, name: str, positions: list[int], values: Tensor) -> None:
        """Take other inner products ``[k, k]`` of one parameter's gradients for right, at some of the positions."""
        places = [self.positions.index(position) for position in positions]
        for a, i in enumerate(places):
            for b, j in enumerate(places):
                self.table[self.rows[name], i, j] = values[a, b]


def _products(gradients: list[list[Tensor]]) -> Tensor:
    """Inner products ``[p, k, k]`` of each parameter's gradients for ``k`` examples, float64."""
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
    table = torch.stack(dots).to(dtype)
    order = [max(i, j) * (max(i, j) + 1) // 2 + min(i, j) for i in range(k) for j in range(k)]
    values = table.view(len(first), -1)[:, order].view(len(first), k, k)
    squares = values.diagonal(dim1=1, dim2=2)
    # of another type, or too small or too large for products in their own precision
    for p, usual in enumerate(((squares > 1e-24) & (squares < 1e24)).all(1).tolist()):
        if not usual:
            values[p] = inner_products(torch.stack([one[p] for one in flat]))
    return values


@dataclass
class Verdict:
    """What came of a comparison."""

    factors: Tensor
    """Size of each witness's gradient over that of the example alone, ``[k]``; NaN where it is zero."""
    wrong: dict[str, str]
    """Parameter → by how much it is off."""
    values: Tensor
    """The inner products compared, without those factors."""


def compare(witness: Witness, names: list[str], values: Tensor, scalar: bool) -> Verdict:
    """Hold inner products of the witnesses against those of single examples, parameter by parameter.

    Args:
        witness: single examples.
        names: of the parameters.
        values: inner products ``[p, k, k]`` of their gradients in a batch.
        scalar: whether the loss of a batch is one number, which leaves each example a positive factor.

    Raises:
        CoupledExamples: if no example alone has a gradient, but they have in a batch.
    """
    expected = witness.expected(names)
    if values.device.type != "cpu":
        values, expected = values.cpu(), expected.cpu()
    size, alone = (t.sum(0).diagonal().sqrt() for t in (values, expected))
    if bool((alone == 0).all()) and bool((size > 0).any()):
        raise CoupledExamples(
            "an example alone has no gradient, but it has one in a batch: the loss compares the examples of a "
            "batch with each other (contrastive losses do), so there is no gradient of one example to measure"
        )
    factors = size / alone
    if scalar:  # the smallest factors that fit: see whether what remains is one direction
        fit = torch.where(torch.isfinite(factors) & (factors > 0), factors, torch.ones_like(factors))
        values = values / (fit[:, None] * fit[None, :])
    own = expected.diagonal(dim1=1, dim2=2).sqrt()
    own = own[:, :, None] * own[:, None, :]
    tolerance = witness.tolerances(names).to(own.dtype)[:, None, None]
    room = tolerance * (own + 0.1 * alone[:, None] * alone[None, :])
    difference = (values - expected).abs()
    lost = ~torch.isfinite(values) & ~torch.isfinite(expected)
    off = ~(difference <= room) & ~lost
    wrong = {}
    if bool(off.any()):
        relative = (difference / own).nan_to_num(1.0, posinf=1.0).amax((1, 2)).tolist()
        wrong = {
            name: f"its gradients in a batch differ from those of single examples (by {relative[i]:.1e} of "
            f"the norms, allowed {float(tolerance[i]):.0e})"
            for i, name in enumerate(names)
            if bool(off[i].any())
        }
    return Verdict(factors, wrong, values)


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
