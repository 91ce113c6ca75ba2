"""The benchmark's tables."""

import statistics
import sys
from typing import Any

from _contenders import CONTENDERS
from _measuring import RIGHT

TITLES = {
    "plain": "plain forward + backward",
    "floor": "forward + backward + half of G Gᵀ",
    **{key: contender.title for key, contender in CONTENDERS.items()},
}


def report(results: list[dict[str, Any]], markdown: bool) -> None:
    """Print everything that was measured."""
    for result in results:
        if "rows" in result:
            network(result, markdown)
        if result.get("budgets"):
            budgets(result, markdown)
        if "traps" in result:
            traps(result, markdown)


def network(result: dict[str, Any], markdown: bool) -> None:
    title = f"{result['title']}: {result['parameters']:,} parameters, n={result['n']}"
    head = ["", "× fwd+bwd", "least", "processor", "seconds", "extra memory", "inner products"]
    cells = [[TITLES[name], *shown(row)] for name, row in result["rows"].items()]
    table(title, head, cells, markdown)
    loads = [load for row in result["rows"].values() for load in row.get("load", [])]
    on_gpu = result["settings"].get("device", "cpu") != "cpu"
    machine = result["machine"]
    print(
        f"\n{machine['gpu'] + '. ' if on_gpu else ''}"
        f"Threads: {result['settings']['threads']}, on {machine['cores']} cores of {machine['cpu']}"
        f"{' with ' + machine['instructions'] if 'instructions' in machine else ''}; "
        f"torch {result['versions']['torch']}{', ' + machine['date'] if 'date' in machine else ''}; "
        f"load of the machine meanwhile: {min(loads)} to {max(loads)}."
    )
    told_of_check(result.get("check", {}), "Of the layerwise engine's time")
    told_of_check(result.get("check_mean", {}), "Of its time for the mean of the losses")


def told_of_check(check: dict[str, Any], of_time: str) -> None:
    """What the check takes of the time, in words."""
    if "values" in check:
        print(
            f"{of_time}, {check['gradients']:.1%} holds it against the gradients of single examples in a first "
            f"measurement, {check['values']:.1%} against their values in later ones, and {check['tracing']:.1%} "
            "traces one of them."
        )
    adds = check.get("adds", {})
    if "without" in adds:
        first, later, without = (statistics.median(adds[way]) for way in ("first", "later", "without"))
        print(
            f"In turn, {len(adds['without'])} times each: {1e3 * first:.1f} ms with the check of a first "
            f"measurement, {1e3 * later:.1f} ms with that of later ones, {1e3 * without:.1f} ms without: it adds "
            f"{1 - without / first:.1%} and {1 - without / later:.1%} of the time."
        )
    whole = check.get("run", {})
    if whole:
        checked, without = (statistics.median(whole[way]) for way in ("with", "without"))
        print(
            f"The first 20 measurements of a process, {len(whole['with'])} times each: {1e3 * checked:.0f} ms with "
            f"the check, {1e3 * without:.0f} ms without: it adds {1 - without / checked:.1%} of the time."
        )


def shown(row: dict[str, Any]) -> list[str]:
    """Multiples, seconds, memory and correctness of one row, as text."""
    memory = size(row["peak"]) if "peak" in row else "–"
    verdict = verdict_of(row)
    if "times" not in row:
        return ["–", "–", "–", "–", memory, verdict]
    if "extrapolated" in row:
        verdict += f"; time from {row['extrapolated']} examples"
    multiples = [number(row[key]) for key in ("times", "least_times", "processor_times")]
    return [*multiples, f"{row['seconds']:.3g}", memory, verdict]


def verdict_of(row: dict[str, Any]) -> str:
    said = []
    if "error" in row:
        right = row["error"] <= RIGHT
        said.append(f"right ({row['error']:.0e})" if right else f"wrong by {row['error']:.2g} of the norms")
    if "cannot" in row:
        said.append(f"cannot: {shortened(row['cannot'])}")
    return "; ".join(said)


def shortened(text: str, most: int = 110) -> str:
    return text if len(text) <= most else text[: most - 2] + " …"


def number(x: float) -> str:
    return f"{x:.{2 if x < 10 else 1 if x < 100 else 0}f}"


def size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def budgets(result: dict[str, Any], markdown: bool) -> None:
    cells = []
    for row in result["budgets"]:
        name = "none" if row["budget"] is None else size(row["budget"])
        if "peak" not in row:
            cells.append([name, "–", "–", "–", "–", verdict_of(row)])
            continue
        share = f"{row['peak'] / row['budget']:.2f}" if row["budget"] else "–"
        times = number(row["times"]) if "times" in row else "–"
        cells.append([name, times, size(row["peak"]), share, f"{row['difference']:.0e}", verdict_of(row)])
    head = ["memory_budget", "× fwd+bwd", "extra memory", "of the budget", "difference from none", "inner products"]
    table(f"memory_budget of the layerwise engine: {result['title']}, n={result['n']}", head, cells, markdown)


def traps(result: dict[str, Any], markdown: bool) -> None:
    names = [name for name in result["traps"] if name != "loop"]
    cells = [
        [trap, *(_of_trap(result["traps"][name].get(trap, {})) for name in names)]
        for trap in result["traps"][names[0]]
    ]
    head = ["", *names]
    table("Small modules: inner products against one backward pass per example in float64", head, cells, markdown)


def _of_trap(answer: dict[str, Any]) -> str:
    if "error" not in answer:
        return "cannot"
    return "right" if answer["error"] <= RIGHT else f"WRONG {answer['error']:.2g}"


def table(title: str, head: list[str], rows: list[list[str]], markdown: bool) -> None:
    """Print a table: with rich where it is installed, in Markdown where asked for."""
    if not markdown:
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            drawn = Table(*head, title=title, title_justify="left")
            for row in rows:
                drawn.add_row(*row)
            Console(width=None if sys.stdout.isatty() else 170).print(drawn)
            return
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
