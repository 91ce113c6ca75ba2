"""Examples by themselves, with which a batch is compared."""

import math
from collections.abc import Hashable, Iterable, Mapping
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from lightning_stiffness.gram.check import Witness, limit_of, sizes_of
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.familiar import (
    ENOUGH,
    Proof,
    Unnameable,
    asks_for_values,
    next_turn,
    place_of,
    prove,
    proven,
    refute,
    signature,
    suspect,
)
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.parts import Convolution, Dense, Outer, Part
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Reference, Wanted, companion, eager, refer, refer_if_familiar
from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.gram.vectors import same_vectors


def is_near(losses: Mapping[int, Tensor], place: int, alone: float) -> bool:
    """Whether an example's loss in a batch is nearly that which it has alone.

    Args:
        losses: first position of a batch → losses of its examples.
        place: of the example.
        alone: its loss.

    Example:
        >>> losses = {4: torch.tensor([1.0, 2.0])}
        >>> is_near(losses, 5, 2.001), is_near(losses, 4, 2.001), is_near(losses, 6, 2.001)
        (True, False, False)
    """
    start = max((first for first in losses if first <= place), default=None)
    if start is None or place - start >= losses[start].numel():
        return False
    together = float(losses[start].reshape(-1)[place - start])
    return alone == together or abs(alone - together) <= NEAR * abs(alone)


PROVABLE: frozenset[type[Part]] = frozenset({Outer, Dense, Convolution})
"""Forms whose products are formed in the same way whatever the values are."""


VECTOR = 128 << 20
"""Bytes of an example's gradients that are kept while a batch is differentiated; larger ones are not."""

NEAR = 1e-3
"""Difference of an example's loss in a batch from that alone, relative to it, that is no reason to look closer."""


