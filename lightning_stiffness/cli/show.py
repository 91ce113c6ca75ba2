"""``lightning-stiffness show``: one run in the terminal."""

import argparse
import math
from typing import Any

from lightning_stiffness.cli.finding import load_run
from lightning_stiffness.cli.heat import matrix_lines, sparkline, strongest
from lightning_stiffness.cli.layers import layer_table
from lightning_stiffness.cli.output import console, plain_ends, plain_length, plain_standing, print_json
from lightning_stiffness.cli.problem import UsageError
from lightning_stiffness.cli.views import add_view_options, chosen_view
from lightning_stiffness.figures.moment import epoch_of, moment
from lightning_stiffness.report.runs import Number, Run, Standing, standing
from lightning_stiffness.report.words import number, ranged, ranged_length
from lightning_stiffness.result import StiffnessResult

SIGNS = {"good": ("✓", "bold blue"), "fading": ("!", "bold yellow"), "bad": ("✗", "bold red")}
MANY = 16
"""Classes from which the strongest cells are told in words too."""
SERIES = (
    ("within_class", "same class"),
    ("between_class", "other classes"),
    ("within_superclass", "same group"),
    ("overall", "any two"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``show`` takes."""
    parser.add_argument("run", metavar="RUN_DIR", help="log directory of a run")
    add_view_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(command=show)


def show(options: argparse.Namespace) -> None:
    """Print the verdict, the class matrix, the layers where there are any, and the lines over training."""
    out = None if options.json else console()
    run = load_run(options.run)
    block, measure = chosen_view([run], options.block, options.measure)
    index = run.index(options.step, options.epoch)
    if index < 0:
        first = run.results[0]
        raise UsageError(f"the first result of {run.name} is that of {moment(first)}")
    if out is None:
        print_json(_plain(run, index, options.block, options.measure, (block, measure)))
    else:
        print_run(out, run, index, block, measure)


def print_run(out: Any, run: Run, index: int, block: str, measure: str) -> None:
    """The run at one of its steps, laid out for a terminal."""
    from rich.text import Text

    at, result = standing(run, index, block, measure), run.results[index]
    sign, style = SIGNS.get(at.verdict.kind, ("?", "bold"))
    place = f"{index + 1} of {len(run.results)}"
    out.print(Text.assemble((run.name, "bold"), f"  {moment(result)} ({place})"))
    out.print(Text.assemble((f"{sign} {at.verdict.headline}", style)))
    out.print(at.verdict.detail, style="dim")
    out.print()
    _print_matrix(out, result, block, measure)
    _print_layers(out, result, block, measure)
    out.print(f"Over training ({block}, {measure})", style="bold")
    for text in _lines(run, index, block, measure):
        out.print(text)
    out.print(_reach(at))
    if at.excluded:
        out.print(f"Left out: {at.excluded:,} examples, whose gradient is zero or not finite.")
    for text in result.notes:
        out.print(f"Note: {text}", style="dim")


def _print_matrix(out: Any, result: StiffnessResult, block: str, measure: str) -> None:
    matrix = result.class_matrix.get(block, {}).get(measure)
    if matrix is None or result.class_names is None:
        out.print("The examples of this run have no classes." if result.class_names is None else "No class matrix.")
        out.print()
        return
    names = result.class_names
    many = len(names) > MANY
    coloured = out.color_system is not None
    groups = result.superclasses if many else None
    lines = matrix_lines(matrix, names, groups, width=out.width, coloured=coloured)
    out.print(f"Which classes help which? ({block}, {measure})", style="bold")
    out.print("A step on an example of the row's class: its effect on examples of the column's class.", style="dim")
    for line in lines:
        out.print(line, soft_wrap=True)
    if not lines:
        out.print(f"{len(names)} classes need {len(names) + 20} columns, and there are {out.width}.", style="dim")
    if many or not lines:
        for text in strongest(matrix, names):
            out.print(text)
    out.print()


def _print_layers(out: Any, result: StiffnessResult, block: str, measure: str) -> None:
    table = layer_table(result, block, measure)
    if table is None:
        return
    out.print(f"In which layers do examples agree? ({block}, {measure})", style="bold")
    out.print(table)
    out.print()


def _lines(run: Run, index: int, block: str, measure: str) -> list[str]:
    """Sparklines of the means over training, on one scale that holds 0."""
    found = {name: [r.summary.get(block, {}).get(measure, {}).get(name, math.nan) for r in run.results]
             for name, _ in SERIES}  # fmt: skip
    if any(not math.isnan(value) for value in found["within_class"]):
        del found["overall"]
    known = [value for values in found.values() for value in values if not math.isnan(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    told = []
    for name, title in SERIES:
        values = found.get(name, [])
        finite = [value for value in values if not math.isnan(value)]
        if finite:
            ends = run.results[index].interval.get(block, {}).get(measure, {}).get(name, (math.nan, math.nan))
            now, range_ = ranged(Number(values[index], *ends), 3)
            words = f"{number(finite[0], 3)} → {now}{f'  95%: {range_}' if range_ else ''}"
            told.append(f"{title:<14} {sparkline(values, low, high)}  {words}")
    if told and len(run.results) > 1:
        told.append(f"{'':<14} bars from {number(low)} to {number(high)}, steps {_span(run)}")
    return told


def _span(run: Run) -> str:
    return f"{run.results[0].step:,} to {run.results[-1].step:,}"


def _reach(at: Standing) -> str:
    if at.length is None:
        return "Reach ξ: no distances were measured."
    if math.isnan(at.length.value):
        return f"Reach ξ: none ({at.length.reason})."
    value, range_ = ranged_length(at.length)
    beyond = ", beyond the distances measured" if at.length.extrapolated else ""
    return f"Reach ξ: {value}{f' (95%: {range_})' if range_ else ''}{beyond}"


def _plain(run: Run, index: int, block: str | None, measure: str | None, chosen: tuple[str, str]) -> dict[str, Any]:
    """The step as plain values: every block and measure, or those asked for."""
    result = run.results[index]
    at = plain_standing(standing(run, index, *chosen), result)
    blocks = {
        each: {
            one: _plain_view(result, each, one)
            for one in measures
            if measure in (None, one)
        }
        for each, measures in result.summary.items()
        if block in (None, each)
    }  # fmt: skip
    return {
        **{name: at[name] for name in ("name", "step", "epoch", "verdict", "peak", "drop_from_peak")},
        "peak_of": list(chosen),
        "steps": [one.step for one in run.results],
        "epochs": [epoch_of(one) for one in run.results],
        "class_names": result.class_names,
        "superclasses": result.superclasses,
        **({"layer_names": result.layer_names} if result.layer_names else {}),
        "blocks": blocks,
        "diagnostics": result.diagnostics,
        "excluded": result.excluded,
        "engine": result.engine,
        "settings": result.settings,
        "notes": result.notes,
    }


def _plain_view(result: StiffnessResult, block: str, measure: str) -> dict[str, Any]:
    matrix = result.class_matrix.get(block, {}).get(measure)
    intervals = result.interval.get(block, {}).get(measure, {})
    layers = result.layer_summary.get(block, {}).get(measure)
    return {
        "summary": result.summary[block][measure],
        "intervals": {name: plain_ends(*ends) for name, ends in intervals.items()},
        "critical_length": plain_length(result.critical_length.get(block, {}).get(measure)),
        "class_matrix": None if matrix is None else matrix.tolist(),
        **({"layer_summary": layers} if layers else {}),
    }
