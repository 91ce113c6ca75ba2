"""Runs → one HTML file that holds the page and its data."""

import base64
import datetime
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import lightning_stiffness
from lightning_stiffness.plugin.frames import finite
from lightning_stiffness.plugin.payload import run_payload, runs_payload, view_payload
from lightning_stiffness.plugin.store import History, Listed, thinned
from lightning_stiffness.report.bundle import bundle, page_files
from lightning_stiffness.report.plain import plain_page
from lightning_stiffness.report.runs import Run
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.storage import whole_file

STYLES = ("style.css", "report.css")


def write_report(
    runs: Mapping[str, Sequence[StiffnessResult]] | Sequence[Run],
    path: str | Path,
    *,
    title: str = "Stiffness report",
) -> Path:
    """Write one HTML file with the verdict on runs and everything to look into them, as in the TensorBoard tab.

    The file opens from a disk and loads nothing: script, style and data are in it, and it forbids the browser
    all else. Class matrices and layers are kept to within 0.00002, all other numbers as they are. Of more than
    500 steps, evenly spaced ones and the last are kept.

    Args:
        runs: name → results of the run, such as ``callback.history`` or a ``StiffnessHistory``.
        path: the file; its folder is made where it is missing.
        title: heading of the page.

    Returns:
        The path written.

    Raises:
        ValueError: if there is no run, or none with results.

    Example:
        >>> import tempfile
        >>> result = StiffnessResult(9, 1, summary={"train-val": {"cos": {"overall": 0.2}}})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report({"mine": [result]}, Path(folder) / "report.html").read_text("utf-8")
        >>> page.startswith("<!DOCTYPE html>")
        True
    """
    made = [Run.of(name, results) for name, results in runs.items()] if isinstance(runs, Mapping) else list(runs)
    if not any(run.results for run in made):
        raise ValueError(f"expected at least one run with results, got {len(made)} runs without any")
    page = _page(made, title).encode("utf-8", "replace")  # a folder may have a name that is no text
    with whole_file(path) as stream:
        stream.write(page)
    return Path(path)


def _page(runs: list[Run], title: str) -> str:
    files = page_files()
    script = bundle(files)
    style = "\n".join(files[name] for name in STYLES)
    today = datetime.date.today().isoformat()
    about = [
        f"Written on {today} by lightning-stiffness {lightning_stiffness.__version__}. Everything is in this "
        "file: it loads nothing from anywhere. Class matrices and layers are kept to within 0.00002, all other "
        "numbers as they were saved."
    ]
    data, views = _data([_history(run) for run in runs], title, about)
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'"
    blocks = "\n".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in views.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main class="plain">
{plain_page(title, about, runs)}
</main>
<script type="application/json" id="report">{_embedded(data)}</script>
{blocks}
<script>{script}</script>
</body>
</html>
"""


def _history(run: Run) -> History:
    frames = thinned(run.frames)
    notes = list(run.notes)
    if len(frames) < len(run.frames):
        notes.append(f"{run.name}: of {len(run.frames):,} results, {len(frames):,} are shown, evenly spaced")
    return History(run.name, "1", frames, notes)


def _data(runs: list[History], title: str, about: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the page is told at once, and what it unpacks when it is asked for: element → text."""
    elements: dict[str, str] = {}
    views: list[dict[str, dict[str, str]]] = []
    for run in runs:
        places: dict[str, dict[str, str]] = {}
        for block, measure in sorted({key for frame in run.frames for key in frame.views}):
            packed = gzip.compress(view_payload(run, block, measure, compact=True), mtime=0)
            name = f"view-{len(elements)}"
            elements[name] = base64.b64encode(packed).decode()
            places.setdefault(block, {})[measure] = name
        views.append(places)
    listed = [Listed(run.name, len(run.frames), run.version, 0.0) for run in runs]
    data = {
        "title": title,
        "about": about,
        "listed": runs_payload(listed, []),
        "runs": [run_payload(run) for run in runs],
        "views": views,
    }
    return data, elements


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever runs and classes are called."""
    text = json.dumps(finite(data), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
