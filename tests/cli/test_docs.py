"""docs/command-line.md: its commands and scripts run in the order in which they are printed."""

import glob
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import torch

from lightning_stiffness import StiffnessHistory
from lightning_stiffness.cli.main import COMMANDS, parser
from tests.plugin.synthetic import write_run

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def blocks(text):
    """(language, text) of each block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def words(line):
    """A command as the shell hands it over."""
    return [found for word in shlex.split(line) for found in sorted(glob.glob(word)) or [word]]


def test_commands_run_as_printed(command, tmp_path):
    write_run(tmp_path / "runs" / "lr=1e-3", 5, fade=0.9)
    write_run(tmp_path / "runs" / "lr=1e-2", 5, fade=0.05)
    arrays = {f"x_{part}": np.random.default_rng(0).normal(size=(40, 8)) for part in ("train", "val")}
    np.savez("data.npz", **arrays, **{f"y_{part}": np.arange(40) % 3 for part in ("train", "val")})
    ran = []
    for language, text in blocks(PAGE.read_text("utf-8")):
        if language == "python":
            name = "train.py" if "class Net" in text else "functions.py" if "functions.py" in text else "snippet.py"
            Path(name).write_text(text)
            if name != "functions.py":
                runpy.run_path(name, run_name="__main__")
        elif language == "bash":
            for line in text.replace("\\\n", "").splitlines():
                program, *arguments = words(line.partition(" | ")[0])
                if program == "pip":
                    continue
                assert program == "lightning-stiffness"
                if "weights.pt" in arguments:
                    torch.save(runpy.run_path("functions.py")["make"]().state_dict(), "weights.pt")
                answer = command(*arguments)
                assert answer.code == 0, (line, answer.err)
                ran.append(answer.out)
    shown = next(text for language, text in blocks(PAGE.read_text("utf-8")) if language == "text").splitlines()
    assert ran[0].splitlines()[: len(shown) - 1] == shown[:-1]
    assert Path("rates.html").exists()
    assert Path("slow.html").exists()
    assert StiffnessHistory.load("lightning_logs/measured_version_0").steps.tolist() == [6, 12, 18]
    assert StiffnessHistory.load("measured").steps.tolist() == [300]
    assert StiffnessHistory.load("runs/again")[0].class_names == ["red", "green", "blue"]


def test_every_command_and_option_is_told():
    text = PAGE.read_text("utf-8")
    commands = next(action for action in parser()._actions if action.choices)
    assert set(commands.choices) == set(COMMANDS)
    for name, own in commands.choices.items():
        assert f"lightning-stiffness {name}" in text
        for action in own._actions:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    assert option in text, f"{option} of {name} is not told"
