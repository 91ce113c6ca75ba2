"""What one system says of a claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from reproduction.course import Course
from reproduction.stats import Mean

HELD, MIXED, FAILED, NOT_RUN = "held", "mixed", "did not hold", "not run"
UNSURE = "cannot tell (one seed)"
"""Without an interval over seeds a number says nothing of a criterion, met or not."""


@dataclass(frozen=True)
class Row:
    """What one system says."""

    system: str
    title: str
    verdict: str
    numbers: dict[str, Mean]
    seeds: int


def combined(verdicts: Sequence[str]) -> str:
    """One verdict of several; unsure where those that cannot tell could change it."""
    if not verdicts:
        return NOT_RUN
    known = set(verdicts) - {UNSURE}
    if len(known) > 1 or known == {MIXED}:
        return MIXED
    return UNSURE if UNSURE in verdicts else verdicts[0]


def row(courses: list[Course], verdict: str, numbers: dict[str, Mean]) -> Row:
    """What a system says."""
    seeds = len({course.seed for course in courses})
    return Row(courses[0].system, courses[0].title, verdict, numbers, seeds)


def by_system(courses: Sequence[Course], say: Callable[[list[Course]], Row]) -> list[Row]:
    """A row for each system, in the order of the courses."""
    order = {name: place for place, name in enumerate(dict.fromkeys(course.system for course in courses))}
    ordered = sorted(courses, key=lambda course: (order[course.system], course.seed, course.rate))
    return [say(list(group)) for _, group in groupby(ordered, key=lambda course: course.system)]


def of_parts(parts: Sequence[bool | None]) -> str:
    """Held where all parts of a criterion are met, did not hold where none is, mixed otherwise."""
    return combined([UNSURE if met is None else HELD if met else FAILED for met in parts])


def all_of(parts: Sequence[bool | None]) -> bool | None:
    """Whether all are met; None where that hangs on one without an interval."""
    return False if False in parts else None if None in parts else True


def below(mean: Mean, bound: float = 0.0) -> bool | None:
    """The whole interval is below; None without one."""
    return None if mean.seeds == 1 else mean.high < bound


def above(mean: Mean, bound: float = 0.0) -> bool | None:
    """The whole interval is above; None without one."""
    return None if mean.seeds == 1 else mean.low > bound
