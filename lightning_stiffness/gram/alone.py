"""Examples by themselves, with which a batch is compared."""

from collections.abc import Hashable, Iterable
from itertools import accumulate, pairwise

from lightning_stiffness.gram.check import Witness, sizes_of
from lightning_stiffness.gram.familiar import (
    Proof,
    Unnameable,
    any_known,
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
from lightning_stiffness.gram.reference import Reference, companion, refer, refer_if_familiar

_PROVABLE: frozenset[type[Part]] = frozenset({Outer, Dense, Convolution})
"""Forms whose products are formed in the same way whatever the values are."""


class Alone:
    """The gradients of two examples by themselves, or where such calls were proven before, the values of one; and
    of another one where there are several batches, or values that Python asked for.

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
        self.proof = Proof()
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
        self.reference = reference or refer(problem, every, place, self._familiar)
        if self.reference.loss is None:
            self.look_closer()

    def _taking_turns(self, place: int) -> Reference | None:
        """The example of the same batch whose turn it is, if its calls are familiar: it may be of another kind."""
        span = next((span for span in self.spans if span[0] <= place < span[1]), None)
        if span is None:
            return None
        turn = span[0] + place_of(self.turn, span[1] - span[0])
        return refer_if_familiar(self.problem, self.every, turn, self._familiar)

    def accompany(self) -> list[Reference]:
        """Those whose values are to be compared; none where gradients are."""
        if self.reference.loss is not None:
            self.companions.append(self.reference)
            if len(self.spans) > 1 or asks_for_values(self.reference):
                second = companion(self.problem, self.every, self._second_place())
                # of its own batch, a shorter one would be no reason to look closer each time
                if len(self.spans) > 1 or self._signature(second) == self.key or not self._is_alike(second):
                    self.companions.append(second)
        return self.companions

    def look_closer(self) -> None:
        """Take their gradients, unless they are there, and compare no more values."""
        if self.witness.positions:
            return
        reference = self.reference
        gradients = {reference.position: reference.gradients}
        for place in (reference.position, self._second_place()):
            if not gradients.get(place):
                gradients[place] = example_gradient(self.problem, self.every.one(place), place)
        reference.gradients, reference.loss = {}, None  # no longer needed, and as large as the module
        self.companions.clear()
        places = sorted(gradients)
        self.witness.fill(Witness.of(places, [gradients[place] for place in places]))

    def prove(self, forms: Iterable[type[Part]], *, ties: bool) -> None:
        """Remember calls whose gradients were found to be right, with each parameter's different from zero.

        Not those of losses that draw numbers, or that calls do not tell everything about.

        Args:
            forms: in which the gradients were held.
            ties: whether some were found to be right in float64 alone.
        """
        tables = self.witness.table.values()
        if not tables or self.reference.strange or self.problem.noise.drawn or not _PROVABLE.issuperset(forms):
            return
        if all(any(sizes_of([table])) for table in tables) and self.named() is not None:
            prove(self.key, Proof(ties, dict(self.reference.known)))

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

    def _familiar(self, reference: Reference) -> bool:
        if not any_known() or self.problem.noise.drawn:
            return False
        self.key = self._signature(reference)
        proof = None if self.key is None else proven(self.key)
        if proof is None:
            return False
        self.proof = proof
        reference.known.update(proof.known)
        return True

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
