"""One measurement by the layerwise engine: collect, check, multiply; the rest by other engines."""

import warnings
from collections.abc import Hashable
from dataclasses import replace

from lightning_stiffness.gram.again import check_total, is_near, look_again
from lightning_stiffness.gram.alone import Alone
from lightning_stiffness.gram.check import Witness, sizes_of
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.coupled import refuse_mixing
from lightning_stiffness.gram.devices import default_budget
from lightning_stiffness.gram.draws import DRAWS, touched_by_draws
from lightning_stiffness.gram.fallback import by_other_engines, slowly, steps_of, told
from lightning_stiffness.gram.multiply import multiply
from lightning_stiffness.gram.partition import (
    Group,
    block_of,
    blocks_of,
    first_place,
    partition,
    slab_of,
)
from lightning_stiffness.gram.parts import Part
from lightning_stiffness.gram.plan import Plan, Step
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.reduction import Reduction
from lightning_stiffness.gram.shown import Shown
from lightning_stiffness.gram.total import Total
from lightning_stiffness.gram.trust import trusted

WEIGHTED = (
    "The loss of a batch is no plain mean or sum of the examples' losses: each example's gradient keeps a positive "
    "factor of its own, which cosines and signs do not see"
)

ROUNDED = (
    "In float32 rounding decides something in a batch otherwise than for an example alone, as a choice between "
    "equals (a ReLU at zero), or all of a gradient that is next to nothing; in float64 both agree: {}"
)

REDUCED = (
    "The module computes in half precision by itself, as within an autocast of its own, which rounds otherwise in "
    "a batch than for an example alone: inner products are right to a few 1e-3 of the norms; in float64 both "
    "agree: {}"
)

REWIRED = (
    "for a batch it makes the calls that it makes for one example, with other tensors, as with another layer's "
    "weight, or without a gradient"
)


