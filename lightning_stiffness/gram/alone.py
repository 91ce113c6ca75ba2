"""Examples by themselves, with which a batch is compared."""

import bisect
import itertools
from collections.abc import Hashable, Iterable

from lightning_stiffness.gram.check import Witness, sizes_of
from lightning_stiffness.gram.familiar import (
    Unnameable,
    any_proven,
    asks_for_values,
    has_ties,
    prove,
    proven,
    signature,
)
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.parts import Convolution, Dense, Outer, Part
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Reference, companion, refer

_PROVABLE: frozenset[type[Part]] = frozenset({Outer, Dense, Convolution})
"""Forms whose products are formed in the same way whatever the values are."""


class Alone:
    """The gradients of two examples by themselves, or where such calls were proven before, the values of one; and
    of another one where there are several batches, or values that Python asked for.

    Args:
        problem: module and loss.
        every: all examples.
        place: of the first one, whose calls are the reference.
        setting: whatever else a measurement's way to its result depends on.
    """

    def __init__(self, problem: Problem, every: Examples, place: int, setting: Hashable):
        self.problem, self.every, self.setting = problem, every, setting
        self.key: Hashable = None
        self.witness = Witness([], {}, {})
        """Empty where values are compared."""
        self.companions: list[Reference] = []
        self.reference = refer(problem, every, place, self._familiar)
        if self.reference.loss is None:
            self.look_closer()

    def accompany(self) -> list[Reference]:
        """Those whose values are to be compared; none where gradients are."""
        if self.reference.loss is not None:
            self.companions.append(self.reference)
            second = self._second_place()
            apart = self._batch_of(second) != self._batch_of(self.reference.position)
            if apart or asks_for_values(self.reference):
                self.companions.append(companion(self.problem, self.every, second))
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

    @property
    def has_ties(self) -> bool:
        """Whether its calls are known to decide between equals by rounding."""
        return has_ties(self.key)

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
        if all(any(sizes_of([table])) for table in tables):
            self.key = self._signature(self.reference) if self.key is None else self.key
            if self.key is not None:
                prove(self.key, ties=ties)

    def _second_place(self) -> int:
        """One more example than the reference: from the end of the last other batch of several, if there is one."""
        first = self.reference.position
        ends = itertools.accumulate(self.every.sizes)
        spans = [(end - size, end) for size, end in zip(self.every.sizes, ends, strict=True) if size > 1]
        others = [span for span in spans if not span[0] <= first < span[1]]
        end = (others or spans)[-1][1]
        return end - 2 if end - 2 != first else end - 1

    def _batch_of(self, place: int) -> int:
        """Which of the batches an example is in."""
        return bisect.bisect([*itertools.accumulate(self.every.sizes)], place)

    def _familiar(self, reference: Reference) -> bool:
        if not any_proven() or self.problem.noise.drawn:
            return False
        self.key = self._signature(reference)
        return self.key is not None and proven(self.key)

    def _signature(self, reference: Reference) -> Hashable:
        problem, share = self.problem, self.problem.share
        names = {id(parameter): name for name, parameter in problem.parameters.items()}
        if any(parameter._backward_hooks for parameter in problem.parameters.values()):
            return None
        among = None if share is None else (share.rank, share.count)
        setting = self.setting, self.every.sizes, problem.scale is None, among, tuple(problem.parameters)
        try:
            return setting, signature(reference, names)
        except Unnameable:
            return None
