"""``lightning-stiffness report``: runs in one HTML file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lightning_stiffness.cli.finding import load_runs
from lightning_stiffness.cli.output import print_json
from lightning_stiffness.cli.problem import UsageError
from lightning_stiffness.report import write_report
from lightning_stiffness.report.runs import Run

DEFAULT = "stiffness-report.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``report`` takes."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN_DIR", help="log directory of a run; a folder of runs stands for all of them"
    )
    parser.add_argument("-o", "--output", metavar="FILE", default=DEFAULT, help=f"the file; {DEFAULT} by default")
    parser.add_argument("--title", default="Stiffness report", help="heading of the page")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(command=report)


def report(options: argparse.Namespace) -> None:
    """Write the report and say where, how large, and the verdict on each run."""
    runs = load_runs(options.runs)
    path, size = save_report(runs, options.output, options.title)
    if options.json:
        print_json({"file": str(path), "bytes": path.stat().st_size, "runs": [run.name for run in runs]})
        return
    print(f"{path} ({size}, {len(runs)} {'run' if len(runs) == 1 else 'runs'})")


def save_report(runs: Sequence[Run], file: str, title: str = "Stiffness report") -> tuple[Path, str]:
    """Write a report; its path and its size in words.

    Raises:
        UsageError: if the file cannot be written.
    """
    path = Path(file).expanduser()
    if path.is_dir():
        raise UsageError(f"expected a file to write the report to, got the folder {file}: try {path / DEFAULT}")
    try:
        write_report(runs, path, title=title)
    except OSError as error:
        raise UsageError(f"the report cannot be written to {file}: {error.strerror}") from error
    size = path.stat().st_size
    return path, f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
