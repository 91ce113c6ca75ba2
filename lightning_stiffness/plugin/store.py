"""Results of runs, read once each and kept until their file changes."""

import hashlib
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lightning_stiffness.plugin.discovery import File, Run, find_files, find_runs, natural
from lightning_stiffness.plugin.frames import Frame, frame_of
from lightning_stiffness.result import StiffnessResult

T = TypeVar("T")

LARGEST = 2**29
"""Bytes that a file may unpack to: a small damaged or foreign file must not fill the memory."""
MOST_STEPS = 500
"""Steps of a run that are read: as many as can be told apart, and few enough to send."""
KEPT = 2**29
"""Bytes of arrays that are kept; past it the results used longest ago go."""


@dataclass(frozen=True)
class Listed:
    """A run in the list of runs."""

    name: str
    steps: int
    """Number of files."""
    version: str
    """Changes when a file is added, changed or removed."""
    changed: float
    """Time of the last change, in seconds since 1970."""


@dataclass(frozen=True)
class History:
    """A run and its frames, one for each step."""

    name: str
    version: str
    frames: list[Frame]
    notes: list[str]
    """Files that were skipped, and why."""


class Store:
    """Runs under the log folders and their results; safe to ask from several threads.

    Args:
        folders: prefix of the runs' names → folder, see ``discovery.log_folders``.

    Example:
        >>> Store({"": Path("/no/such/folder")}).list_runs()
        ([], [])
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = dict(folders)
        self._runs: dict[str, Run] = {}
        self._kept: OrderedDict[Path, tuple[tuple[int, int, int], Frame | str]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def any_runs(self) -> bool:
        """Whether there is a run with results; stops at the first."""
        return next(find_runs(self.folders), None) is not None

    def list_runs(self) -> tuple[list[Listed], list[str]]:
        """Every run, and notes on what could not be looked into."""
        notes: list[str] = []
        runs = {run.name: run for run in find_runs(self.folders, notes)}
        with self._lock:
            self._runs = runs
        listed = []
        for run in sorted(runs.values(), key=lambda run: natural(run.name)):
            files = find_files(run)
            changed = max((file.stamp[0] for file in files), default=0) / 1e9
            listed.append(Listed(run.name, len(files), _version(files), changed))
        return listed, notes

    def history(self, name: str) -> History:
        """The results of a run.

        Args:
            name: name of a run; it is looked up among the runs found and never made into a path.

        Returns:
            Its frames by step, and notes on files that were skipped.

        Raises:
            KeyError: if no such run was found.
        """
        with self._lock:
            run = self._runs.get(name)
        if run is None:
            self.list_runs()
            with self._lock:
                run = self._runs[name]
        notes: list[str] = []
        files = find_files(run, notes)
        shown = thinned(files)
        if len(shown) < len(files):
            notes.append(f"{name}: of {len(files):,} results, {len(shown):,} are shown, evenly spaced")
        frames: dict[int, Frame] = {}
        for file in sorted(shown, key=lambda file: file.stamp[0]):  # of two files for one step the newer counts
            frame = self._read(file)
            if isinstance(frame, Frame):
                frames[frame.step] = frame
            else:
                notes.append(f"{name}: {file.name} is skipped: {frame}")
        return History(name, _version(files), [frames[step] for step in sorted(frames)], notes)

    def _read(self, file: File) -> Frame | str:
        """The frame of a file, or why there is none."""
        with self._lock:
            kept = self._kept.get(file.path)
            if kept is not None and kept[0] == file.stamp:
                self._kept.move_to_end(file.path)
                return kept[1]
        read = read_result(file.path)
        frame = read if isinstance(read, str) else read[1]
        with self._lock:
            self._forget(file.path)
            self._kept[file.path] = (file.stamp, frame)
            self._bytes += _size(frame)
            while self._bytes > KEPT and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))
        return frame

    def _forget(self, path: Path) -> None:
        if path in self._kept:
            self._bytes -= _size(self._kept.pop(path)[1])


def read_result(path: Path) -> tuple[StiffnessResult, Frame] | str:
    """A result and what is shown of it, or why the file is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            return f"it would take {size:,} bytes, and no result takes more than {LARGEST:,}"
        result = StiffnessResult.load(path)
        return result, frame_of(result)
    # A file may hold anything at all, and one that cannot be read must not hide the others.
    except Exception as error:
        cause = error.__cause__ or error
        reason = str(cause).replace(str(path), path.name)  # where the log directory lies is nobody's business
        return f"damaged, half-written or not a stiffness result ({type(cause).__name__}: {reason})"


def thinned(steps: list[T]) -> list[T]:
    """Every 2nd, 4th, 8th … and the last where there are too many: the same ones stay as more are added."""
    stride = 1
    while len(steps) / stride > MOST_STEPS:
        stride *= 2
    return steps if stride == 1 else [*steps[:-1:stride], steps[-1]]


def _size(frame: Frame | str) -> int:
    return frame.nbytes if isinstance(frame, Frame) else 0


def _version(files: list[File]) -> str:
    stamps = repr([(file.name, file.stamp) for file in files])
    return hashlib.sha256(stamps.encode("utf-8", "surrogateescape")).hexdigest()[:16]
