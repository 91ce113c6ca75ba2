"""The list of set-ups in ``docs/compatibility.md``: ``python -m tests.callback.setups.page`` writes it anew."""

import sys
from pathlib import Path

from tests.callback.setups import SETUPS

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"
BEGIN, END = "<!-- set-ups: begin -->", "<!-- set-ups: end -->"


def lists() -> str:
    """What works, by family, and what is refused, with its words."""
    families: dict[str, list[str]] = {}
    refused = ["## What is refused", "", "| set-up | the message says |", "|---|---|"]
    for setup in SETUPS.values():
        if setup.refused is None:
            families.setdefault(setup.make.__module__, []).append(setup.name)
        else:
            refused.append(f"| {setup.name} | `… {setup.refused} …` |")
    works = ["## What works"]
    for module, names in families.items():
        title = (sys.modules[module].__doc__ or "").replace("``", "`").split(": ")[0].strip(". ")
        works += ["", f"### {title}", "", *(f"- {name}" for name in names)]
    return "\n".join([*works, "", *refused])


def written(page: str) -> str:
    """The page with its list as the register has it."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{lists()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
