"""What one system says of a claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from reproduction.course import Course
from reproduction.stats import Mean

HELD, MIXED, FAILED, NOT_RUN = "held", "mixed", "did not hold", "not run"


@dataclass(frozen=True)
class Row:
    """What one system says."""

    system: str
    title: str
    verdict: str
    numbers: dict[str, Mean]
    seeds: int


def combined(verdicts: Sequence[str]) -> str:
    """One verdict of several."""
    if not verdicts:
        return NOT_RUN
    return verdicts[0] if len(set(verdicts)) == 1 else MIXED


def row(courses: list[Course], verdict: str, numbers: dict[str, Mean]) -> Row:
    """What a system says."""
    seeds = len({course.seed for course in courses})
    return Row(courses[0].system, courses[0].title, verdict, numbers, seeds)


def by_system(courses: Sequence[Course], say: Callable[[list[Course]], Row]) -> list[Row]:
    """A row for each system, in the order of the courses."""
    order = {name: place for place, name in enumerate(dict.fromkeys(course.system for course in courses))}
    ordered = sorted(courses, key=lambda course: (order[course.system], course.seed, course.rate))
    return [say(list(group)) for _, group in groupby(ordered, key=lambda course: course.system)]


def below(mean: Mean, bound: float = 0.0) -> bool:
    """The whole interval is below; never so without one."""
    return mean.high < bound


def above(mean: Mean, bound: float = 0.0) -> bool:
    """The whole interval is above."""
    return mean.low > bound
