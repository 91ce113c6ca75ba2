"""What goes to stdout: JSON and nothing else, or text that is laid out for a terminal."""

import importlib.util
import json
import sys
from typing import Any

from lightning_stiffness.cli.problem import UsageError
from lightning_stiffness.figures.moment import epoch_of
from lightning_stiffness.plugin.frames import finite
from lightning_stiffness.report.runs import Number, Standing
from lightning_stiffness.result import Length, StiffnessResult

PIPED_WIDTH = 100
"""Columns where there is no terminal to ask, unless the environment says ``COLUMNS``."""


def print_json(value: Any) -> None:
    """One JSON value; None for every number that is not finite."""
    print(json.dumps(finite(value), indent=2, allow_nan=False, ensure_ascii=False))


def need_rich() -> None:
    """Say how to get what lays out text, where it is missing.

    Raises:
        UsageError: if rich is not installed.
    """
    if importlib.util.find_spec("rich") is None:
        raise UsageError(
            "text for the terminal needs rich: pip install rich, or pip install '.[cli]' in a clone of the project "
            "(or use --json)"
        )


def console() -> Any:
    """Where text goes: rich's console, without colours where it is piped or ``NO_COLOR`` is set."""
    need_rich()
    from rich.console import Console

    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    made.on_broken_pipe = _gone  # type: ignore[method-assign]
    if not made.is_terminal and "COLUMNS" not in made._environ:
        made.width = PIPED_WIDTH
    return made


def _gone() -> None:
    """Rich would end the program by itself."""
    raise BrokenPipeError


def plain_standing(at: Standing, result: StiffnessResult) -> dict[str, Any]:
    """A run's numbers at one step, which are those of a result, as plain values."""
    peak = at.peak
    return {
        "name": at.name,
        "step": at.step,
        "epoch": epoch_of(result),
        "verdict": vars(at.verdict),
        at.own_name: plain_number(at.own),
        "between_class": plain_number(at.between),
        "peak": None if peak is None else {"step": peak.step, "epoch": at.peak_epoch, "value": peak.value},
        "drop_from_peak": None if peak is None else peak.drop,
        "critical_length": plain_length(at.length),
        "excluded_examples": at.excluded,
    }


def plain_number(number: Number) -> dict[str, Any]:
    """A number and the ends of its 95% interval."""
    return {"value": number.value, "interval": plain_ends(number.low, number.high)}


def plain_length(length: Length | None) -> dict[str, Any] | None:
    """A critical length; an interval that has no upper end has None for it."""
    if length is None:
        return None
    ends = None if length.low != length.low else [length.low, length.high]
    return {**{n: v for n, v in vars(length).items() if n not in ("low", "high")}, "interval": ends}


def plain_ends(low: float, high: float) -> list[float] | None:
    """Ends of an interval; None where none was taken."""
    return None if low != low or high != high else [low, high]
