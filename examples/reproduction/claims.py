"""The seven claims, each with a criterion fixed before the first run, and the verdict that the numbers give.

A system *holds* a claim if the 95% interval over its seeds lies wholly on the claimed side of the criterion's
bound. A claim held if it does so in every system, did not hold if in none, and is mixed otherwise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from reproduction.course import Course
from reproduction.statements import ALIKE_CELLS, ALIKE_WITHIN, CLAIMS, LEVELS, P_VALUE
from reproduction.stats import Mean, mean_of, median_of, rank_correlation

HELD, MIXED, FAILED, NOT_RUN = "held", "mixed", "did not hold", "not run"


@dataclass(frozen=True)
class Row:
    """What one system says."""

    system: str
    title: str
    verdict: str
    numbers: dict[str, Mean]
    seeds: int


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, how it is judged, and what came out."""

    number: int
    text: str
    criterion: str
    rows: list[Row] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Over all systems."""
        return combined([row.verdict for row in self.rows])


def combined(verdicts: Sequence[str]) -> str:
    """One verdict of several."""
    if not verdicts:
        return NOT_RUN
    return verdicts[0] if len(set(verdicts)) == 1 else MIXED


def judge(courses: Sequence[Course]) -> list[Claim]:
    """All seven claims.

    Args:
        courses: finished runs, any that there are.
    """
    main = [course for course in courses if course.main]
    images = [course for course in main if course.stored["settings"]["kind"] == "images"]
    text = [course for course in main if course not in images]
    ten = [course for course in images if "cifar100" not in course.system]
    hundred = [course for course in images if "cifar100" in course.system]
    swept = [course for course in courses if _rates_of(course.system, courses) >= 3]
    rows = [
        by_system(ten, blocks_alike),
        by_system(images, rise_and_fall),
        by_system(hundred, groups_show),
        by_system(images, length_shrinks),
        by_system(swept, length_and_rate),
        by_system(swept, stiffness_and_rate),
        by_system(text, same_picture),
    ]
    return [Claim(number, *CLAIMS[number], own) for number, own in enumerate(rows, 1)]


def by_system(courses: Sequence[Course], say: Callable[[list[Course]], Row]) -> list[Row]:
    """A row for each system, in the order of the courses."""
    order = {name: place for place, name in enumerate(dict.fromkeys(course.system for course in courses))}
    ordered = sorted(courses, key=lambda course: (order[course.system], course.seed, course.rate))
    return [say(list(group)) for _, group in groupby(ordered, key=lambda course: course.system)]


def row(courses: list[Course], verdict: str, numbers: dict[str, Mean]) -> Row:
    """What a system says."""
    seeds = len({course.seed for course in courses})
    return Row(courses[0].system, courses[0].title, verdict, numbers, seeds)


def below(mean: Mean, bound: float = 0.0) -> bool:
    """The whole interval is below; never so without one."""
    return mean.high < bound


def above(mean: Mean, bound: float = 0.0) -> bool:
    """The whole interval is above."""
    return mean.low > bound


def blocks_alike(courses: list[Course]) -> Row:
    """Claim 1."""
    numbers = {}
    for name, key, of in (("cells", "cells", np.mean), ("within", "within", np.max)):
        values = [course.numbers("agreement", "cos", key) for course in courses]
        until = [(value, course.lowest + 1) for value, course in zip(values, courses, strict=True)]
        numbers[f"{name}: all"] = mean_of([float(of(value)) for value in values])
        numbers[f"{name}: until lowest loss"] = mean_of([float(of(value[:end])) for value, end in until])
        late = [float(of(value[end:])) if len(value) > end else math.nan for value, end in until]
        numbers[f"{name}: afterwards"] = mean_of(late)

    def alike(when: str) -> bool:
        return above(numbers[f"cells: {when}"], ALIKE_CELLS) and below(numbers[f"within: {when}"], ALIKE_WITHIN)

    return row(courses, HELD if alike("all") else MIXED if alike("until lowest loss") else FAILED, numbers)


def rise_and_fall(courses: list[Course]) -> Row:
    """Claim 2."""
    within = [course.stiffness("within_class") for course in courses]
    between = [course.stiffness("between_class", "sign") for course in courses]
    lowest = [course.lowest for course in courses]
    numbers = {
        "(a) within, start / highest": mean_of([w[0] / w.max() for w in within]),
        "(b) between, rise": mean_of([b[at] - b[0] for b, at in zip(between, lowest, strict=True)]),
        "(c) within, fall": mean_of([w[-1] - w[at] for w, at in zip(within, lowest, strict=True)]),
        "(d) |between|, fall": mean_of([abs(b[-1]) - abs(b[at]) for b, at in zip(between, lowest, strict=True)]),
        "epoch of lowest loss": mean_of([float(c.epochs[at]) for c, at in zip(courses, lowest, strict=True)]),
        "epoch of half the fall": mean_of([half_fall(c, w) for c, w in zip(courses, within, strict=True)]),
        "val loss, end / lowest": mean_of([float(c.val_loss[-1] / c.val_loss[c.lowest]) for c in courses]),
    }
    starts, rises, falls, also = list(numbers.values())[:4]
    parts = [above(starts, 0.5), above(rises), below(falls), below(also)]
    return row(courses, HELD if all(parts) else MIXED if any(parts) else FAILED, numbers)


def half_fall(course: Course, within: np.ndarray) -> float:
    """The first moment after its peak at which within-class stiffness has lost half of its whole loss."""
    peak = int(within.argmax())
    half = (within[peak] + within[-1]) / 2
    after = [at for at in range(peak, len(within)) if within[at] <= half]
    return float(course.epochs[after[0]]) if after and peak < len(within) - 1 else math.nan


def groups_show(courses: list[Course]) -> Row:
    """Claim 3."""
    numbers: dict[str, Mean] = {}
    shown = []
    for place, (level, suffix) in enumerate((("super-classes", ""), ("living", "_2"))):
        for measure in ("sign", "cos"):
            differences, p_values = [], []
            for course in courses:
                inside, outside = (
                    course.stiffness(f"{kind}_superclass{suffix}", measure) for kind in ("within", "between")
                )
                differences.append(float((inside - outside)[course.lowest]))
                found = course.moments[course.lowest]["superclass_p_value"].get("train-val", {}).get(measure, [])
                p_values.append(found[place] if len(found) > place else math.nan)
            numbers[f"{level}, {measure}: difference"] = mean_of(differences)
            worst = max(p_values)
            numbers[f"{level}, {measure}: largest p"] = Mean(worst, worst, worst, len(p_values))
            if measure == "sign":
                shown.append(above(numbers[f"{level}, sign: difference"]) and worst <= P_VALUE)
    return row(courses, HELD if all(shown) else MIXED if any(shown) else FAILED, numbers)


def length_shrinks(courses: list[Course]) -> Row:
    """Claim 4."""
    numbers = {}
    for block in ("train-val", "train-train", "val-val"):
        lengths = [course.length(block=block)[course.trained] for course in courses]
        epochs = [course.epochs[course.trained] for course in courses]
        numbers[f"ρ(epoch, ξ), {block}"] = mean_of(
            [rank_correlation(*pair) for pair in zip(epochs, lengths, strict=True)]
        )
        if block == "train-val":
            numbers["ξ after the first epoch"] = mean_of([length[0] for length in lengths])
            numbers["ξ at the end"] = mean_of([length[-1] for length in lengths])
            numbers["share of moments with a ξ"] = mean_of(
                [float(np.isfinite(length).mean()) for length in lengths]
            )
    return row(courses, HELD if below(numbers["ρ(epoch, ξ), train-val"]) else FAILED, numbers)


def length_and_rate(courses: list[Course]) -> Row:
    """Claim 5."""
    lengths = {"ρ(rate, ξ) at equal epoch": "epoch", "ρ(rate, ξ) at equal loss": "loss"}
    numbers = {name: mean_of(over_seeds(courses, Course.length, by)) for name, by in lengths.items()}
    for place in (0, -1):
        rate = sorted({course.rate for course in courses})[place]
        ends = [median_of(c.length()[c.trained]) for c in courses if c.rate == rate]
        numbers[f"median ξ, {('smallest', 'largest')[place]} rate"] = mean_of(ends)
    return row(courses, HELD if below(numbers["ρ(rate, ξ) at equal epoch"]) else FAILED, numbers)


def stiffness_and_rate(courses: list[Course]) -> Row:
    """Claim 6."""

    def within(course: Course) -> np.ndarray:
        return course.stiffness("within_class")

    names = {"(a) ρ(rate, within) at equal epoch": "epoch", "(b) ρ(rate, within) at equal loss": "loss"}
    numbers = {name: mean_of(over_seeds(courses, within, by)) for name, by in names.items()}
    parts = [below(number) for number in numbers.values()]
    for by in ("epoch", "loss"):
        differences = over_seeds(courses, within, by, lambda rates, values: values[0] - values[-1])
        numbers[f"smallest − largest rate, equal {by}"] = mean_of(differences)
    return row(courses, HELD if all(parts) else MIXED if any(parts) else FAILED, numbers)


def over_seeds(
    courses: list[Course],
    values_of: Callable[[Course], np.ndarray],
    by: str,
    compare: Callable[[list[float], list[float]], float] = rank_correlation,
) -> list[float]:
    """For each seed, how the rates compare, averaged over the moments or over training losses they share.

    Args:
        courses: runs of one system at several rates.
        values_of: what to compare, at each moment ``[t]``.
        by: ``"epoch"`` or ``"loss"``.
        compare: rates in ascending order and their values → a number.
    """
    found = []
    for seed in sorted({course.seed for course in courses}):
        own = sorted((course for course in courses if course.seed == seed), key=lambda course: course.rate)
        rates = [course.rate for course in own]
        if len(rates) < 3:
            continue
        if by == "epoch":
            table = np.stack([values_of(course)[course.trained] for course in own])  # [rates, t]
        else:
            levels = common_losses(own)
            table = np.array([[course.at_loss(values_of(course), level) for level in levels] for course in own])
        each = [compare(rates, column.tolist()) for column in table.T]
        known = [value for value in each if not math.isnan(value)]
        found.append(float(np.mean(known)) if known else math.nan)
    return found


def common_losses(courses: list[Course]) -> list[float]:
    """Training losses that all runs pass through, evenly spaced in the logarithm; none where there are no such."""
    low = max(float(np.nanmin(course.train_loss)) for course in courses)
    high = 0.8 * min(float(course.train_loss[0]) for course in courses)
    return np.geomspace(low, high, LEVELS).tolist() if 0 < low < high else []


def same_picture(courses: list[Course]) -> Row:
    """Claim 7."""
    first, second = blocks_alike(courses), rise_and_fall(courses)
    numbers = {f"1: {name}": number for name, number in first.numbers.items() if "all" in name}
    numbers |= {f"2: {name}": number for name, number in second.numbers.items()}
    return row(courses, combined([first.verdict, second.verdict]), numbers)


def _rates_of(system: str, courses: Sequence[Course]) -> int:
    return len({course.rate for course in courses if course.system == system})
