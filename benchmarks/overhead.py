"""What the callback costs: the MNIST example with and without it, and a measurement shared by two processes.

    python benchmarks/overhead.py --data mnist.npz     # without --data, the example's own 5,000 digits
    python benchmarks/overhead.py --epochs 2 --repeat 1

Each run is a process of its own; runs with and without the callback take turns, and ratios are of medians.
Processes that share a measurement have a core each, as launchers on clusters bind them: where the system may move
them, it leaves one waiting behind the other for some milliseconds a message.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "overhead.json"
_WARM, _MEASUREMENTS = 3, 10
"""Measurements of a process, the first of which are not counted."""


def train(options: argparse.Namespace) -> None:
    """One run of the example; prints its seconds, and those that the callback took."""
    sys.path.insert(0, str(ROOT / "examples"))
    from _classifier import ImageClassifier
    from _data import load_mnist
    from pytorch_lightning import Trainer, seed_everything
    from pytorch_lightning.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader

    from lightning_stiffness import StiffnessCallback

    train, val = load_mnist(options.data).datasets()
    seed_everything(0, verbose=False)
    stiffness = StiffnessCallback()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=options.epochs,
            callbacks=[stiffness] if options.task == "with" else [],
            logger=TensorBoardLogger(folder),
            accelerator="cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = ImageClassifier(options.model, 1e-3)
        loaders = DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=250)
        began = time.perf_counter()
        trainer.fit(module, *loaders)
        seconds = time.perf_counter() - began
    print("FOUND" + json.dumps({"seconds": seconds, "callback": stiffness.seconds, "images": len(train)}))


def measure(options: argparse.Namespace) -> None:
    """Measurements of one network in one or two processes of one thread; prints the seconds of each."""
    import torch
    from torch import distributed, nn
    from torch.nn import functional

    from lightning_stiffness.distances import DistanceCache
    from lightning_stiffness.gram.share import Share
    from lightning_stiffness.measure import measure_probe
    from lightning_stiffness.probeset import probe_of_batch
    from lightning_stiffness.settings import Settings

    sys.path.insert(0, str(ROOT / "examples"))
    from _networks import COLOUR_NETWORKS, NETWORKS

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # Linux alone
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[options.rank % len(cores)]})
    share = None
    if options.processes > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{options.meeting}", rank=options.rank, world_size=options.processes
        )
        share = Share(options.rank, options.processes, torch.device("cpu"))
    torch.manual_seed(0)
    net: nn.Module = {**NETWORKS, **COLOUR_NETWORKS}[options.network](channels=1, side=28).eval()
    patterns, labels = torch.rand(10, 1, 28, 28), torch.arange(500) % 10
    probe = {
        split: probe_of_batch((patterns[labels] + 0.3 * torch.randn(500, 1, 28, 28), labels))
        for split in ("train", "val")
    }

    def loss_fn(module: nn.Module, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    times, cache = [], DistanceCache()
    for _ in range(_MEASUREMENTS):
        began = time.perf_counter()
        measure_probe(net, probe, loss_fn=loss_fn, settings=Settings(), cache=cache, share=share)
        times.append(time.perf_counter() - began)
    print("FOUND" + json.dumps(times[_WARM:]), flush=True)
    if share is not None:
        distributed.barrier()
        # Threads of Gloo that end after the interpreter would abort it; destroying the group may hang (torch 2.4).
        os._exit(0)


def start(task: str, options: argparse.Namespace, **more: Any) -> "subprocess.Popen[str]":
    arguments = {"model": options.model, "epochs": options.epochs, **more}
    if options.data:
        arguments["data"] = options.data
    listed = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, __file__, "--task", task, *listed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def found(process: "subprocess.Popen[str]") -> Any:
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(err)
    return json.loads(out.split("FOUND")[1])


def compare(options: argparse.Namespace) -> None:
    """Runs with and without the callback in turn, then measurements in one and in two processes."""
    runs: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    for _ in range(options.repeat):
        for task, kept in runs.items():
            kept.append(found(start(task, options)))
            print(f"{task:<8} {kept[-1]['seconds']:7.1f} s", flush=True)
    own = extra = None
    if options.repeat:
        seconds = {task: statistics.median(run["seconds"] for run in kept) for task, kept in runs.items()}
        own = statistics.median(run["callback"] / run["seconds"] for run in runs["with"])
        extra = seconds["with"] / seconds["without"] - 1
        print(
            f"A run takes {extra:+.1%} longer with the callback; by its own account it takes {own:.1%} of the run."
        )
    shared = {}
    for network in options.networks:
        shared[network] = [share(network, options) for _ in range(options.turns)]
        one, two = (statistics.median(times) for times in zip(*shared[network], strict=True))
        ratios = sorted(two / one for one, two in shared[network])
        print(
            f"{network}: a measurement takes {one:.3f} s in one process, {two:.3f} s in two: "
            f"{statistics.median(ratios):.2f} of it ({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} turns).",
            flush=True,
        )
    told = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load": os.getloadavg(),
        "options": {name: getattr(options, name) for name in ("model", "epochs", "repeat", "turns")},
        "training images": runs["with"][0]["images"] if options.repeat else None,
        "runs": runs,
        "longer": extra,
        "own account": own,
        "seconds in one process and in two": shared,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n")


def share(network: str, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a measurement in one process of one thread, and in two: medians."""
    one = statistics.median(found(start("measure", options, network=network)))
    with tempfile.TemporaryDirectory() as folder:
        more = {"network": network, "processes": 2, "meeting": f"{folder}/meeting"}
        both = [start("measure", options, rank=rank, **more) for rank in range(2)]
        return one, max(statistics.median(found(process)) for process in both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as examples/mnist.py takes it")
    parser.add_argument("--model", default="fc", help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="default %(default)s")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind, default %(default)s")
    parser.add_argument("--turns", type=int, default=5, help="for the processes, default %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON to write, default %(default)s")
    parser.add_argument(
        "--networks", nargs="+", default=["fc", "cnn", "resnet20"], help="for the processes, default %(default)s"
    )
    for name in ("task", "meeting", "network"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = {"with": train, "without": train, "measure": measure}
    work.get(options.task, compare)(options)


if __name__ == "__main__":
    main()
