"""Which formula each parameter takes, and the table that says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer, Part

SMALL = 4096
"""Gradients up to this size are laid side by side and multiplied at once."""


@dataclass(frozen=True)
class Step:
    """What was done for one parameter, or for the weight and bias of one layer."""

    parameters: tuple[str, ...]
    uses: str
    """Torch functions that take them, with how many calls."""
    formula: str
    shape: str
    """Shape of the parameter, and positions ``T`` summed over."""
    flops: float
    """Of the inner products."""
    bytes: int
    """Held for all examples."""
    reason: str | None = None
    """Why they went another way than their rules'."""


@dataclass
class Plan:
    """How a Gram was computed, parameter by parameter; ``print`` shows it as a table."""

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def formula(self, parameter: str) -> str:
        """The formula of one parameter."""
        return next(step.formula for step in self.steps if parameter in step.parameters)

    @property
    def fallbacks(self) -> dict[str, str]:
        """Parameter → why it did not go through its rules."""
        return {name: step.reason for step in self.steps if step.reason for name in step.parameters}

    @property
    def engine(self) -> str:
        """Name of the engine that computed it: another one's where no parameter went through its rules."""
        ways = [step.formula if step.reason else "layerwise" for step in self.steps if step.formula != "0"]
        return "layerwise" if not ways or "layerwise" in ways else "loop" if "loop" in ways else "vmap"

    def __str__(self) -> str:
        rows = [("parameter", "used by", "formula", "shape", "Gflop", "MB", "")]
        rows += [
            (
                " + ".join(step.parameters),
                step.uses,
                step.formula,
                step.shape,
                f"{step.flops / 1e9:.3f}",
                f"{step.bytes / 1e6:.2f}",
                step.reason or "",
            )
            for step in self.steps
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(7)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([lines[0], "  ".join("─" * width for width in widths[:6]), *lines[1:], *self.notes])


@dataclass(frozen=True)
class Choice:
    """The formula for one parameter."""

    formula: str
    """``factors`` (products of factors, position by position), ``lookup``, or ``dense``."""
    shown: str
    flops: float
    positions: int


def choose(parts: Sequence[Part], n: int, pairs: int) -> Choice:
    r"""The cheaper formula for the inner products of one parameter's gradients.

    For a sum of ``T`` outer products of ``R`` and ``C`` entries: :math:`2 n^2 T^2 (R + C)` operations on the
    factors, or :math:`2 n T R C` to form the gradients and :math:`2 n^2 R C` for their products.

    Args:
        parts: the parameter's parts, one for each use, of some of the examples.
        n: number of examples, on both sides together.
        pairs: number of inner products wanted.

    Returns:
        The choice.
    """
    first = parts[0]
    rows, columns = first.rows, first.columns
    if all(isinstance(part, Lookup) for part in parts):
        positions = sum(part.positions for part in parts if isinstance(part, Lookup))
        return Choice("lookup", Lookup.formula, 2.0 * n * positions * columns, positions)
    positions = sum(part.positions for part in parts if isinstance(part, Outer | Convolution))
    product = 2.0 * pairs * rows * columns
    forming = 0.0 if all(isinstance(part, Dense) for part in parts) else 2.0 * n * positions * rows * columns
    if all(isinstance(part, Outer | Convolution) for part in parts):
        grouped = any(isinstance(part, Convolution) and part.groups > 1 for part in parts)
        # an elementwise product of two tiles takes about as long as this many multiply-adds
        passes = 4 if positions == 1 else 32
        factors = 2.0 * pairs * positions**2 * (rows + columns + passes)
        if not grouped and factors < product + forming:
            shown = Outer.formula if positions == 1 else f"Σ_tu {Outer.formula}"
            return Choice("factors", shown, factors, positions)
    shown = "G Gᵀ" if not forming else "conv G, G Gᵀ" if isinstance(first, Convolution) else "G = Σ_t l rᵀ, G Gᵀ"
    return Choice("dense", shown, product + forming, positions)
