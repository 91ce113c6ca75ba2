"""All runs behind docs/reproduction.md, by one command.

    python examples/reproduce.py                 # on two cores, at most ninety minutes
    python examples/reproduce.py --jobs 4
    python examples/reproduce.py --only mnist    # the systems whose name begins so
    python examples/reproduce.py --full          # all training data, twice the epochs, five seeds
    python examples/reproduce.py --page          # no training: report on the runs there are
    python examples/reproduce.py --docs          # renews docs/reproduction.md with what it finds

A run that is finished lies in a file of its own and is not run again, as long as its settings and data stay the
same: stop at any time, and go on with the same command.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a run, a thread a process

from _options import positive_int
from reproduction.claims import judge
from reproduction.course import Course
from reproduction.figures import draw_all
from reproduction.page import beside_runs, verdicts, written
from reproduction.plan import SYSTEMS, System, full, quick, runs_of
from reproduction.results import collect, courses_of, read_results, write_results
from reproduction.sources import FOLDER, groups_of
from reproduction.store import finished, write_whole
from reproduction.work import data_of, perform

DOCS = Path(__file__).parents[1] / "docs"
REPORT = [DOCS / "reproduction" / "results.json", DOCS / "images" / "reproduction", DOCS / "reproduction.md"]
"""Results, figures and page."""


def main() -> None:
    """Run what is not there yet, then draw and write."""
    options = read_options()
    scale = {"full": full, "quick": quick}.get(options.scale, lambda system: system)
    systems = [scale(system) for system in SYSTEMS if system.name.startswith(tuple(options.only))]
    if options.seeds:
        systems = [replace(system, seeds=options.seeds) for system in systems]
    folder = options.runs / options.scale
    try:
        described = {system.name: data_of(system, options.data) for system in systems}
    except ValueError as error:
        sys.exit(f"reproduce.py: error: {error}")
    failed = [] if options.page else run_all(systems, options, folder, described)
    report(systems, options, folder, described)
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}; the same command tries them again")


def read_options() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=positive_int, default=2, help="runs at a time, default %(default)s")
    parser.add_argument(
        "--data",
        help="folder that holds mnist/mnist.npz, fashion_mnist/fashion_mnist.npz and so on, or 'embedded'; by "
        f"default {FOLDER} where it has them, else what each example takes by itself",
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="SYSTEM", help="systems whose name begins so: "
        + ", ".join(system.name for system in SYSTEMS),
    )  # fmt: skip
    scale = parser.add_mutually_exclusive_group()
    for name, what in (("full", "all training data, twice the epochs"), ("quick", "a few seconds a run: a test")):
        scale.add_argument(
            f"--{name}", dest="scale", action="store_const", const=name, default="default", help=what
        )
    parser.add_argument("--seeds", type=positive_int, help="so many seeds of each system")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduction"), help="folder of the finished runs")
    about_docs = "renew docs/reproduction.md with its results and figures, instead of writing them beside the runs"
    parser.add_argument("--docs", action="store_true", help=about_docs)
    parser.add_argument("--page", action="store_true", help="train nothing: draw and write from the runs there are")
    options = parser.parse_args()
    if not any(system.name.startswith(tuple(options.only)) for system in SYSTEMS):
        parser.error(f"expected --only to begin the name of a system, got {' '.join(options.only)}")
    return options


def run_all(
    systems: list[System], options: argparse.Namespace, folder: Path, described: dict[str, tuple[str, str]]
) -> list[str]:
    """Perform the runs that are not there yet; the names of those that failed."""
    for data in dict.fromkeys(words for _, words in described.values()):
        print(f"Data: {data}", flush=True)
    runs = runs_of(systems)
    missing = [run for run in runs if finished(folder, run, described[run.system.name][0]) is None]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them there already, in {folder}", flush=True)
    if not missing:
        return []
    failed, began = [], time.perf_counter()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        pending = {pool.submit(perform, run, options.data, folder): run for run in missing}
        for count, future in enumerate(as_completed(pending), 1):
            run, error = pending[future], future.exception()
            took = (time.perf_counter() - began) / 60
            if error is not None:
                failed.append(run.name)
                outcome = f"FAILED: {type(error).__name__}: {error}"
            else:
                outcome = f"{future.result():.0f} s"
            print(f"[{count}/{len(missing)}, {took:.1f} min] {run.name}: {outcome}", flush=True)
    return failed


def report(
    systems: list[System], options: argparse.Namespace, folder: Path, described: dict[str, tuple[str, str]]
) -> None:
    """Say what the finished runs show, and write results, figures and page."""
    runs = runs_of(systems)
    stored = collect(folder, runs, {name: checksum for name, (checksum, _) in described.items()})
    if not stored:
        sys.exit(f"reproduce.py: error: there are no finished runs in {folder}")
    print(f"\n{len(stored)} of {len(runs)} runs\n" + verdicts(judge(courses_of(stored))), flush=True)
    results, images, page = (
        REPORT if options.docs else [folder / "report" / name for name in ("results.json", "", "page.md")]
    )
    write_results(results, stored, len(runs))
    by_system: dict[str, list[Course]] = {}
    for course in courses_of(stored):
        by_system.setdefault(course.system, []).append(course)
    groups, names = groups_of(options.data) if "cifar100-cnn" in by_system else ([], [])
    figures = draw_all(by_system, images, groups, names)
    told, template = read_results(results), REPORT[2].read_text("utf-8")
    beside = [figure.name for figure in figures]
    write_whole(page, written(template, *told) if options.docs else beside_runs(template, *told, beside))
    print("\n".join(map(str, [results, page, *figures])), flush=True)


if __name__ == "__main__":
    main()
