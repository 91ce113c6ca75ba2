"""One measurement in a process of its own: ``python _measuring.py '{"what": …}'`` answers in lines of JSON.

A fresh process has no memory of earlier contenders: neither their allocations nor their hooks. Each line holds
more than the one before, so that a process that is stopped leaves what it has found.
"""

import contextlib
import copy
import gc
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from _contenders import CONTENDERS, engine, quiet
from _traps import TRAPS, trap
from _zoo import Network, build
from torch import Tensor
from torch.nn import functional as F

RIGHT = 1e-3
"""Largest error of an inner product, relative to the two norms, of a contender that counts as right."""
LOOPED = 16
"""Examples that the loop is timed on where all would take long; their time is scaled up."""
SHORT = 2.0
"""Seconds that short measurements are repeated for, beyond the repeats asked for."""
MEASUREMENTS = 20
"""Of a run."""
SETTLED = 5
"""Measurements of a module after which no gradient is left to be held against an example's own."""

Tell = Callable[[dict[str, Any]], None]


def plain(network: Network) -> None:
    """What everything is measured by: one forward and backward pass over the probe, as training does it."""
    for parameter in network.module.parameters():
        parameter.grad = None
    network.losses().mean().backward()


@dataclass(frozen=True)
class Span:
    """Seconds that something took: on the clock, and of all its threads on the processor."""

    clock: float
    processor: float

    def plus(self, other: "Span", times: float = 1.0) -> "Span":
        return Span(self.clock + times * other.clock, self.processor + times * other.processor)


def built(job: dict[str, Any]) -> Network:
    """The network of a job, on its device."""
    return build(job["network"], job["n"]).to(job["device"])


def timed(function: Callable[[], Any]) -> Span:
    settle()
    clock, processor = time.perf_counter(), time.process_time()
    function()
    settle()
    return Span(time.perf_counter() - clock, time.process_time() - processor)


