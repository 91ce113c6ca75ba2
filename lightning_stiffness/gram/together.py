"""One measurement by the layerwise engine that several processes work on together."""

from dataclasses import replace

from lightning_stiffness.gram.check import Witness
from lightning_stiffness.gram.collect import Collected, Collector
from lightning_stiffness.gram.devices import default_budget
from lightning_stiffness.gram.division import divide, formed, parts_of_all
from lightning_stiffness.gram.measurement import Measurement
from lightning_stiffness.gram.multiply import multiply
from lightning_stiffness.gram.partition import Group, first_place
from lightning_stiffness.gram.plan import Step
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.total import Total


class Together(Measurement):
    """One Gram by the processes of ``problem.share``: every one of them makes one of these, and gets all of it."""

    def __init__(
        self, problem: Problem, rows: Examples, columns: Examples | None, every: Examples, budget: int | None
    ):
        super().__init__(problem, rows, columns, every, budget)
        self.share: Share = problem.share

    def _settled(self, groups: list[Group]) -> list[Group]:
        """As the first process says: memory may differ."""
        settled: list[Group] = self.share.gather(groups, about="groups")[0]
        return settled

    def _reference_place(self) -> int:
        """One of the examples that this process differentiates."""
        low, high = self.share.span(len(self.every))
        return low + first_place(self.every.part(low, high)) if low < high else 0

    def _group(self, group: Group, collector: Collector, witness: Witness) -> None:
        """Each process differentiates, and checks, some of the examples, and multiplies some of the parameters, or
        of the rows of the Gram."""
        share = self.share
        low, high = share.span(len(self.every))
        mine, owners, failed = Collected({}, {}), None, None
        try:
            mine = collector.collect(group.names, self.every.part(low, high), low, group.most)
            self._checked(group, mine, low, collector, witness)
            mine = mine.compact()
            n, pairs = len(self.every), Total.pairs_of(self.n, self.m)
            owners = divide(mine, group.names, n, pairs, share.count)
            if owners is None:
                mine = formed(mine, n, pairs, (self.budget or default_budget(self.device)) // 8)
        except Exception as error:
            failed = error
        good, owners = self._agreed(group.names, owners, failed)
        collected, own = parts_of_all(share, mine, good, owners)
        if collected.scalar:
            self._enter_sizes(collected, 0)
        for layer, names in self._by_layer(good):
            total = Total(self.n, self.m, self.device, share if owners is None else None)
            steps = multiply(self.problem, collected, [n for n in names if n in own], total, group.slab)
            told = total.gather(share, steps) if owners is None else total.add_up(share, steps)
            self.totals[layer] += total
            self.plan.steps += _joined(told, by_rows=owners is None)

    def _agreed(
        self, names: list[str], owners: dict[str, int] | None, failed: Exception | None
    ) -> tuple[list[str], dict[str, int] | None]:
        """The parameters that every process trusts, as rounding may decide otherwise on one of them, and who is to
        multiply each, as the first process says."""
        own = self.fallback, self.could_be_sum, self.could_be_mean, self.lean, self.moved, owners
        said = self.share.gather(own, failed, about="agreed")
        self.lean = sum(lean for _, _, _, lean, _, _ in said)
        for fallback, could_be_sum, could_be_mean, _, moved, _ in said:
            self.moved |= moved
            for name, reason in fallback.items():
                self.fallback.setdefault(name, reason)
            self.could_be_sum &= could_be_sum
            self.could_be_mean &= could_be_mean
        return [name for name in names if name not in self.fallback], said[0][-1]


def _joined(told: list[list[Step]], *, by_rows: bool) -> list[Step]:
    """What the processes did: parameters of their own, or some rows of each."""
    if not by_rows:
        return [step for steps in told for step in steps]
    return [replace(parts[0], flops=sum(step.flops for step in parts)) for parts in zip(*told, strict=True)]
