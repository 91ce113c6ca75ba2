"""The criteria of the claims, one function each: the runs of a system → what it says."""

import math

import numpy as np

from reproduction.course import Course
from reproduction.rates import over_seeds
from reproduction.rows import FAILED, MIXED, Row, above, all_of, below, combined, of_parts, row
from reproduction.statements import ALIKE_CELLS, ALIKE_WITHIN, P_VALUE
from reproduction.stats import Mean, mean_of, median_of, rank_correlation


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

    def alike(when: str) -> bool | None:
        bounds = above(numbers[f"cells: {when}"], ALIKE_CELLS), below(numbers[f"within: {when}"], ALIKE_WITHIN)
        return all_of(bounds)

    verdict = of_parts([alike("all")])
    return row(courses, MIXED if verdict == FAILED and alike("until lowest loss") else verdict, numbers)


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
    cosine = [course.stiffness("between_class") for course in courses]
    numbers["between by cosine, rise"] = mean_of([b[at] - b[0] for b, at in zip(cosine, lowest, strict=True)])
    starts, rises, falls, also = list(numbers.values())[:4]
    parts = [above(starts, 0.5), above(rises), below(falls), below(also)]
    return row(courses, of_parts(parts), numbers)


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
                shown.append(all_of([above(numbers[f"{level}, sign: difference"]), worst <= P_VALUE]))
    return row(courses, of_parts(shown), numbers)


def length_shrinks(every: list[Course]) -> Row:
    """Claim 4; of the runs at other rates than the main one, only the last number."""
    courses = [course for course in every if course.main]
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
    at_all = [rank_correlation(course.epochs[course.trained], course.length()[course.trained]) for course in every]
    seeds = sorted({course.seed for course in courses})
    each = [[value for value, c in zip(at_all, every, strict=True) if c.seed == seed] for seed in seeds]
    numbers["ρ(epoch, ξ), train-val, mean over all rates"] = mean_of([mean_of(own).value for own in each])
    return row(courses, of_parts([below(numbers["ρ(epoch, ξ), train-val"])]), numbers)


def length_and_rate(courses: list[Course]) -> Row:
    """Claim 5."""
    lengths = {"ρ(rate, ξ) at equal epoch": "epoch", "ρ(rate, ξ) at equal loss": "loss"}
    numbers = {name: mean_of(over_seeds(courses, Course.length, by)) for name, by in lengths.items()}
    for place in (0, -1):
        rate = sorted({course.rate for course in courses})[place]
        ends = [median_of(c.length()[c.trained]) for c in courses if c.rate == rate]
        numbers[f"median ξ, {('smallest', 'largest')[place]} rate"] = mean_of(ends)
    return row(courses, of_parts([below(numbers["ρ(rate, ξ) at equal epoch"])]), numbers)


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
    return row(courses, of_parts(parts), numbers)


def same_picture(courses: list[Course]) -> Row:
    """Claim 7."""
    first, second = blocks_alike(courses), rise_and_fall(courses)
    numbers = {f"1: {name}": number for name, number in first.numbers.items() if "all" in name}
    numbers |= {f"2: {name}": number for name, number in second.numbers.items()}
    return row(courses, combined([first.verdict, second.verdict]), numbers)
