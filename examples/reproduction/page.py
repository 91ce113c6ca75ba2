"""Results → the numbers on ``docs/reproduction.md``: what stands between its marks is written here."""

import math
import re
from collections.abc import Sequence
from typing import Any

from reproduction.claims import Claim, judge
from reproduction.course import Course
from reproduction.plan import BATCH
from reproduction.results import courses_of
from reproduction.rows import NOT_RUN, UNSURE
from reproduction.stats import Mean

SIGNS = {
    "held": "**held**",
    "mixed": "mixed",
    "did not hold": "**did not hold**",
    NOT_RUN: "not run",
    UNSURE: UNSURE,
}


def written(page: str, stored: Sequence[dict[str, Any]], planned: int) -> str:
    """The page with its numbers as the results have them.

    Args:
        page: its text, with marks ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.
        stored: the runs.
        planned: how many there should be.
    """
    courses = courses_of(stored)
    claims = judge(courses)
    blocks = {
        "summary": _summary(claims),
        "runs": _runs(stored, planned),
        "one run": _one_run(courses),
        **{f"claim {claim.number}": _claim(claim) for claim in claims},
    }
    for name, text in blocks.items():
        begin, end = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"
    return page


_ABOUT = """What `examples/reproduce.py` found in the runs of this folder.

A system holds a claim if the 95% interval over its seeds lies wholly on the claimed side; of one seed there is no
interval, and nothing can be told. A claim is *mixed* where systems, or parts of it, disagree. The tables give means
over seeds with their 95% intervals, Student's."""
_IMAGE = re.compile(r"(!\[[^]]*\]\()images/reproduction/([\w.]+)\)")


def beside_runs(page: str, stored: Sequence[dict[str, Any]], planned: int, images: Sequence[str]) -> str:
    """The page for a folder of runs: numbers and figures without the paragraphs written about other runs.

    Args:
        page: the text of ``docs/reproduction.md``.
        stored: the runs.
        planned: how many there should be.
        images: names of the figures that lie beside the page.
    """
    kept, inside, heading = [], False, ""
    for block in written(page, stored, planned).split("\n\n"):
        mark = re.fullmatch(r"<!-- .*: (begin|end) -->", block.strip())
        image = _IMAGE.fullmatch(block.strip())
        if mark:
            inside = mark[1] == "begin"
        elif block.startswith("# "):
            kept += [block.strip(), _ABOUT]
        elif block.startswith("## ") and not inside:
            heading = block
        elif inside or (image and image[2] in images):
            kept += [heading] * bool(heading)  # of sections that have something to show
            kept.append(f"{image[1]}{image[2]})" if image else block)
            heading = ""
    return "\n\n".join(kept) + "\n"


def verdicts(claims: Sequence[Claim]) -> str:
    """One line a claim, for the terminal."""
    width = max(len(claim.verdict) for claim in claims)
    return "\n".join(f"({claim.number}) {claim.verdict:<{width}} {claim.text}" for claim in claims)


def _summary(claims: Sequence[Claim]) -> str:
    lines = []
    for claim in claims:
        held = sum(row.verdict == "held" for row in claim.rows)
        systems = f"{held} of {len(claim.rows)}" if claim.rows else "–"
        lines.append([f"[{claim.number}](#claim-{claim.number})", claim.text, SIGNS[claim.verdict], systems])
    return table(["", "claim", "verdict", "systems in which it held"], lines)


def _runs(stored: Sequence[dict[str, Any]], planned: int) -> str:
    lines = []
    for system in dict.fromkeys(one["system"] for one in stored):
        own = [one for one in stored if one["system"] == system]
        settings = own[0]["settings"]
        lines.append(
            [
                own[0]["title"],
                own[0]["data"],
                f"{settings['train']:,}" if settings["train"] else "all",
                f"{settings['moments'][-1]:g}",
                f"{settings['probe']} + {settings['probe']}",
                ", ".join(f"{rate:g}" for rate in sorted({one["rate"] for one in own})),
                str(len({one["seed"] for one in own})),
                f"{sum(one['seconds'] for one in own) / 60:.0f}",
            ]
        )
    heads = ["system", "data", "trained on", "epochs", "probe", "learning rates", "seeds", "minutes"]
    versions = sorted({f"{name} {number}" for one in stored for name, number in one["versions"].items()})
    missing = planned - len(stored)
    note = f"All {planned} runs." if missing <= 0 else f"**{missing} of {planned} runs are missing here.**"
    return f"{table(heads, lines)}\n\n{note} Batches of {BATCH}; {', '.join(versions)}."


def _one_run(courses: Sequence[Course]) -> str:
    lines = []
    for course in courses:
        moment = course.moments[course.lowest]
        if course.main and "interval" in moment:
            ends = moment["interval"]["train-val"]["cos"]["within_class"]
            within = _interval(course.stiffness("within_class")[course.lowest], *ends)
            length = moment["length"].get("train-val", {}).get("cos", {})
            xi = _interval(length.get("value"), length.get("low"), length.get("high"))
            lines.append([course.title, f"{course.epochs[course.lowest]:g}", within, xi])
    return table(["system, first seed", "epoch", "within-class, cosine", "ξ"], lines)


def _claim(claim: Claim) -> str:
    parts = [f"> {claim.text}", f"*Criterion.* {claim.criterion}", f"*Verdict:* {SIGNS[claim.verdict]}."]
    if claim.rows:
        heads = ["system", "seeds", "verdict", *claim.rows[0].numbers]
        lines = [[row.title, str(row.seeds), SIGNS[row.verdict]] for row in claim.rows]
        for line, row in zip(lines, claim.rows, strict=True):
            line.extend(map(number, row.numbers.values()))
        parts.append(table(heads, lines))
    return "\n\n".join(parts)


def number(mean: Mean) -> str:
    """A mean over seeds with its interval; the interval is left out where all seeds agree or there is one."""
    if math.isnan(mean.value):
        return "–"
    if math.isnan(mean.low) or mean.low == mean.high:
        return _digits(mean.value)
    return f"{_digits(mean.value)} [{_digits(mean.low)}, {_digits(mean.high)}]"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    ends = ["…" if end is None else _digits(end) for end in (low, high)]
    return f"{_digits(value)} [{ends[0]}, {ends[1]}]"


def _digits(value: float) -> str:
    """Three digits, with a true minus sign."""
    text = f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}" if value else "0"
    return text.replace("-", "−")
