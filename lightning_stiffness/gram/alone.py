"""Examples by themselves, with which a batch is compared."""

import math
from collections.abc import Hashable, Iterable

import torch

from lightning_stiffness.gram.check import Witness, sizes_of
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.familiar import (
    Proof,
    asks_for_values,
    note_seen,
    prove,
    proven,
    refute,
    suspects,
    was_seen,
)
from lightning_stiffness.gram.in_turn import in_turn
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.naming import Name, Naming
from lightning_stiffness.gram.parts import Convolution, Dense, Outer, Part
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import Reference, Wanted, companion, eager, refer, refer_if_familiar
from lightning_stiffness.gram.sure import Sure, sure_form
from lightning_stiffness.gram.turns import Turns
from lightning_stiffness.gram.vectors import same_vectors

_PROVABLE: frozenset[type[Part]] = frozenset({Outer, Dense, Convolution})
"""Forms whose products are formed in the same way whatever the values are."""


VECTOR = 128 << 20
"""Bytes of an example's gradients that are kept while a batch is differentiated; larger ones are not."""

AGAIN = 7
"""Every how many measurements what was seen before is looked at again: a prime, as a few may take turns."""

TWO = "two"
"""What was seen of calls, beside which."""


class Alone:
    """The values of one example by itself, and its gradients by parameters whose turn it is, until all are proven.

    The gradients of two where calls do not tell everything about the loss, there are batches of several kinds or
    sizes, or Python asked for values.

    Args:
        problem: module and loss.
        every: all examples.
        place: of the first one, whose calls are the reference; where they are familiar, it is another's turn.
        setting: whatever else a measurement's way to its result depends on.
        own: the first and behind the last of the examples that this process differentiates; None for all.
        most: how many more than the first are to be taken at a time, as memory is asked for; None for no limit.
    """

    def __init__(
        self,
        problem: Problem,
        every: Examples,
        place: int,
        setting: Hashable,
        own: tuple[int, int] | None = None,
        *,
        most: int | None = None,
    ):
        self.problem, self.every, self.most = problem, every, most
        self.naming = Naming(problem, every, setting)
        self.key: Hashable = None
        self.proof: Proof | None = None
        """What is known of its calls where they were proven before."""
        self.left: frozenset[str] = frozenset()
        """Parameters whose gradients are left to later measurements."""
        self.witness = Witness([], {}, {})
        """Empty where values are compared."""
        self.companions: list[Reference] = []
        self.single = False
        """Whether one example's gradients were found in a batch as they are alone."""
        self.turns = Turns(every, own)
        self.sure: Sure | None = None
        """What the loss of a batch is for sure, where it is one number."""
        reference = self._taking_turns(place)
        self.reference = reference or refer(problem, every, place, self._wanted)
        if self.reference.loss is None and not self.waits:
            self.look_closer()

    @property
    def turn(self) -> int:
        """How many measurements there were before."""
        return self.turns.turn

    @property
    def waits(self) -> bool:
        """Whether the gradients of one example are yet to be held against those in a batch."""
        asked = self.reference.wanted in (Wanted.ONE, Wanted.VECTORS)
        return asked and not (self.single or self.witness.positions)

    @property
    def rests_on_calls(self) -> bool:
        """Whether the calls, and perhaps some parameters' gradients, are all that there is to compare."""
        return self.reference.wanted in (Wanted.CALLS, Wanted.VECTORS) and not self.witness.positions

    def leave_open(self) -> None:
        """Take nothing for sure of the loss, as where a batch makes other calls than an example."""
        self.needs_two()
        self.sure = self.key = None

    def needs_two(self) -> None:
        """Remember that these calls are not to be proven by one example's gradients."""
        note_seen((TWO, self.key))

    def is_itself(self, collected: Collected, offset: int, names: list[str]) -> bool:
        """Whether the gradients of the reference that were asked for are in a batch what they are alone.

        Args:
            collected: of the batch.
            offset: position of the first of its examples.
            names: the parameters.
        """
        reference = self.reference
        place, sure = reference.position - offset, self.sure
        if not 0 <= place < sum(collected.sizes) or not _PROVABLE.issuperset(collected.forms(names)):
            return False
        piece, row = collected.where(place)
        parts = {name: collected.parts[name][piece] for name in reference.gradients}
        factor = 1.0 if sure is None else sure.factor(reference.position - row, collected.sizes[piece], row)
        unused = set(reference.some).difference(parts)  # which a batch may not use either
        self.single = not any(collected.parts[name][piece] for name in unused)
        if self.single and parts:  # there are none where all are linear layers, whose turn comes later
            self.single = same_vectors(parts, row, reference.gradients, factor)
        reference.gradients = {}  # they may be large
        return self.single

    def loss_of(self, place: int) -> float:
        """An example's loss alone; NaN where it can't be had without gradients, as where the loss takes some."""
        try:
            with torch.no_grad(), self.problem.kept(), eager():
                return float(self.problem.example_loss(self.problem.given(self.every.one(place)), place))
        except Exception:  # those of examples have to do
            return math.nan

    def _taking_turns(self, place: int) -> Reference | None:
        """The example whose turn it is, if its calls are familiar."""
        turn = self.turns.first(place)
        if turn is None:
            return None
        found = refer_if_familiar(self.problem, self.every, turn, self._wanted)
        if found is None:
            self.turns.other = turn  # its calls are others than those known, and tell nothing of another example
            self.key, self.sure, self.proof = None, None, None
        return found

    def accompany(self) -> list[Reference]:
        """Those whose values are to be compared; none where gradients are."""
        if self.reference.loss is not None and not self.rests_on_calls:
            self.companions.append(self.reference)
            known = self._suspects()
            sure = self.reference.wanted is Wanted.ONE  # or more would be wanted
            unsure = len(self.turns.spans) > 1 and not (sure or self._is_sure(self.reference))
            several = not self.turns.are_alike or unsure
            if known or several or (not sure and asks_for_values(self.reference)):
                for place in known or [self.turns.second(self.reference.position)]:
                    second = companion(self.problem, self.every, place)
                    if second is None:
                        self.look_closer()
                        break
                    # of its own batch, a shorter one would be no reason to look closer each time
                    if known or several or self._is_like_reference(second):
                        self.companions.append(second)
        return self.companions

    def look_closer(self) -> None:
        """Take their gradients, unless they are there, and compare no more values."""
        if self.witness.positions:
            return
        reference = self.reference
        gradients = {reference.position: reference.gradients} if reference.wanted is Wanted.TWO else {}
        for place in (reference.position, *(self._suspects() or [self.turns.second(reference.position)])):
            if not gradients.get(place):
                gradients[place] = example_gradient(self.problem, self.every.one(place), place)
        reference.gradients, reference.loss = {}, None  # no longer needed, and as large as the module
        self.companions.clear()
        places = sorted(gradients)
        self.witness.fill(Witness.of(places, [gradients[place] for place in places]))

    def prove(self, forms: Iterable[type[Part]], form: str, *, ties: bool) -> None:
        """Remember calls whose gradients were found to be right, with each parameter's different from zero.

        Not those of losses that draw numbers, or that calls do not tell everything about; nor a mean or a sum in
        whose gradients choices between equals fall otherwise, which might hide other weights.

        Args:
            forms: in which the gradients were held.
            form: whether the loss of a batch is one for ``"each"`` example, or their mean or sum.
            ties: whether some were found to be right in float64 alone.
        """
        tables = self.witness.table.values()
        if not (tables or self.single) or self.reference.strange or self.problem.noise.drawn:
            return
        if not _PROVABLE.issuperset(forms) or not all(any(sizes_of([table])) for table in tables):
            return
        if form != "each" and not self.sure and (ties or not self.reference.is_number):
            return
        if self.named() is not None:
            left = self.left if self.single else frozenset()
            prove(self.key, Proof(ties, dict(self.reference.known), form, left))

    def named(self) -> Hashable:
        """What tells its calls from others; None where something has no name."""
        self.key = self._name(self.reference) if self.key is None else self.key
        return self.key

    def refute(self, places: Iterable[int]) -> None:
        """Remember examples that showed the gradients of a batch to be others."""
        if self.named() is not None:
            refute(self.key, places)

    def _suspects(self) -> list[int]:
        """More examples than the reference that showed something wrong before."""
        inside = [place for place in suspects(self.key) if self.turns.holds(place)]
        return [place for place in inside if place != self.reference.position][: self.most]

    def _wanted(self, reference: Reference) -> Wanted:
        """Of an example that calls tell everything about."""
        self.proof = None
        if self.problem.noise.drawn:
            return Wanted.TWO
        self.sure = self._form(reference) if reference.is_number else None
        self.key = self._name(reference)
        if self.key is None:  # as where a hook changes gradients
            self.sure = None
        proof = None if self.key is None else proven(self.key)
        if proof is not None:
            reference.known.update(proof.known)
            # Which examples weigh how much in a mean is looked at again now and then, unless that is sure
            if proof.form == "each" or self.sure or self.turn % AGAIN:
                self.proof = proof
                if not proof.left:
                    return Wanted.CALLS if self._leave_nothing_open(reference) else Wanted.VALUES
        one = self.most is None and self.key is not None and not suspects(self.key) and self.turns.are_alike
        if not one or self.turns.other is not None or was_seen((TWO, self.key)) or not self._is_sure(reference):
            return Wanted.TWO
        parameters = self.problem.parameters
        some, self.left = in_turn(reference.calls, parameters, None if self.proof is None else self.proof.left)
        if sum(parameters[n].numel() * parameters[n].element_size() for n in some) > VECTOR:
            return Wanted.TWO
        reference.some = tuple(some)
        return Wanted.VECTORS if self.proof and self._leave_nothing_open(reference) else Wanted.ONE

    def _leave_nothing_open(self, reference: Reference) -> bool:
        """Whether its calls, which are proven, say everything that values could: that is looked at now and then."""
        alike = len(self.turns.spans) == 1 and self.turns.other is None and not suspects(self.key)
        return bool(self.turn % AGAIN) and alike and self.problem.share is None and self._is_sure(reference)

    def _form(self, reference: Reference) -> Sure | None:
        return sure_form(reference, self.problem.parts, self.every) if self.turns.like else None

    def _is_sure(self, reference: Reference) -> bool:
        """Whether its calls say for sure what the loss of a batch is; of a number it is known already."""
        return (self.sure if reference.is_number else self._form(reference)) is not None

    def _is_like_reference(self, other: Reference) -> bool:
        """Whether another example has the reference's calls, or others that do not differ by their shapes alone."""
        alike = self._name(other, shapes=False) == self._name(self.reference, shapes=False)
        return self._name(other) == self.key or not alike

    def _name(self, reference: Reference, *, shapes: bool = True) -> Name | None:
        return self.naming.of(reference, sure=self.sure is not None, shapes=shapes)
