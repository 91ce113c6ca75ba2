"""The examples taken alone beside which the pieces of a probe are read."""

from typing import Any, NamedTuple

from torch import Tensor

from lightning_stiffness.gram.batch import Batch, is_per_example, leaves
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Reference, eager, traced

TRIED = 8
"""Examples of a piece that are taken alone, at most, to find one whose calls are those of the piece."""


class Piece(NamedTuple):
    """Some of the examples, together in one batch."""

    examples: Examples
    """Those that the piece is of."""
    offset: int
    """Position of the first of them among all."""
    start: int
    """Position of the piece among them."""
    size: int
    batch: Batch

    def place(self, position: int) -> int | None:
        """Where in the piece the example stands that is at ``position`` among all; None if it is not in it."""
        place = position - self.offset - self.start
        return place if 0 <= place < self.size else None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What pieces of one batch have in common: the shapes of the tensors, but for the axis of examples."""
        tensors = ((path, leaf) for path, leaf in leaves(self.batch) if isinstance(leaf, Tensor) and leaf.ndim)
        return tuple(
            (path, tuple(leaf.shape[1:] if is_per_example(leaf, self.size) or len(leaf) == 1 else leaf.shape))
            for path, leaf in tensors
        )


class References:
    """The examples taken alone beside which the pieces of a probe are read.

    One serves all pieces that are alike. Batches padded to several lengths need one of each, and a module that
    leaves its mask out where nothing is padded needs one with padding and one without.

    Args:
        problem: module and loss.
        first: the example that the measurement began with.
    """

    def __init__(self, problem: Problem, first: Reference):
        self.problem, self.first = problem, first
        self._fitting: dict[Any, list[Reference]] = {}
        self._hopeless: set[Any] = set()

    def of(self, piece: Piece) -> Reference:
        """The reference that served the last piece of this shape, else one of the piece itself."""
        fitting = self._fitting.setdefault(piece.shape, [])
        if self.first not in fitting and (piece.place(self.first.position) is not None or self._is_like(piece)):
            fitting.append(self.first)
        if not fitting:
            fitting.append(self._alone(piece, 1))
        return fitting[0]

    def better(self, piece: Piece, functions: list[Any], than: Reference) -> Reference | None:
        """Another reference, whose calls are those of the piece where the one in use has others; None: none.

        Args:
            piece: some examples.
            functions: what was called for them, in order.
            than: the reference in use.
        """
        shape = piece.shape
        if than.explains(functions):
            return None
        fitting = self._fitting[shape]
        found = next((one for one in fitting if one.explains(functions)), None)
        if found is None and shape not in self._hopeless:
            places = sorted({k * (piece.size - 1) // (TRIED - 1) for k in range(TRIED)})
            alone = (self._alone(piece, place) for place in places)
            found = next((one for one in alone if one.explains(functions)), None)
        if found is None:  # pieces of this shape are not searched again
            self._hopeless.add(shape)
            return None
        self._fitting[shape] = [found, *(one for one in fitting if one is not found)]
        return found

    def _is_like(self, piece: Piece) -> bool:
        """Whether the first one is of another piece that is alike."""
        place = self.first.position - piece.offset
        if not 0 <= place < len(piece.examples):
            return False
        return piece._replace(start=place, size=1, batch=piece.examples.one(place)).shape == piece.shape

    def _alone(self, piece: Piece, place: int) -> Reference:
        with self.problem.kept(), eager():
            return traced(self.problem, piece.examples, piece.start + place, piece.offset)[0]
