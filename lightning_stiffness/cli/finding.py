"""Runs that a path on the command line stands for, and what to say where there are none."""

import difflib
import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_stiffness.cli.problem import UsageError, note
from lightning_stiffness.plugin import discovery
from lightning_stiffness.plugin.discovery import FILE, FOLDER, natural
from lightning_stiffness.plugin.store import read_result
from lightning_stiffness.report.runs import Run

LOOKED_INTO = 2000
"""Folders that are looked into for runs to suggest, before an answer would take long."""
SUGGESTED = 4


def load_runs(paths: Sequence[str]) -> list[Run]:
    """Every run that the paths stand for: a folder of several runs for all of them.

    Files that cannot be read are skipped, with a note on stderr.

    Raises:
        UsageError: if a path is no folder of runs, or no result of a run can be read.
    """
    found: dict[Path, discovery.Run] = {}
    for path in paths:
        for run in find(path):
            found.setdefault(home(run), run)
    return [_load(run, name) for run, name in zip(found.values(), names(list(found)), strict=True)]


def load_run(path: str) -> Run:
    """The one run that a path stands for.

    Raises:
        UsageError: as :func:`load_runs`, and if there are several.
    """
    found = find(path)
    if len(found) > 1:
        itself = Path(path).expanduser().resolve()
        found = [run for run in found if itself in (home(run), run.folder)] or found
    if len(found) > 1:
        raise UsageError(
            f"expected one run, but {path} holds {len(found)}: {_listed([home(run) for run in found])}. Name one "
            "of "
            "them, or compare them: lightning-stiffness compare " + path
        )
    return _load(found[0], names([home(found[0])])[0])


def find(path: str) -> list[discovery.Run]:
    """Runs below a path, by name.

    Raises:
        UsageError: if there are none; it says where there are some.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UsageError(f"expected the log directory of a run, but there is nothing at {path}{_hints(place)}")
    if not place.is_dir():
        raise UsageError(f"expected the log directory of a run, got the file {path}{_hints(place.parent)}")
    notes: list[str] = []
    runs = sorted(discovery.find_runs({"": place}, notes), key=lambda run: natural(run.name))
    for text in notes:
        note(text)
    if not runs:
        raise UsageError(
            f"expected the log directory of a run, but there are no results (stiffness/step_….npz) below {path}; "
            f"StiffnessCallback saves them there where the run has a logger{_hints(place)}"
        )
    return runs


def home(run: discovery.Run) -> Path:
    """A run's log directory, or the folder of its results where that is not called ``stiffness``."""
    return run.folder.parent if run.folder.name == FOLDER else run.folder


def names(homes: Sequence[Path]) -> list[str]:
    """What tells runs apart: their paths below the folder they share; a single one's below the current folder.

    Example:
        >>> names([Path("/logs/lr=1/version_0"), Path("/logs/lr=2/version_0")])
        ['lr=1/version_0', 'lr=2/version_0']
    """
    shared = Path(os.path.commonpath(homes)) if len(homes) > 1 else Path.cwd()
    return [_below(folder, shared) for folder in homes]


def _below(folder: Path, shared: Path) -> str:
    inside = folder.is_relative_to(shared) and folder != shared
    return folder.relative_to(shared).as_posix() if inside else folder.name or str(folder)


def _load(run: discovery.Run, name: str) -> Run:
    notes: list[str] = []
    files = discovery.find_files(run, notes)
    by_step = {}
    for file in sorted(files, key=lambda file: file.stamp[0]):  # of two files for one step the newer counts
        read = read_result(file.path)
        if isinstance(read, str):
            notes.append(f"{name}: {file.name} is skipped: {read}")
        else:
            by_step[read[0].step] = read
    if not by_step:
        raise UsageError(f"none of the {len(files)} results in {run.folder} can be read. {'; '.join(notes[:2])}")
    for text in notes:
        note(text)
    results, frames = zip(*(by_step[step] for step in sorted(by_step)), strict=True)
    return Run(name, list(results), list(frames), notes)


def _hints(place: Path) -> str:
    """Where there are runs, as the end of a sentence."""
    missing = place
    while not place.is_dir():
        missing, place = place, place.parent
    above = place.resolve().parent
    runs = list(_nearby(place)) or ([] if above == above.parent else list(_nearby(above)))
    told = f". There are runs in {_listed(runs)}" if runs else ""
    if missing == place:
        return told
    beside = os.listdir(place) if os.access(place, os.R_OK) else []
    alike = difflib.get_close_matches(missing.name, beside, n=1)
    return (f"; did you mean {short(place / alike[0])}?" if alike else "") + (told if not alike else told[1:])


def _nearby(top: Path) -> Iterator[Path]:
    """A few log directories below a folder, the nearest first."""
    waiting, looked, found = deque([top]), 0, 0
    while waiting and looked < LOOKED_INTO and found <= SUGGESTED:
        folder = waiting.popleft()
        looked += 1
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
        except OSError:  # not ours to read
            continue
        if any(FILE.fullmatch(entry.name) for entry in entries):
            found += 1
            yield folder.parent if folder.name == FOLDER else folder
            continue
        kept = (entry for entry in entries if entry.is_dir(follow_symlinks=False))
        waiting.extend(Path(entry.path) for entry in kept if not entry.name.startswith("."))


def _listed(folders: Sequence[Path]) -> str:
    shown = [short(folder) for folder in folders[:SUGGESTED]]
    return ", ".join(shown) + (", …" if len(folders) > SUGGESTED else "")


def short(folder: Path) -> str:
    """A path as one would type it, seen from the current folder.

    Example:
        >>> short(Path("runs/version_0")), short(Path("/no/such/place"))
        ('runs/version_0', '/no/such/place')
    """
    absolute, here = Path(os.path.abspath(folder)), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(absolute)


def near_files(path: Path, ending: str) -> str:
    """Files near a path that is none, as the end of a sentence."""
    top = path if path.is_dir() else path.parent
    while not top.is_dir() and top != top.parent:
        top = top.parent
    found: list[Path] = []
    for depth in ("*", "*/*", "*/*/*", "*/*/*/*"):
        found += itertools.islice(top.glob(depth + ending), SUGGESTED + 1)
        if len(found) > SUGGESTED:
            break
    return f". There are {_listed(sorted(found, key=lambda file: natural(file.name)))}" if found else ""