def settle() -> None:
    """Wait for the GPU, if it is in use: it works on while the processor goes ahead."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def summary(base: list[Span], own: list[Span], scale: float = 1.0) -> dict[str, Any]:
    """Median and least of some times, and their multiples of those of the plain pass.

    Other processes on the machine lengthen the time on the clock, and hardly that on the processor.
    """
    clock, plain = [span.clock * scale for span in own], [span.clock for span in base]
    processor = statistics.median(span.processor * scale for span in own)
    return {
        "times": statistics.median(clock) / statistics.median(plain),
        "least_times": min(clock) / min(plain),
        "processor_times": processor / statistics.median(span.processor for span in base),
        "seconds": statistics.median(clock),
        "least_seconds": min(clock),
        "plain_seconds": statistics.median(plain),
        "least_plain_seconds": min(plain),
        "repeats": len(own),
    }


def contender(job: dict[str, Any], tell: Tell) -> None:
    """Memory, correctness and time of a contender: the first from its first call, the last from all others."""
    network = built(job)
    entry, room = CONTENDERS[job["contender"]], job["memory"]
    needs = entry.needs(network)
    if needs > room:
        tell({"cannot": f"needs {needs / 1e9:.1f} GB", "needs": needs})
        return
    treated = network
    few = network.first(min(network.n, LOOPED))
    if job["contender"] == "loop":
        compute = entry.prepare(few, room)
        compute()
        if timed(compute).processor * network.n / few.n > job["seconds"] / 4:
            treated = few
            tell({"extrapolated": few.n})
    else:
        some = network.first(min(network.n, 4))
        tell({"error": error_of(entry.prepare(some, room)(), some)})  # should all of them take too long
    gc.collect()
    compute, scale = entry.prepare(treated, room), network.n / treated.n
    taken: list[Any] = []
    first = timed(lambda: taken.extend(peak_memory(compute)))
    peak, gram = taken
    if treated is network:
        tell({"peak": peak})
    tell({"error": error_of(gram, treated)})
    taken.clear()
    del gram
    plain(network)
    base, own = [timed(lambda: plain(network))], [first]
    tell(summary(base, own, scale))
    begun, own = time.process_time(), []
    while True:
        spent = (time.process_time() - begun) / job["threads"]
        if len(own) >= job["repeat"] and (spent > SHORT or len(own) >= 10 * job["repeat"]):
            break
        if own and spent + first.processor / job["threads"] > job["seconds"]:
            break
        gc.collect()
        base.append(timed(lambda: plain(network)))
        gc.collect()
        own.append(timed(compute))
        tell(summary(base[1:], own, scale))


def baseline(job: dict[str, Any], tell: Tell) -> None:
    """Time and memory of the plain pass, and the least of whatever forms per-example gradients.

    That is forward and backward plus half the product of their matrix with itself, as if they cost nothing.
    """
    network = built(job)
    plain(network.first(2))
    gc.collect()
    peak, _ = peak_memory(lambda: plain(network))
    tell({"peak": peak})
    base = [timed(lambda: plain(network)) for _ in range(job["repeat"])]
    tell(summary(base, base))
    products = [half_product(network) for _ in range(3)]
    base += [timed(lambda: plain(network)) for _ in range(job["repeat"])]
    least = min(base, key=lambda span: span.clock)
    floor = summary(base, [least.plus(product) for product in products])
    tell({"floor": floor, **summary(base, base)})


def half_product(network: Network) -> Span:
    """Half of G Gᵀ in float32; long gradients are measured on some columns and scaled up."""
    total = Span(0, 0)
    for parameter in network.module.parameters():
        columns = min(parameter.numel(), 16384)
        gradients = torch.randn(network.n, columns, device=parameter.device)
        gradients @ gradients.T
        total = total.plus(timed(lambda g=gradients: g @ g.T), parameter.numel() / columns / 2)
    return total


def check_share(job: dict[str, Any], tell: Tell) -> None:
    """Parts of the layerwise engine's time: what holds it against the gradients of single examples, and against
    their values as in later measurements of the same module; and the trace of one, needed without a check too."""
    from lightning_stiffness.gram import alone, collect, familiar, measurement, reference, wiring

    compute = engine("layerwise", mean=job.get("mean", False))(built(job), job["memory"])
    spent: dict[str, float] = {}

    def clocked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] = spent.get(part, 0.0) + time.perf_counter() - start

        return run

    def within(function: Callable[..., Any]) -> Callable[..., Any]:
        """The reference, of whose time its gradient is of the check; that of others is counted with them."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with mock.patch.object(reference, "_gradients", clocked(reference._gradients, "of the check")):
                return function(*args, **kwargs)

        return run

    inside = measurement.Measurement
    shares: dict[str, list[float]] = {}
    compute()
    with (
        mock.patch.multiple(
            measurement,
            Alone=clocked(alone.Alone, "check"),
            look_again=clocked(measurement.look_again, "check"),
            refuse_mixing=clocked(measurement.refuse_mixing, "check"),
            check_total=clocked(measurement.check_total, "check"),
            trusted=clocked(measurement.trusted, "check"),
        ),
        mock.patch.object(alone.Alone, "accompany", clocked(alone.Alone.accompany, "check")),
        mock.patch.object(alone.Alone, "prove", clocked(alone.Alone.prove, "check")),
        mock.patch.object(collect.Collector, "_compare", clocked(collect.Collector._compare, "check")),
        mock.patch.object(wiring.Wiring, "takes", clocked(wiring.Wiring.takes, "check")),
        mock.patch.object(wiring.Wiring, "gives", clocked(wiring.Wiring.gives, "check")),
        mock.patch.object(inside, "_is_in_doubt", clocked(inside._is_in_doubt, "check")),
        mock.patch.object(alone, "refer", clocked(within(alone.refer), "reference")),
        mock.patch.object(alone, "refer_if_familiar", clocked(within(alone.refer_if_familiar), "reference")),
        mock.patch.object(alone.Alone, "_wanted", clocked(alone.Alone._wanted, "of the check")),
        mock.patch.object(reference, "_look_behind", clocked(reference._look_behind, "of the check")),
    ):
        for kind in ("gradients", "values") * job["repeat"]:
            if kind == "gradients":
                familiar.forget()
            else:
                for _ in range(SETTLED):
                    compute()
            spent.clear()
            whole = timed(compute).clock
            traced = spent["reference"] - spent["of the check"]
            shares.setdefault(kind, []).append((spent["check"] - traced) / whole)
            shares.setdefault("tracing", []).append(traced / whole)
    tell({name: statistics.median(values) for name, values in shares.items()})


