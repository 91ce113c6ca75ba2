"""The program as a whole: exit codes, help, pipes, and what it needs."""

import builtins
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_stiffness
from lightning_stiffness.cli.main import COMMANDS, main
from tests.plugin.synthetic import write_run

PROGRAM = [sys.executable, "-m", "lightning_stiffness"]


def test_help_and_version(command, capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: lightning-stiffness {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"lightning-stiffness {lightning_stiffness.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["look"], ["show"], ["show", "a", "--step", "x"], ["show", "a", "--step", "1", "--epoch", "1"]],
)
def test_a_wrong_command_line_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: lightning-stiffness" in printed.err


def test_the_entry_point_is_this_program():
    config = (Path(__file__).parents[2] / "setup.cfg").read_text("utf-8")
    assert "lightning-stiffness = lightning_stiffness.cli.main:main" in config
    assert "lightning_stiffness.report = static/*" in config


def test_a_reader_that_goes_away(tmp_path):
    write_run(tmp_path / "run", 2, classes=200)  # more than a pipe holds
    shown = subprocess.Popen(
        [*PROGRAM, "show", "run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    shown.stdout.readline()
    shown.stdout.close()
    assert shown.wait(60) == 141
    assert shown.stderr.read() == b""
    shown.stderr.close()


def test_a_terminal_that_knows_few_signs_and_light_start(tmp_path):
    write_run(tmp_path / "run", 2, classes=3)
    code = (
        "import sys; from lightning_stiffness.cli.main import main; code = main(['show', 'run']);"
        "heavy = {'torch', 'pytorch_lightning', 'lightning', 'matplotlib', 'tensorboard'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        env={**environment(), "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Reach ?: " in done.stdout


def environment():
    """The package as it lies here, also where it is not installed."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_without_rich_one_line_says_how_to_get_it(command, tmp_path, monkeypatch):
    write_run(tmp_path / "run", 1, classes=3)
    original, loaded = importlib.util.find_spec, builtins.__import__
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "rich" else original(name, *rest)
    )

    def without_rich(name, *rest, **more):
        if name.split(".")[0] == "rich":
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
        return loaded(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    for arguments in (["show", "run"], ["compare", "run"], ["measure", "--module", "a:b", "--ckpt", "c"]):
        answer = command(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        assert "pip install '.[cli]' in a clone of the project" in answer.err
    # What is no text for a terminal does without.
    assert command("show", "run", "--json").code == 0
    assert command("report", "run").code == 0


def test_interrupted(monkeypatch, capsys):
    from lightning_stiffness.cli import show

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "load_run", interrupted)
    assert main(["show", "run", "--json"]) == 130
