"""What went wrong, for the person who typed the command."""

import difflib
import sys
from collections.abc import Iterable

PROGRAM = "lightning-stiffness"


class UsageError(Exception):
    """The command line, or what it names, has to be put right; ends the program with 2."""


def note(text: str) -> None:
    """A line on stderr."""
    print(f"{PROGRAM}: {text}", file=sys.stderr)


def near(name: str, known: Iterable[str]) -> str:
    """Names like one that is not known, as the end of a sentence; empty where there are none.

    Example:
        >>> near("vall", ["train", "val"]), near("x", ["train"])
        ('; did you mean val?', '')
    """
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""
