"""What the documentation site is made of: its scripts run, the page on extending holds, every page is listed."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("script", sorted((DOCS / "gallery").glob("*.py")), ids=lambda script: script.stem)
def test_a_script_of_the_gallery_draws(script, recwarn):
    variables = runpy.run_path(str(script))
    assert len([value for value in variables.values() if isinstance(value, Figure)]) == 2
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []


def test_memorising_shows_what_it_says(capsys):
    runpy.run_path(str(DOCS / "gallery" / "memorising.py"))
    told = capsys.readouterr().out
    assert re.findall(r"right: (\d+)% of training", told) == ["100", "100"]
    ends = {tuple(line.split()[:2]): float(line.split()[-1]) for line in told.splitlines() if "labels:" in line}
    assert ends["within_class", "true"] > 2 * ends["within_class", "random"]
    # Little help to the own class, and as much harm to the other.
    assert abs(ends["within_class", "random"] + ends["between_class", "random"]) < 0.05


def test_the_page_on_extending_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text("utf-8"), flags=re.DOTALL)
    script = tmp_path / "page.py"
    flat = (
        "batch = (torch.randn(6, 3).double(), torch.randn(6, 4).double())\n"
        + blocks[-1].partition("fast, exact")[2]
    )
    script.write_text(
        "\n".join(blocks)
        + "\nfrom lightning_stiffness.gram.rules import RULES\n"
        + "assert RULES[torch.nn.functional.bilinear] is bilinear\n"
        + "assert fast.engine == 'layerwise'\n"
        # examples without a second axis
        + "loss_fn = lambda module, batch: module(*batch).square().mean(1)\n"
        + flat.replace(" = (gradient_gram", "fast, exact = (gradient_gram")
        # and a logger that was shown pictures
        + "from lightning_stiffness.loggers import log_picture\nimport numpy, tempfile\n"
        + "logger = Pictures(tempfile.mkdtemp())\n"
        + "log_picture([logger], 'a', numpy.zeros((2, 2, 3), numpy.uint8), step=1)\n"
        + "assert list(logger.pictures) == ['a']\n"
    )
    # In a process of its own: the rule stays in the register.
    subprocess.run([sys.executable, script], check=True, cwd=DOCS.parent)


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text("utf-8")
    listed = {
        name for block in re.findall(r"```\{toctree\}(.*?)```", index, flags=re.DOTALL) for name in block.split()
    }
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    assert pages <= listed