class Measurement:
    """One Gram, by one process; arguments are those of :func:`lightning_stiffness.gram.layerwise.planned`."""

    def __init__(
        self, problem: Problem, rows: Examples, columns: Examples | None, every: Examples, budget: int | None
    ):
        self.problem, self.rows, self.columns, self.every, self.budget = problem, rows, columns, every, budget
        self.plan = Plan()
        self.fallback: dict[str, str] = {}
        self.rounded: set[str] = set()
        device = self.device = problem.device
        self.room = budget or default_budget(device)
        """Bytes beside the module, the batch and the Gram."""
        self.n, self.m = len(rows), None if columns is None else len(columns)
        self.layers = problem.by_layer()
        self.totals = {layer: Total(self.n, self.m, device) for layer in self.layers}
        self.reduction = Reduction()
        self.forms: set[type[Part]] = set()
        self.shown = Shown()
        """What the passes over the batches have shown."""
        self.taken_apart: set[tuple[int, int]] = set()
        """First position and size of the batches that were held against their parts."""
        self.moved: set[int] = set()
        """Examples that some calls may have put elsewhere."""
        self.doubted: set[int] = set()
        """Examples of a batch whose calls make values of several together, and others that are to be looked at."""
        self.several = False
        """Whether the loss of a batch may be put together of several means, and was not seen to be right."""

    def run(self) -> tuple[dict[str, Products], Plan]:
        """The whole measurement."""
        setting = self.n, self.m, self.room, tuple((layer, *names) for layer, names in self.layers.items())
        asked = self.budget is not None
        place, most = self._reference_place(), 1 if asked else None
        alone = self.alone = Alone(self.problem, self.every, place, setting, self._own(), most=most)
        witness, self.reference = alone.witness, alone.reference
        collector = Collector(self.problem, self.reference, slab_of(self.room, self.device))
        groups = partition(self.problem, self.every, self.reference, collector, self.room, asked)
        groups = self._settled(groups)
        if alone.waits and (len(groups) > 1 or groups[0].block is not None):
            alone.look_closer()  # so that no gradient is held beside what the budget is for
        self.most = groups[0].most
        collector.companions, collector.sure, collector.first = alone.accompany(), alone.sure, alone.waits
        if alone.proof is not None:
            collector.ties, collector.form = alone.proof.ties, alone.proof.form
        elif alone.sure is not None:
            collector.form = alone.sure.form
        self.reduction.weights = None if alone.sure is None else alone.sure.weights
        for group in self._undrawn(groups, witness):
            if group.block is None:
                self._group(group, collector, witness)
            else:
                self._blockwise(group, group.block, collector, witness)
        products = {layer: total.products() for layer, total in self.totals.items()}
        self.shown = collector.shown
        refuse_mixing(self, collector)
        look_again(self, products, witness)
        if self.reduction.weighted:
            self.plan.notes.append(WEIGHTED)
        if self.rounded:
            why = REDUCED if self.reference.is_reduced() else ROUNDED
            self.plan.notes.append(why.format(", ".join(sorted(self.rounded))))
        cross = self.m is not None
        products = {layer: self.reduction.mended(one, cross=cross) for layer, one in products.items()}
        check_total(self, products, witness)
        form = self.reduction.form
        if form is not None and not (self.fallback or collector.derived):
            alone.prove(self.forms, form, ties=bool(self.rounded))
        if self.fallback:
            products = self._fall_back(products)
        return products, self.plan

    def _settled(self, groups: list[Group]) -> list[Group]:
        """What is worked on together."""
        return groups

    def _reference_place(self) -> int:
        """An example of a batch of several: with its like alone, it tells which axis holds the examples."""
        return first_place(self.every)

    def _own(self) -> tuple[int, int]:
        """The first and behind the last of the examples that this process differentiates."""
        return 0, len(self.every)

    def _undrawn(self, groups: list[Group], witness: Witness) -> list[Group]:
        """The groups without the parameters whose gradients depend on random numbers: those fall back."""
        noise = self.problem.noise
        # Where no example alone has a gradient, the comparison has more to say.
        if not (noise.woke() or noise.drawn):
            return groups
        self.alone.look_closer()
        if not any(sizes_of(witness.table.values())):
            return groups
        self.fallback.update(dict.fromkeys(self._touched_by_draws(self.most), DRAWS))
        if self.problem.share is not None:  # the processes have yet to agree
            return groups
        kept = [replace(group, names=[n for n in group.names if n not in self.fallback]) for group in groups]
        return [group for group in kept if group.names]

    def _group(self, group: Group, collector: Collector, witness: Witness) -> None:
        """Add the Gram of some parameters, whose parts are held for all examples."""
        collected, good = self._collected(group, self.every, 0, collector, witness)
        for layer, names in self._by_layer(good):
            self.plan.steps += multiply(self.problem, collected, names, self.totals[layer], group.slab)

    def _by_layer(self, names: list[str]) -> list[tuple[str, list[str]]]:
        """The layers of some parameters, each with those of them that are in it."""
        wanted = set(names)
        inside = {layer: [n for n in own if n in wanted] for layer, own in self.layers.items()}
        return [(layer, own) for layer, own in inside.items() if own]

    def _blockwise(self, group: Group, block: int, collector: Collector, witness: Witness) -> None:
        """The same with the parts of two blocks of examples held at a time."""
        names = [name for name in group.names if name not in self.fallback]
        n, m = self.n, self.m
        blocks = blocks_of(self.every, group.most, block)
        first = [span for span in blocks if span[1] <= n]
        second = [span for span in blocks if span[0] >= (0 if m is None else n)]
        totals = {layer: Total(n, m, self.device) for layer, _ in self._by_layer(names)}
        steps: list[Step] = []

        def held(span: tuple[int, int]) -> Collected | None:
            examples = block_of(self.every, group.most, span)
            own = Group(names, group.most, block, group.slab)
            collected, good = self._collected(own, examples, span[0], collector, witness)
            return collected if len(good) == len(names) else None

        for k, rows in enumerate(first):
            left = held(rows)
            for columns in second[k:] if m is None else second:
                same = columns == rows
                right = left if same else held(columns)
                if left is None or right is None:  # some parameter fell back: once more, without it
                    if len(names) > len(self.fallback.keys() & set(names)):
                        self._blockwise(group, block, collector, witness)
                    return
                both, steps = left.copy() if same else left.beside(right), []
                for layer, own in self._by_layer(names):
                    part = Total(rows[1] - rows[0], None if same else columns[1] - columns[0], self.device)
                    steps += multiply(self.problem, both, own, part, group.slab)
                    totals[layer].paste(part.products(), rows, columns)
        for layer, total in totals.items():
            self.totals[layer] += total
        self.plan.steps += steps

    def _collected(
        self, group: Group, examples: Examples, offset: int, collector: Collector, witness: Witness
    ) -> tuple[Collected, list[str]]:
        """The gradients of some examples, and the parameters for which they are trusted; the others fall back."""
        before = len(collector.shown.mixed)
        collected = collector.collect(group.names, examples, offset, group.most)
        self._refuse_draws(group)
        if collector.shown.rewired:
            raise EngineRefusal(REWIRED)
        if collector.shown.unlike and self.alone.sure is not None:
            self.alone.leave_open()
            collector.sure = self.reduction.weights = None
        if self._is_in_doubt(group, collected, offset, collector):
            self.alone.look_closer()
            # Once more: the module may keep what it computes with in memory of its own, which they overwrite
            del collected
            del collector.shown.mixed[before:]
            collected = collector.collect(group.names, examples, offset, group.most)
        return collected, trusted(self, group, collected, offset, collector, witness)

    def _is_in_doubt(self, group: Group, collected: Collected, offset: int, collector: Collector) -> bool:
        """Whether what was to be compared with one example, or with values, has to be with gradients of two."""
        alone, names = self.alone, [name for name in group.names if name not in collector.failures]
        if alone.rests_on_calls:
            shown, place, loss = collector.shown, alone.reference.position, alone.reference.loss
            inside = bool(shown.losses) and offset <= place < offset + sum(collected.sizes)
            other = inside and loss is not None and not is_near(shown.losses, place, float(loss))
            other = other or shown.unlike or shown.other_calls or collector.derived or len(names) < len(group.names)
            if other or not alone.waits:
                return other
        if alone.waits:
            # What will not be known the next time either is compared by two examples each time
            lasting = len(names) == len(group.names) and not (collector.derived or collector.shown.unlike)
            met = alone.rests_on_calls or alone.reference.position in collector.met
            good = lasting and met and alone.is_itself(collected, offset, names)
            if not good:
                alone.needs_two()
            return not good
        held = range(offset, offset + sum(collected.sizes))
        not_met = {one.position for one in collector.companions}.intersection(held) - collector.met
        return bool(collector.companions) and (collector.derived or bool(not_met))

    def _refuse_draws(self, group: Group) -> None:
        """In a batch, and for no example alone: unless nothing depends on it, as on what a library drew that was
        imported meanwhile, there is no telling what does for an example."""
        if self.problem.noise.woke() and self._touched_by_draws(group.most):
            raise EngineRefusal(DRAWS)

    def _touched_by_draws(self, most: int) -> list[str]:
        problem, of_loss = self.problem, getattr(self.problem.loss_fn, "__code__", None)
        shapes = tuple((name, one.shape) for name, one in problem.parameters.items())
        key = DRAWS, type(problem.module), of_loss, shapes, self.every.sizes  # whatever the data are
        return touched_by_draws(problem, self.every, most, self.alone.turn, key)

    def known_by(self) -> Hashable:
        """What tells its calls and its examples from those of others."""
        alone = self.alone
        return alone.named() or (type(self.problem.module), self.every.sizes), alone.naming.data()

    def all_fall_back(self, reason: str) -> tuple[dict[str, Products], Plan]:
        """The measurement by the other engines."""
        self.fallback = dict.fromkeys(self.problem.parameters, reason) | self.fallback
        self.plan = Plan()
        return self._fall_back({}), self.plan

    def _fall_back(self, products: dict[str, Products]) -> dict[str, Products]:
        """Add what the other engines find for the parameters that fell back."""
        if self.reduction.weighted and len(self.fallback) < len(self.problem.parameters):
            # each example has a factor of its own, which the other engines do not share
            raise EngineRefusal(
                f"its loss is a weighted mean, and parts of it need another engine: {told(self.fallback)}"
            )
        for layer, names in self._by_layer(list(self.fallback)):
            part, draws = self.problem.of(names), DRAWS in self.fallback.values()
            found, engine = by_other_engines(part, self.rows, self.columns, self.budget, draws=draws)
            products[layer] = found if layer not in products else products[layer] + found
            self.plan.steps += steps_of(part, found, engine, self.fallback)
        warnings.warn(slowly(self.problem, engine, self.fallback), stacklevel=2)
        return products
