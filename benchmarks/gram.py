"""Time and memory of the Gram of per-example gradients: this package's engines and other packages.

Every time is a multiple of one plain forward and backward pass over the same probe, taken in the same process and
in turn with it. Every contender runs in a process of its own, within limits of time and memory; where it can't do
a network, the table says why. README.md beside this file says how to read the tables.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _contenders import CONTENDERS
from _tables import TITLES, report
from _zoo import NETWORKS, build

HERE = Path(__file__).parent
QUICK = {"fc": 100, "cnn": 100, "resnet20": 50}
MB = 10**6
BUDGETS: dict[str, list[int | None]] = {
    "fc": [20 * MB, 100 * MB, None],
    "resnet20": [200 * MB, 1000 * MB, None],
    "transformer-64": [500 * MB, 1000 * MB, None],
    "resnet18": [500 * MB, 2000 * MB, None],
}
CHECKED = ("fc",)
"""Where the check takes a noticeable part of the time."""
RUNS = 7
"""Processes of their own that make a run of measurements, with the check and without."""
PEERS = "pip install -e '.[bench]' && pip install --no-deps -r benchmarks/peers.txt"


class Runner:
    """Runs jobs in processes of their own; each answer tells how busy the machine was."""

    def __init__(self, arguments: argparse.Namespace):
        self.fixed = {
            "device": arguments.device,
            "threads": arguments.threads,
            "repeat": arguments.repeat,
            "seconds": arguments.seconds,
            "memory": int(arguments.memory * 1e9),
            "limit": arguments.limit,
        }

    def __call__(self, what: str, **more: Any) -> dict[str, Any]:
        """The answer to one job: what was found, with ``cannot`` where it did not come to its end."""
        read, write = os.pipe()
        job = {**self.fixed, "what": what, "answer": write, **more}
        threads = str(self.fixed["threads"])
        environment = {**os.environ, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, str(HERE / "_measuring.py"), json.dumps(job)]
        load = os.getloadavg()[0]
        found: dict[str, Any] = {}
        with open(read, "rb") as answer:
            try:
                done = subprocess.run(
                    command,
                    pass_fds=[write],
                    timeout=5 * self.fixed["limit"],  # on a machine that has other things to do
                    capture_output=True,
                    text=True,
                    env=environment,
                )
                died = "" if done.returncode == 0 else self._death(done)
            except subprocess.TimeoutExpired:
                died = f"takes longer than {5 * self.fixed['limit']} s"
            os.close(write)
            for line in answer:
                found.update(json.loads(line))
        found["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
        if died and "times" not in found:
            found.setdefault("cannot", died)
        return found

    def _death(self, done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode == -signal.SIGXCPU:
            return f"takes longer than {self.fixed['limit']} s of processor time"
        if done.returncode == -signal.SIGKILL:
            return "was killed, as happens where memory runs out"
        if "bad_alloc" in done.stderr or "allocate memory" in done.stderr:
            return "needs more memory than the limit"
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"ended with code {done.returncode}"


def measure(
    key: str, n: int, contenders: list[str], run: Runner, budgets: list[int | None]
) -> Iterator[dict[str, Any]]:
    """The figures of one network: all so far, after each contender."""
    base = run("baseline", network=key, n=n)
    floor = base.pop("floor", {})
    rows = {"plain": base, "floor": floor}
    result = {"key": key, "title": NETWORKS[key].title, "n": n, "parameters": build(key, 2).size, "rows": rows}
    for name in contenders:
        print(f" {name}", end="", flush=True, file=sys.stderr)
        rows[name] = run("contender", network=key, n=n, contender=name)
        yield result
    if "layerwise" in contenders:
        result["check"] = run("check", network=key, n=n)
        if key in CHECKED:
            result["check_mean"] = run("check", network=key, n=n, mean=True)
            for part, mean in (("check", False), ("check_mean", True)):
                result[part]["adds"] = run("unchecked", network=key, n=n, mean=mean)
                turns = [checked for _ in range(RUNS) for checked in (True, False)]
                spent = [run("run", network=key, n=n, mean=mean, checked=checked) for checked in turns]
                result[part]["run"] = {
                    way: [one["seconds"] for one, on in zip(spent, turns, strict=True) if on == checked]
                    for way, checked in (("with", True), ("without", False))
                }
        result["budgets"] = [{"budget": b, **run("budget", network=key, n=n, budget=b)} for b in budgets]
    print(file=sys.stderr)
    yield result


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = platform.processor() or platform.machine()
    memory = None
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": time.strftime("%Y-%m-%d"),
    }


def versions() -> dict[str, str]:
    """Of Python and of every package that is installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for contender in CONTENDERS.values():
        if contender.version and contender.package != "torch":
            found[contender.package or "lightning-stiffness"] = contender.version
    return found


