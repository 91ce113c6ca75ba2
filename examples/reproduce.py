"""All runs behind docs/reproduction.md, by one command.

    python examples/reproduce.py                 # on two cores, at most ninety minutes
    python examples/reproduce.py --jobs 4
    python examples/reproduce.py --only mnist    # the systems whose name begins so
    python examples/reproduce.py --full          # all training data, twice the epochs, five seeds
    python examples/reproduce.py --page          # no training: figures and page from the runs there are

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
from reproduction.plan import SYSTEMS, System, full, quick, runs_of
from reproduction.sources import FOLDER
from reproduction.store import finished
from reproduction.work import data_of, perform


def main() -> None:
    """Run what is not there yet, then draw and write."""
    options = read_options()
    scale = {"full": full, "quick": quick}.get(options.scale, lambda system: system)
    systems = [scale(system) for system in SYSTEMS if system.name.startswith(tuple(options.only))]
    if options.seeds:
        systems = [replace(system, seeds=options.seeds) for system in systems]
    folder = options.runs / options.scale
    failed = [] if options.page else run_all(systems, options, folder)
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
    parser.add_argument("--page", action="store_true", help="train nothing: draw and write from the runs there are")
    options = parser.parse_args()
    if not any(system.name.startswith(tuple(options.only)) for system in SYSTEMS):
        parser.error(f"expected --only to begin the name of a system, got {' '.join(options.only)}")
    return options


def run_all(systems: list[System], options: argparse.Namespace, folder: Path) -> list[str]:
    """Perform the runs that are not there yet; the names of those that failed."""
    try:
        described = {system.name: data_of(system, options.data) for system in systems}
    except ValueError as error:
        sys.exit(f"reproduce.py: error: {error}")
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


if __name__ == "__main__":
    main()
