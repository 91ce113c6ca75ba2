"""The seven claims, each with a criterion fixed before the first run, and the verdict that the numbers give.

A system *holds* a claim if the 95% interval over its seeds lies wholly on the claimed side of the criterion's
bound. A claim held if it does so in every system, did not hold if in none, and is mixed otherwise. Of one seed
there is no interval, and nothing can be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from reproduction.course import Course
from reproduction.criteria import (
    blocks_alike,
    groups_show,
    length_and_rate,
    length_shrinks,
    rise_and_fall,
    same_picture,
    stiffness_and_rate,
)
from reproduction.rows import Row, by_system, combined
from reproduction.statements import CLAIMS


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


def judge(courses: Sequence[Course]) -> list[Claim]:
    """All seven claims.

    Args:
        courses: finished runs, any that there are.
    """
    main = [course for course in courses if course.main]
    images = [course for course in main if course.kind == "images"]
    text = [course for course in main if course.kind == "text"]
    ten = [course for course in images if "cifar100" not in course.system]
    hundred = [course for course in images if "cifar100" in course.system]
    swept = [course for course in courses if _rates_of(course.system, courses) >= 3]
    rows = [
        by_system(ten, blocks_alike),
        by_system(images, rise_and_fall),
        by_system(hundred, groups_show),
        by_system([course for course in courses if course.kind == "images"], length_shrinks),
        by_system(swept, length_and_rate),
        by_system(swept, stiffness_and_rate),
        by_system(text, same_picture),
    ]
    return [Claim(number, *CLAIMS[number], own) for number, own in enumerate(rows, 1)]


def _rates_of(system: str, courses: Sequence[Course]) -> int:
    return len({course.rate for course in courses if course.system == system})