def added(earlier: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result with what an earlier run found of other contenders, where it ran alike."""

    def way(of: dict[str, Any]) -> list[Any]:
        settings, ran_on = of["settings"], of["machine"]
        device = ran_on.get("gpu") if settings.get("device", "cpu") != "cpu" else ran_on["cpu"]
        return [of.get("n"), settings["threads"], of["versions"]["torch"], device]

    if way(earlier) != way(result):
        raise SystemExit(
            f"--add: the earlier run was another: {way(earlier)}, not {way(result)}. Name another --out."
        )
    parts = {k: {**earlier[k], **result[k]} for k in ("rows", "traps") if k in result}
    if "rows" in parts:  # in the order of the table
        parts["rows"] = {name: parts["rows"][name] for name in TITLES if name in parts["rows"]}
    kept = {key: value for key, value in earlier.items() if not result.get(key)}
    return {**result, **kept, **parts}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, metavar="NAME", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--n", type=int, help="examples, instead of each network's own number")
    parser.add_argument("--repeat", type=int, default=7, help="timings of each contender (default 7)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="three networks, few examples; some minutes")
    parser.add_argument("--no-traps", action="store_true", help="leave out the table of small modules")
    parser.add_argument("--no-budgets", action="store_true", help="leave out the table of memory budgets")
    parser.add_argument("--seconds", type=float, default=60, help="after which no timing is begun (default 60)")
    parser.add_argument("--limit", type=int, default=400, help="seconds of processor time for a contender")
    parser.add_argument("--memory", type=float, default=10, help="GB that a contender may take (default 10)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for JSON, one a network")
    parser.add_argument("--add", action="store_true", help="keep what the files there hold of other contenders")
    parser.add_argument("--show", type=Path, nargs="+", metavar="JSON", help="print these files; measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.show:
        report([json.loads(path.read_text()) for path in arguments.show], arguments.markdown)
        return
    if arguments.quick:
        arguments.repeat, arguments.seconds = min(arguments.repeat, 3), min(arguments.seconds, 10)
    wanted = arguments.contender or [name for name in CONTENDERS if name != "vmap"]
    contenders = [name for name in wanted if CONTENDERS[name].version]
    absent = [name for name in wanted if name not in contenders]
    if absent:
        print(f"Not installed, so left out: {', '.join(absent)}. To install: {PEERS}", file=sys.stderr)
    results: dict[str, dict[str, Any]] = {}
    earlier = {file: json.loads(file.read_text(encoding="utf-8")) for file in arguments.out.glob("*.json")}

    def keep(name: str, result: dict[str, Any]) -> None:
        """Write what was found at once, so that a run broken off leaves it."""
        head = {"machine": machine(), "versions": versions(), "settings": run.fixed}
        results[name] = {**head, **result, "absent": absent}
        file = arguments.out / f"{name}.json"
        if arguments.add and file in earlier:
            results[name] = added(earlier[file], results[name])
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(results[name], indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")

    for key in arguments.network or (QUICK if arguments.quick else NETWORKS):
        n = arguments.n or (QUICK.get(key, 16) if arguments.quick else NETWORKS[key].n)
        print(f"{NETWORKS[key].title}, n={n}:", end="", flush=True, file=sys.stderr)
        run = Runner(arguments)
        budgets = [] if arguments.no_budgets or arguments.quick else BUDGETS.get(key, [])
        for result in measure(key, n, contenders, run, budgets):
            keep(key, result)
    if not arguments.no_traps:
        run = Runner(arguments)
        answers = {name: run("traps", contender=name) for name in contenders}
        for answer in answers.values():
            del answer["load"]  # nothing is timed
        keep("traps", {"traps": answers})
    report(list(results.values()), arguments.markdown)


if __name__ == "__main__":
    main()
