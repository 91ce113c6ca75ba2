"""Which block, measure and step a command is about."""

import argparse
from collections.abc import Iterable, Sequence

from lightning_stiffness.cli.problem import UsageError, near
from lightning_stiffness.plugin.payload import ORDER
from lightning_stiffness.report.runs import Run


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """``--block``, ``--measure``, ``--step`` and ``--epoch``."""
    parser.add_argument(
        "--block", metavar="BLOCK", help="train-val (default where it was measured), train-train or val-val"
    )
    parser.add_argument("--measure", metavar="MEASURE", help="cos (default) or sign")
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument("--step", type=int, metavar="N", help="the last result up to this step, not of all")
    moment.add_argument("--epoch", type=int, metavar="N", help="the last result up to this epoch, not of all")


def chosen_view(runs: Sequence[Run], block: str | None, measure: str | None) -> tuple[str, str]:
    """A block and measure that runs have: those asked for, else those that speak of generalisation.

    Raises:
        UsageError: if none of the runs has what was asked for; the message lists what there is.
    """
    blocks = _found(key[0] for run in runs for frame in run.frames for key in frame.views)
    if not blocks:
        raise UsageError("expected results with at least one block, such as train-val, got none")
    chosen = _one_of("block", block, blocks, next((name for name in ORDER if name in blocks), blocks[0]))
    measures = _found(key[1] for run in runs for frame in run.frames for key in frame.views if key[0] == chosen)
    return chosen, _one_of("measure", measure, measures, "cos" if "cos" in measures else measures[0])


def _found(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _one_of(option: str, asked: str | None, known: list[str], usual: str) -> str:
    if asked is None:
        return usual
    if asked not in known:
        raise UsageError(f"expected --{option} to be one of {', '.join(known)}, got {asked}{near(asked, known)}")
    return asked