class Alone:
    """The gradients of one example by itself; where such calls were proven before, its values.

    Those of two where calls do not tell everything about the loss, there are several batches, or Python asked for
    values.

    Args:
        problem: module and loss.
        every: all examples.
        place: of the first one, whose calls are the reference; where they are familiar, it is another's turn.
        setting: whatever else a measurement's way to its result depends on.
        own: the first and behind the last of the examples that this process differentiates; None for all.
    """

    def __init__(
        self, problem: Problem, every: Examples, place: int, setting: Hashable, own: tuple[int, int] | None = None
    ):
        self.problem, self.every, self.setting = problem, every, setting
        self.key: Hashable = None
        self.proof = Proof(seen=0)
        """What is known of its calls where they were proven before."""
        self.witness = Witness([], {}, {})
        """Empty where values are compared."""
        self.companions: list[Reference] = []
        self.turn = next_turn()
        first, last = own or (0, len(every))
        held = [(max(low, first), min(high, last)) for low, high in pairwise(accumulate(every.sizes, initial=0))]
        self.spans = [(low, high) for low, high in held if high - low > 1]
        """Those of them that are of one batch."""
        reference = self._taking_turns(place) if self.turn else None
        self.reference = reference or refer(problem, every, place, self._wanted)
        if self.reference.loss is None and not self.waits:
            self.look_closer()

    @property
    def waits(self) -> bool:
        """Whether the gradients of the reference are yet to be taken, and held against those in a batch."""
        return self.reference.graph is not None and not self.witness.positions

    def is_itself(self, collected: Collected, offset: int, names: list[str]) -> bool:
        """Whether the reference has the gradients in a batch that it has alone.

        Args:
            collected: of the batch.
            offset: position of the first of its examples.
            names: the parameters.
        """
        reference = self.reference
        place = reference.position - offset
        if collected.scalar or not 0 <= place < sum(collected.sizes):
            return False
        reference.take_gradients(self.problem)
        if not reference.gradients:
            return False
        piece, row = collected.where(place)
        squares = same_vectors({name: collected.parts[name][piece] for name in names}, row, reference.gradients)
        if squares is None:
            return False
        limits = {name: limit_of(reference.gradients[name].dtype) for name in names}
        reference.gradients = {}  # as large as the module
        self.witness.fill(Witness([reference.position], {name: [[squares[name]]] for name in names}, limits))
        return True

    def loss_of(self, place: int) -> float:
        """An example's loss alone; NaN where it can't be had without gradients, as where the loss takes some."""
        try:
            with torch.no_grad(), kept_state(self.problem.module), eager():
                return float(self.problem.example_loss(self.every.one(place), place))
        except Exception:  # those of examples have to do
            return math.nan

    def _taking_turns(self, place: int) -> Reference | None:
        """The example of the same batch whose turn it is, if its calls are familiar: it may be of another kind."""
        span = next((span for span in self.spans if span[0] <= place < span[1]), None)
        if span is None:
            return None
        turn = span[0] + place_of(self.turn, span[1] - span[0])
        found = refer_if_familiar(self.problem, self.every, turn, self._wanted)
        return found if self.proof.seen else None

    def accompany(self) -> list[Reference]:
        """Those whose values are to be compared; none where gradients are."""
        if self.reference.loss is not None:
            self.companions.append(self.reference)
            if len(self.spans) > 1 or asks_for_values(self.reference):
                second = companion(self.problem, self.every, self._second_place())
                if second is None:
                    self.look_closer()
                # of its own batch, a shorter one would be no reason to look closer each time
                elif len(self.spans) > 1 or self._signature(second) == self.key or not self._is_alike(second):
                    self.companions.append(second)
        return self.companions

    def look_closer(self) -> None:
        """Take their gradients, unless they are there, and compare no more values."""
        if self.witness.positions:
            return
        reference = self.reference
        if reference.graph is not None:
            reference.take_gradients(self.problem)
        gradients = {reference.position: reference.gradients}
        for place in (reference.position, self._second_place()):
            if not gradients.get(place):
                gradients[place] = example_gradient(self.problem, self.every.one(place), place)
        reference.gradients, reference.loss = {}, None  # no longer needed, and as large as the module
        self.companions.clear()
        places = sorted(gradients)
        self.witness.fill(Witness.of(places, [gradients[place] for place in places]))

    def prove(self, forms: Iterable[type[Part]], form: str, *, ties: bool) -> None:
        """Remember calls whose gradients were found to be right, with each parameter's different from zero.

        Not those of losses that draw numbers, or that calls do not tell everything about.

        Args:
            forms: in which the gradients were held.
            form: whether the loss of a batch is one for ``"each"`` example, or their mean or sum.
            ties: whether some were found to be right in float64 alone.
        """
        tables = self.witness.table.values()
        if not tables or self.reference.strange or self.problem.noise.drawn or not PROVABLE.issuperset(forms):
            return
        if all(any(sizes_of([table])) for table in tables) and self.named() is not None:
            seen = self.proof.seen + len(self.witness.positions)
            prove(self.key, Proof(ties, dict(self.reference.known), form, seen))

    def named(self) -> Hashable:
        """What tells its calls from others; None where something has no name."""
        self.key = self._signature(self.reference) if self.key is None else self.key
        return self.key

    def refute(self, place: int) -> None:
        """Remember an example that showed the gradients of a batch to be others."""
        if self.named() is not None:
            refute(self.key, place)

    def _second_place(self) -> int:
        """One more example than the reference: one that showed something wrong before, or of another batch if there
        is one."""
        first, known = self.reference.position, suspect(self.key)
        if known is not None and known != first and any(low <= known < high for low, high in self.spans):
            return known
        others = [span for span in self.spans if not span[0] <= first < span[1]]
        low, high = others[-1 - self.turn % len(others)] if others else self.spans[-1]
        place = low + place_of(self.turn, high - low) if self.turn else high - 2
        return place if place != first else low + (place + 1 - low) % (high - low)

    def _wanted(self, reference: Reference) -> Wanted:
        """Of an example that calls tell everything about."""
        if self.problem.noise.drawn:
            return Wanted.GRADIENTS
        self.key = self._signature(reference)
        proof = None if self.key is None else proven(self.key)
        if proof is not None:
            self.proof = proof
            reference.known.update(proof.known)
            if proof.seen >= ENOUGH:
                return Wanted.VALUES
        # one more is taken where it may be otherwise for each
        one = self.key is not None and suspect(self.key) is None and len(self.spans) == 1
        few = sum(p.numel() * p.element_size() for p in self.problem.parameters.values()) <= VECTOR
        return Wanted.LATER if one and few and not asks_for_values(reference) else Wanted.GRADIENTS

    def _is_alike(self, other: Reference) -> bool:
        """Whether another example has the reference's calls, but for their shapes."""
        return self._signature(other, shapes=False) == self._signature(self.reference, shapes=False)

    def _signature(self, reference: Reference, *, shapes: bool = True) -> Hashable:
        problem, share = self.problem, self.problem.share
        names = {id(parameter): name for name, parameter in problem.parameters.items()}
        if any(parameter._backward_hooks for parameter in problem.parameters.values()):
            return None
        among = None if share is None else (share.rank, share.count)
        setting = self.setting, self.every.sizes, problem.scale is None, among, tuple(problem.parameters)
        try:
            return setting, signature(reference, names, shapes=shapes)
        except Unnameable:
            return None
