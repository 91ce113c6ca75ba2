"""The benchmark in a tiny form: every contender that is installed, one small module a case, and the tables."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from lightning_stiffness.gram import familiar
from lightning_stiffness.gram.problem import Problem

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import _measuring  # noqa: E402
from _contenders import CONTENDERS, Contender  # noqa: E402
from _measuring import error_of, run  # noqa: E402
from _tables import report  # noqa: E402
from _traps import TRAPS, trap  # noqa: E402
from _zoo import NETWORKS, Transformer, convolutional, fully_connected, resnet, resnet18  # noqa: E402

sys.path.remove(str(FOLDER))

RESULTS = FOLDER / "results"
PLENTY = 10**10


@pytest.fixture(autouse=True)
def _no_longer_than_needed(monkeypatch):
    monkeypatch.setattr(_measuring, "SHORT", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def answer(what: str, **more) -> dict:
    """What a job finds, in this process."""
    found = {}
    job = {"what": what, "n": 4, "repeat": 1, "seconds": 0.1, "memory": PLENTY, "threads": 1, "device": "cpu"}
    run({**job, **more}, found.update)
    return found


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_contender_is_right_and_measured(name):
    if CONTENDERS[name].version is None:
        pytest.skip(f"{CONTENDERS[name].package} is not installed; make bench installs it")
    found = answer("contender", contender=name, network="fc")
    assert "cannot" not in found, found["cannot"]
    assert found["error"] < 1e-4
    assert found["times"] == pytest.approx(found["seconds"] / found["plain_seconds"])
    assert found["least_seconds"] <= found["seconds"]


def test_the_plain_pass_and_the_floor():
    found = answer("baseline", network="cnn")
    assert found["times"] == 1
    assert found["floor"]["seconds"] > found["least_plain_seconds"]
    assert found["peak"] >= 0


def test_the_time_of_the_loop_over_some_examples_is_that_over_all(monkeypatch):
    monkeypatch.setattr(_measuring, "LOOPED", 4)
    monkeypatch.setattr(_measuring, "timed", lambda function: (function(), _measuring.Span(1.0, 1.0))[1])
    found = answer("contender", contender="loop", network="fc", n=20)
    assert found["extrapolated"] == 4
    assert found["seconds"] == 5
    assert found["plain_seconds"] == 1
    assert "peak" not in found


@pytest.mark.parametrize("mean", [False, True])
def test_the_share_of_the_check(mean):
    found = answer("check", network="fc", mean=mean)
    assert 0 < found["values"] < 1
    assert 0 < found["gradients"] < 1
    assert 0 < found["tracing"] < 1


@pytest.mark.parametrize("mean", [False, True])
def test_the_time_without_the_check(mean, monkeypatch):
    """Passes of examples alone and all backward passes: of the Grams that go before, and of one of each kind."""
    monkeypatch.setattr(_measuring, "SHORT", 0.0)
    alone, derivative = Problem.example_loss, mock.Mock(wraps=torch.autograd.grad)
    seen = []
    monkeypatch.setattr(Problem, "example_loss", lambda *arguments: (seen.append(1), alone(*arguments))[1])
    monkeypatch.setattr(torch.autograd, "grad", derivative)
    found = answer("unchecked", network="fc", mean=mean)
    turns = len(found["without"])
    assert len(found["first"]) == len(found["later"]) == turns
    assert all(min(times) > 0 for times in found.values())
    # one example alone each time; backward passes: the batch's, and that of the example where its values or
    # gradients are compared, in first ones and now and then. Before each kind there are some more, with the check
    measured = 1 + turns * 3 * (_measuring.SETTLED + 1)
    assert len(seen) == measured
    assert measured < derivative.call_count < 2 * measured


@pytest.mark.parametrize("mean", [False, True])
def test_the_first_measurements_of_a_process(mean, monkeypatch, capsys):
    """The passes of examples alone differ by none, the backward passes by those of the examples: in the first five
    measurements, until each layer's gradient was compared, and in every seventh. A run is told."""
    counts = {}
    for checked in (True, False):
        familiar.forget()
        derivative = mock.Mock(wraps=torch.autograd.grad)
        monkeypatch.setattr(torch.autograd, "grad", derivative)
        assert answer("run", network="fc", mean=mean, checked=checked)["seconds"] > 0
        monkeypatch.undo()
        counts[checked] = derivative.call_count
    assert counts == {True: _measuring.MEASUREMENTS + 5 + 2, False: _measuring.MEASUREMENTS}
    row = {"key": "fc", "title": "t", "n": 4, "parameters": 1, "rows": {"loop": {"cannot": "it", "load": [0, 0]}}}
    row["check"] = {
        "gradients": 0.1,
        "values": 0.1,
        "tracing": 0.1,
        "run": {"with": [0.2, 0.4], "without": [0.27, 0.27]},
    }
    report(
        [{**row, "machine": {"cpu": "c", "cores": 1}, "versions": {"torch": "2"}, "settings": {"threads": 1}}],
        False,
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 times each: 300 ms with the check, 270 ms without: it adds 10.0% of the time" in shown


def test_a_wrong_gram_is_called_wrong(monkeypatch, capsys):
    def doubled_diagonal(network, room):
        right = CONTENDERS["loop"].prepare(network, room)
        return lambda: right() + torch.diag(right().diagonal())

    monkeypatch.setitem(CONTENDERS, "layerwise", Contender("off", doubled_diagonal))
    found = answer("contender", contender="layerwise", network="fc")
    assert found["error"] == pytest.approx(1, abs=1e-5)
    row = {"key": "fc", "title": "t", "n": 4, "parameters": 1, "rows": {"layerwise": found}}
    found["load"] = [0.1, 0.2]
    machine = {"cpu": "c", "cores": 1}
    report([{**row, "machine": machine, "versions": {"torch": "2"}, "settings": {"threads": 1}}], markdown=True)
    shown = capsys.readouterr().out
    assert "### t: 1 parameters, n=4" in shown
    assert "wrong by 1 of the norms" in shown
    assert "load of the machine meanwhile: 0.1 to 0.2" in shown


def test_what_would_take_too_much_memory_does_not_start():
    found = answer("contender", contender="torch.func", network="fc", memory=10**6)
    assert found["cannot"] == "needs 0.0 GB"
    assert found["needs"] == 4 * 573_910 * 4
    assert "times" not in found


def test_a_failure_is_an_answer(monkeypatch):
    def refuses(network, room):
        raise NotImplementedError("no rule for this")

    monkeypatch.setitem(CONTENDERS, "vmap", Contender("off", refuses))
    assert answer("contender", contender="vmap", network="fc") == {"cannot": "no rule for this"}


def test_the_layerwise_engine_is_right_on_every_small_module():
    found = answer("traps", contender="layerwise")
    assert set(found) == set(TRAPS)
    assert {name: row for name, row in found.items() if not row.get("error", 1) < 1e-4} == {}


def test_the_error_is_seen_in_any_pair_of_the_examples_looked_at():
    network = trap("F.linear with a parameter", 30)
    gram = CONTENDERS["loop"].prepare(network, PLENTY)()
    assert error_of(gram, network) < 1e-6
    gram[0, 29] += 0.5 * (gram[0, 0] * gram[29, 29]).sqrt()
    assert error_of(gram, network) == pytest.approx(0.5, abs=1e-5)


PEAK = """
import builtins, sys
sys.path.insert(0, {folder!r})
from _measuring import peak_memory
import torch

plain = open

def refusing(path, mode="r", *rest, **more):
    if "w" in mode:
        raise PermissionError(path)
    return plain(path, mode, *rest, **more)

if {refused}:
    builtins.open = refusing
peak, result = peak_memory(lambda: float(torch.ones(2**26).sum()))
assert result == 2**26
print(peak)
"""


@pytest.mark.parametrize("refused", [False, True], ids=["", "where /proc can't be written"])
def test_the_peak_of_memory_counts_what_is_given_back(refused):
    # In a process of its own, as in the benchmark: without /proc an earlier peak would hide this one
    program = PEAK.format(folder=str(FOLDER), refused=refused)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 2**28 * 0.9 < int(done.stdout) < 2**28 * 1.5


def test_networks_have_the_sizes_that_they_are_known_by():
    modules = [fully_connected(), convolutional(), resnet((16, 32, 64), 3, False), resnet18(), Transformer()]
    sizes = [sum(p.numel() for p in module.parameters()) for module in modules]
    assert sizes == [573_910, 19_466, 271_690, 11_689_512, 10_992_138]
    assert {entry.n for entry in NETWORKS.values()} == {64, 256, 500}


def test_the_command(tmp_path):
    options = ["--network", "fc", "--contender", "torch.func", "--n", "4", "--repeat", "1", "--seconds", "0.1"]
    command = [sys.executable, str(FOLDER / "gram.py"), *options, "--threads", "1", "--no-traps", "--no-budgets"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=True)
    result = json.loads((tmp_path / "fc.json").read_text(encoding="utf-8"))
    assert result["n"] == 4
    assert result["settings"]["threads"] == 1
    assert result["versions"]["torch"] == torch.__version__
    assert result["machine"]["cores"] >= 1
    assert result["rows"]["torch.func"]["error"] < 1e-4
    assert "torch.func vmap(grad), G Gᵀ" in done.stdout


def test_the_tables_shown_are_those_of_the_files_beside_them(capsys):
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    parts = re.findall(
        r"```\npython \.\./gram\.py --markdown --show ([^\n]+)\n```\n(.*?)(?=\n## |\Z)", page, flags=re.DOTALL
    )
    shown = [name for names, _ in parts for name in names.split()]
    assert len(shown) == len(set(shown)) >= 18
    for names, tables in parts:
        report([json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in names.split()], markdown=True)
        assert capsys.readouterr().out.strip("\n") == tables.strip("\n"), f"print it again: {names}"
    beside = {file.name for file in RESULTS.glob("*.json") if not file.name.startswith("overhead")}
    assert beside == set(shown)