def without_check() -> contextlib.ExitStack:
    """A context in which the layerwise engine does not check what it finds: one example is traced, and no more."""
    from lightning_stiffness.gram import alone, measurement, reference, wiring

    def nothing(*_: Any, **__: Any) -> None:
        """Instead of a mock: to make one takes as long as what it is there to leave out."""

    class Nobody(alone.Alone):
        def __init__(self, problem: Any, every: Any, place: int, *_: Any, **__: Any):
            with mock.patch.object(reference, "_trace_back", nothing):
                self.reference = reference.refer(problem, every, place, lambda _: reference.Wanted.VALUES)
            self.witness, self.proof, self.sure = alone.Witness([], {}, {}), None, None

        def accompany(self) -> list[Any]:
            return []

        def prove(self, *_: Any, **__: Any) -> None:
            pass

    def uncompared(own: Any, group: Any, collected: Any, offset: int, *_: Any) -> list[str]:
        if collected.scalar:
            own.reduction.enter(collected.sizes, offset, len(own.every), own.device)
            own.reduction.could_be_sum = False
        names: list[str] = group.names
        return names

    stack = contextlib.ExitStack()
    stack.enter_context(
        mock.patch.multiple(
            measurement,
            Alone=Nobody,
            check_total=nothing,
            look_again=nothing,
            refuse_mixing=nothing,
            trusted=uncompared,
        )
    )
    stack.enter_context(mock.patch.multiple(wiring.Wiring, takes=nothing, gives=nothing))
    return stack


def unchecked(job: dict[str, Any], tell: Tell) -> None:
    """Times of the layerwise engine with the check of later measurements, with that of a first one, and with none,
    in turn: what it adds, where :func:`check_share` adds up what its calls take."""
    from lightning_stiffness.gram import familiar

    compute = engine("layerwise", mean=job.get("mean", False))(built(job), job["memory"])
    seconds: dict[str, list[float]] = {"first": [], "later": [], "without": []}
    order = [*seconds]
    dice = random.Random(0)  # what runs before has its part in how long something takes
    compute()
    while sum(map(sum, seconds.values())) < SHORT or len(seconds["without"]) < job["repeat"]:
        dice.shuffle(order)
        for way in order:
            for _ in range(SETTLED):
                compute()
            if way == "first":
                familiar.forget()
            with without_check() if way == "without" else contextlib.nullcontext():
                seconds[way].append(timed(compute).clock)
    tell(seconds)


def whole_run(job: dict[str, Any], tell: Tell) -> None:
    """Seconds that the first measurements of a process take together, with the check or without."""
    network = built(job)
    compute = engine("layerwise", mean=job.get("mean", False))(network, job["memory"])
    for _ in range(3):  # some training comes before
        plain(network)
    with contextlib.nullcontext() if job["checked"] else without_check():
        gc.collect()  # which Python does at some time, and which takes as long as several measurements
        tell({"seconds": timed(lambda: [compute() for _ in range(MEASUREMENTS)]).clock})


