"""What the README shows runs as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_stiffness import StiffnessResult
from lightning_stiffness.plugin.frames import frame_of
from lightning_stiffness.plugin.verdict import verdicts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["trainer", "plain"])
def test_snippets_run_as_printed(snippet, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if "Trainer(" in snippet:
        assert list(tmp_path.glob("lightning_logs/version_0/events.out.tfevents.*"))
        steps = sorted(tmp_path.glob("lightning_logs/version_0/stiffness/step_*.npz"))
        assert len(steps) == 4
        # What the page says next, of `train-val` and of verdicts, is true of its own first run.
        assert verdicts([frame_of(StiffnessResult.load(step)) for step in steps])[-1].kind != "unknown"
    else:
        values = [float(v) for v in re.findall(r"'\w+_class': (\S+?)[,}]", done.stdout)]
        assert len(values) == 2
        assert all(-1 <= value <= 1 for value in values)


def test_it_stays_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) < 120
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_snippet_of_the_engines_page_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engines.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[100, 100]" in done.stdout
