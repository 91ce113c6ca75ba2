"""One measurement by the layerwise engine that several processes work on together."""

from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate, pairwise

from lightning_stiffness.gram.check import Witness
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.coupled import refuse_mixing
from lightning_stiffness.gram.division import divide, formed, own_of, parts_of_all
from lightning_stiffness.gram.measurement import Measurement
from lightning_stiffness.gram.multiply import multiply
from lightning_stiffness.gram.partition import Group, first_place
from lightning_stiffness.gram.plan import Plan, Step
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.reduction import Reduction
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.total import Total


@dataclass(frozen=True)
class _Said:
    """What a process found by its own examples, for all to hear."""

    division: list[tuple[int, int | None]]
    """Parameters and block of each of its groups."""
    fallback: dict[str, str]
    reduction: Reduction
    moved: set[int]
    doubted: set[int]
    several: bool
    owners: dict[str, int] | None
    """Who is to multiply which parameters; None where the rows are divided."""


class _Unlike(Exception):
    """Processes have divided their work into other groups than each other."""


class Together(Measurement):
    """One Gram by the processes of ``problem.share``: every one of them makes one of these, and gets all of it."""

    def __init__(
        self, problem: Problem, rows: Examples, columns: Examples | None, every: Examples, budget: int | None
    ):
        super().__init__(problem, rows, columns, every, budget)
        self.share: Share = problem.share
        self.division: list[tuple[int, int | None]] = []
        self.settle = False
        """Whether the groups are told before anything else: they are known to be unlike."""

    def run(self) -> tuple[dict[str, Products], Plan]:
        """The whole measurement."""
        try:
            return super().run()
        except _Unlike:
            again = Together(self.problem, self.rows, self.columns, self.every, self.budget)
            again.settle = True
            return again.run()

    def _settled(self, groups: list[Group]) -> list[Group]:
        """As the first process says: memory may differ.

        It hardly ever does, and a message takes as long as some parameters: where a process has all of them in one
        group, what it says with their gradients is soon enough.
        """
        if self.settle:
            settled: list[Group] = self.share.gather(groups, about="groups")[0]
            return settled
        self.division = [(len(group.names), group.block) for group in groups]
        if self.division != [(len(self.problem.parameters), None)]:
            nothing = Collected({}, {})
            told = parts_of_all(self.share, nothing, [], None, self._said(None))
            self._agreed([], [said for said, _ in told])
        return groups

    def _reference_place(self) -> int:
        """One of the examples that this process differentiates."""
        low, high = self._own()
        return low + first_place(self.every.part(low, high)) if low < high else 0

    def _own(self) -> tuple[int, int]:
        return self.share.span(len(self.every))

    def _group(self, group: Group, collector: Collector, witness: Witness) -> None:
        """Each process differentiates, and checks, some of the examples, and multiplies some of the parameters, or
        of the rows of the Gram."""
        share = self.share
        low, high = self._own()
        mine, owners, failed = Collected({}, {}), None, None
        try:
            mine, _ = self._collected(group, self.every.part(low, high), low, collector, witness)
            refuse_mixing(self, collector)
            mine = mine.compact()
            n, pairs = len(self.every), Total.pairs_of(self.n, self.m)
            owners = divide(mine, group.names, n, pairs, share.count)
            if owners is None:
                mine = formed(mine, n, pairs, self.room // 8)
        except Exception as error:
            failed = error
        names = [name for name in group.names if name not in self.fallback]
        told = parts_of_all(share, mine, names, owners, self._said(owners), failed)
        good, agreed = self._agreed(group.names, [said for said, _ in told])
        if any(said.owners != agreed for said, _ in told):  # rounding may decide otherwise on one of them
            told = parts_of_all(share, mine, good, agreed, self._said(agreed))
        own = own_of(good, agreed, share.rank)
        collected = reduce(Collected.beside, [parts.only(own) for _, parts in told])
        del mine, told  # so that what is multiplied is let go
        if collected.scalar:
            self.reduction.enter(collected.sizes, 0, len(self.every), self.device)
        for layer, names in self._by_layer(good):
            total = Total(self.n, self.m, self.device, share if agreed is None else None)
            steps = multiply(self.problem, collected, [n for n in names if n in own], total, group.slab)
            done = total.gather(share, steps) if agreed is None else total.add_up(share, steps)
            self.totals[layer] += total
            self.plan.steps += _joined(done, by_rows=agreed is None)

    def _said(self, owners: dict[str, int] | None) -> _Said:
        known = replace(self.reduction, sizes=None)
        return _Said(self.division, self.fallback, known, self.moved, self.doubted, self.several, owners)

    def _agreed(self, names: list[str], told: list[_Said]) -> tuple[list[str], dict[str, int] | None]:
        """The parameters that every process trusts, as rounding may decide otherwise on one of them, and who is to
        multiply each, as the first process says.

        Raises:
            _Unlike: on every process, if their groups are not the same.
        """
        if any(said.division != told[0].division for said in told):
            raise _Unlike
        self.reduction.merge([said.reduction for said in told])
        for said in told:
            self.moved |= said.moved
            self.doubted |= said.doubted
            self.several |= said.several
            for name, reason in said.fallback.items():
                self.fallback.setdefault(name, reason)
        return [name for name in names if name not in self.fallback], told[0].owners


def enough_for_all(every: Examples, share: Share) -> bool:
    """Whether each process would have at least two examples of one batch, as its own check takes."""
    batches = list(pairwise(accumulate(every.sizes, initial=0)))
    spans = [replace(share, rank=rank).span(len(every)) for rank in range(share.count)]
    return all(any(min(high, end) - max(low, start) > 1 for start, end in batches) for low, high in spans)


def _joined(told: list[list[Step]], *, by_rows: bool) -> list[Step]:
    """What the processes did: parameters of their own, or some rows of each."""
    if not by_rows:
        return [step for steps in told for step in steps]
    return [replace(parts[0], flops=sum(step.flops for step in parts)) for parts in zip(*told, strict=True)]