def budget(job: dict[str, Any], tell: Tell) -> None:
    """Time and memory of the layerwise engine under a budget, and how far its result is from that without."""
    network = built(job)
    engine("layerwise")(network.first(4), job["memory"])()
    gc.collect()
    compute = engine("layerwise", job["budget"])(network, job["memory"])
    peak, gram = peak_memory(compute)
    norms = gram.diagonal().sqrt()
    reference = engine("layerwise")(network, job["memory"])()
    difference = float(((gram - reference).abs() / norms[:, None] / norms[None, :]).max())
    tell({"peak": peak, "difference": difference, "error": error_of(gram, network)})
    base, own = [], []
    for _ in range(min(job["repeat"], 3)):
        base.append(timed(lambda: plain(network)))
        own.append(timed(compute))
    tell(summary(base, own))


def traps(job: dict[str, Any], tell: Tell) -> None:
    """The error of a contender on each small module, or why it can't."""
    for name in TRAPS:
        network = trap(name)
        try:
            error = error_of(CONTENDERS[job["contender"]].prepare(network, job["memory"])(), network)
        except Exception as refusal:
            tell({name: {"cannot": reason(refusal)}})
        else:
            tell({name: {"error": error}})


def peak_memory(function: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes of resident memory, or of a GPU's in use, at the peak above those before, and the result."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        result = function()
        return torch.cuda.max_memory_allocated() - held, result
    before = _peak()
    with contextlib.suppress(OSError):  # else the peak since the process began, which new ones have to pass
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts again from here
        before = _status("VmRSS")
    result = function()
    return max(0, _peak() - before), result


def _peak() -> int:
    """Bytes of resident memory at the peak."""
    try:
        return _status("VmHWM")
    except OSError:  # not Linux; there this also counts the process that started this one
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def error_of(gram: Tensor, network: Network, count: int = 8) -> float:
    """Largest error among some examples' inner products, relative to the norms.

    The truth is one backward pass per example in float64, written out here, with nothing of the package.
    """
    count = min(count, network.n)
    picked = sorted({round(i * (network.n - 1) / max(1, count - 1)) for i in range(count)})
    module = copy.deepcopy(network.module).double().eval()
    trained = [p for p in module.parameters() if p.requires_grad]
    x = network.x.double() if network.x.is_floating_point() else network.x
    gradients = []
    for i in picked:
        loss = F.cross_entropy(module(x[i : i + 1]), network.y[i : i + 1])
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)]))
    expected = torch.stack(gradients) @ torch.stack(gradients).T
    norms = expected.diagonal().sqrt()
    got = gram[picked][:, picked].double()
    return float(((got - expected).abs() / norms[:, None] / norms[None, :]).max())


def reason(error: BaseException) -> str:
    """Why a contender can't, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "needs more memory than the limit"
    return text[:300]


JOBS: dict[str, Callable[[dict[str, Any], Tell], None]] = {
    "contender": contender,
    "baseline": baseline,
    "check": check_share,
    "unchecked": unchecked,
    "run": whole_run,
    "budget": budget,
    "traps": traps,
}


def run(job: dict[str, Any], tell: Tell) -> None:
    """One job of :data:`JOBS`; whatever goes wrong is told as ``cannot``."""
    try:
        JOBS[job["what"]](job, tell)
    except (Exception, MemoryError) as error:
        tell({"cannot": reason(error)})


def main() -> None:
    job = json.loads(sys.argv[1])
    quiet()
    torch.set_num_threads(job["threads"])
    limit = job["memory"] + (2 << 30)  # beside what torch takes by itself
    if job["device"] == "cpu":  # a GPU's driver reserves addresses far beyond
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    else:
        whole = torch.cuda.get_device_properties(job["device"]).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole))
    resource.setrlimit(resource.RLIMIT_CPU, (int(job["limit"]), int(job["limit"]) + 5))
    if os.path.exists("/proc/self/oom_score_adj"):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # should memory run short all the same, this is what has to go
    run(job, lambda found: (os.write(job["answer"], json.dumps(found).encode() + b"\n"), None)[1])


if __name__ == "__main__":
    main()
