"""``lightning-stiffness compare``: runs in a table, and how they differ from the first."""

import argparse
import math
from typing import Any

from lightning_stiffness.cli.finding import load_runs
from lightning_stiffness.cli.output import console, plain_standing, print_json
from lightning_stiffness.cli.problem import UsageError, note
from lightning_stiffness.cli.report import save_report
from lightning_stiffness.cli.views import add_view_options, chosen_view
from lightning_stiffness.figures.moment import moment
from lightning_stiffness.report.runs import Run, Standing, standing
from lightning_stiffness.report.words import NONE, number, ranged, ranged_length
from lightning_stiffness.result import StiffnessResult


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``compare`` takes."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN_DIR", help="log directory of a run; a folder of runs stands for all of them"
    )
    add_view_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--html", metavar="FILE", help="also write a report on the runs")
    parser.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> None:
    """Print the table; with ``--html``, write the report too."""
    show = None if options.json else console()
    runs = load_runs(options.runs)
    block, measure = chosen_view(runs, options.block, options.measure)
    rows: list[tuple[Run, Standing | None]] = []
    for run in runs:
        index = run.index(options.step, options.epoch)
        rows.append((run, None if index < 0 else standing(run, index, block, measure)))
    if not any(at for _, at in rows):
        raise UsageError(f"no run has a result up to {_moment(options)}; the first is {_first(runs)}")
    if show is None:
        print_json({"block": block, "measure": measure, "runs": [_plain(run, at, rows) for run, at in rows]})
    else:
        show.print(_table(rows, block, measure))
        for text in _remarks(rows):
            show.print(text, style="dim")
    if options.html:
        path, size = save_report(runs, options.html)
        note(f"{path} ({size})")


def differences(at: Standing | None, first: Standing | None) -> dict[str, float]:
    """How the means and the critical length of a run differ from those of the first."""
    if at is None or first is None:
        return {}
    found = {at.own_name: at.own.value - first.own.value} if at.own_name == first.own_name else {}
    found["between_class"] = at.between.value - first.between.value
    found["critical_length"] = _xi(at) - _xi(first)
    return found


def _xi(at: Standing) -> float:
    return math.nan if at.length is None else at.length.value


def _result(run: Run, at: Standing) -> StiffnessResult:
    return next(result for result in run.results if result.step == at.step)


def _plain(run: Run, at: Standing | None, rows: list[tuple[Run, Standing | None]]) -> dict[str, Any]:
    if at is None:
        return {"name": run.name, "step": None}
    return {**plain_standing(at, _result(run, at)), "difference_to_first": differences(at, rows[0][1])}


def _table(rows: list[tuple[Run, Standing | None]], block: str, measure: str) -> Any:
    from rich import box
    from rich.table import Table

    known = [at for _, at in rows if at]
    overall = all(at.own_name == "overall" for at in known)
    table = Table(title=f"Stiffness, {block}, {measure}", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("at", overflow="fold")
    titles = ("any two" if overall else "same class", "peak", "drop", "other classes", "reach ξ", "left out")
    for title in titles:
        table.add_column(title, justify="right", overflow="fold")
    for run, at in rows:
        if at is None:
            table.add_row(run.name, "not yet", *[NONE] * len(titles))
            continue
        change = differences(at, rows[0][1]) if run is not rows[0][0] else {}
        peak = at.peak
        table.add_row(
            run.name,
            moment(_result(run, at)).replace(", ", "\n"),
            _cell(*ranged(at.own, 3), change.get(at.own_name)),
            NONE if peak is None else _cell(number(peak.value, 3), f"step {peak.step:,}", None),
            NONE if peak is None else number(peak.drop, 3),
            _cell(*ranged(at.between, 3), change.get("between_class")),
            _cell(*ranged_length(at.length), change.get("critical_length")),
            f"{at.excluded:,}",
        )
    return table


def _cell(value: str, range_: str, change: float | None) -> str:
    lines = [value, range_]
    if change is not None and math.isfinite(change):
        lines.append(f"Δ {number(change, 3, sign=True)}")
    return "\n".join(line for line in lines if line)


def _remarks(rows: list[tuple[Run, Standing | None]]) -> list[str]:
    known = [at for _, at in rows if at]
    told = ["Below a number its 95% interval, bootstrapped over examples."]
    if len(rows) > 1:
        told[0] = "Below a number its 95% interval, bootstrapped over examples; Δ: difference to the first run."
    if any(at.length and at.length.extrapolated for at in known):
        told.append("≈: outside the distances that were measured.")
    told += [f"{at.name}: {at.verdict.headline}" for at in known]
    return told


def _moment(options: argparse.Namespace) -> str:
    return f"step {options.step}" if options.step is not None else f"epoch {options.epoch}"


def _first(runs: list[Run]) -> str:
    first = min((run.results[0] for run in runs), key=lambda result: result.step)
    return moment(first)
