"""The tests; they import what they share from here."""

import re


def told(value: object) -> str:
    """A parameter in the name of its test, without the address of a function: every process names tests alike."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
