"""Which runs there are under the log directory, and that nothing outside of it is ever read."""

import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = "stiffness"
"""Folder of a run that holds its results, unless the callback has another ``name``."""
FILE = re.compile(r"step_\d+\.npz")
"""Name of a result's file; one being written has another."""
_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.+-]*://")


@dataclass(frozen=True)
class Run:
    """A run that has results."""

    name: str
    """As TensorBoard names it: its path in the log directory, with ``/``; ``"."`` for the log directory itself.
    Results of a callback with a ``name`` of its own are a run of their own, whose name ends in it."""
    folder: Path
    """Where its results are."""
    top: Path
    """The log directory it was found under, without links."""


@dataclass(frozen=True)
class File:
    """A result's file as it stood when it was looked at."""

    path: Path
    """Without links: what is read is what was checked."""
    name: str
    """Its name in the run's folder."""
    stamp: tuple[int, int, int]
    """Changes when the file does: time of change in ns, size in bytes, number of the file."""

    @property
    def step(self) -> int:
        """The step that its name tells."""
        return int(self.name.removeprefix("step_").removesuffix(".npz"))


def log_folders(logdir: str | None, logdir_spec: str | None = None) -> dict[str, Path]:
    """The folders that TensorBoard was told to look in.

    Args:
        logdir: value of ``--logdir``.
        logdir_spec: value of ``--logdir_spec``: ``name:path`` or ``path``, separated by commas.

    Returns:
        Prefix of the runs' names → folder. Addresses such as ``gs://…`` are left out: results are read from
        files.

    Example:
        >>> log_folders("/logs"), log_folders("", "slow:/a,fast:/b")
        ({'': PosixPath('/logs')}, {'slow': PosixPath('/a'), 'fast': PosixPath('/b')})
    """
    if logdir:
        return {} if _URI.match(logdir) else {"": Path(logdir).expanduser()}
    folders = {}
    for part in (logdir_spec or "").split(","):
        name, colon, path = part.partition(":")
        if not colon or name.startswith("/") or os.path.splitdrive(part)[0] or _URI.match(part):
            name, path = "", part
        if path and not _URI.match(path):
            folders[name or path] = Path(path).expanduser()
    return folders


def find_runs(folders: Mapping[str, Path], notes: list[str] | None = None) -> Iterator[Run]:
    """Every run with results, anywhere under the log folders.

    Links to folders are not followed: one that leads out of the log folder would show what is outside, and one
    that stays inside leads to a run that is found anyway.

    Args:
        folders: prefix of the runs' names → folder, from :func:`log_folders`.
        notes: what could not be looked into, and why, is added here.

    Yields:
        Runs in the order of the walk; each name once.
    """
    notes = [] if notes is None else notes
    names: set[str] = set()
    for prefix, folder in folders.items():
        top = Path(os.path.realpath(folder))
        if not top.is_dir():  # a run may be about to make it
            continue
        errors: list[OSError] = []
        for place, subfolders, files in os.walk(top, onerror=errors.append):
            for name in subfolders:
                if os.path.islink(os.path.join(place, name)) and not _inside(Path(place, name), top):
                    notes.append(
                        f"{_relative(Path(place, name), top)} is a link that leads out of the log directory and is "
                        "not followed; --logdir_spec name:path,name:path shows several places"
                    )
            if not any(map(FILE.fullmatch, files)):
                continue
            folder = Path(place)
            run = Run(
                _name(prefix, _relative(folder.parent if _is_usual(folder, top) else folder, top)), folder, top
            )
            if run.name not in names and (folder.name == FOLDER or _is_ours(run)):
                names.add(run.name)
                yield run
        notes += [_unreadable(error, top) for error in errors]


def find_files(run: Run, notes: list[str] | None = None) -> list[File]:
    """The files of a run's results, by step.

    Args:
        run: a run that :func:`find_runs` found.
        notes: what is left out, and why, is added here.

    Returns:
        Plain files that lie in the log folder, by step, links in their paths resolved.
    """
    notes = [] if notes is None else notes
    folder = Path(os.path.realpath(run.folder))
    files = []
    for entry in sorted(_entries(folder) if _inside(folder, run.top) else (), key=lambda entry: entry.name):
        linked = entry.is_symlink()  # nothing else on its path is a link
        real = Path(os.path.realpath(entry.path)) if linked else Path(entry.path)
        if linked and not _inside(real, run.top):
            notes.append(f"{run.name}: {entry.name} is a link that leads out of the log directory")
            continue
        try:
            status = real.stat()
        except OSError:  # removed since the folder was listed
            continue
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            notes.append(f"{run.name}: {entry.name} is not a file")
            continue
        files.append(File(real, entry.name, (status.st_mtime_ns, status.st_size, status.st_ino)))
    if folder != run.folder:  # a link took its place after it was found
        notes.append(f"{run.name}: {FOLDER} is a link")
    return sorted(files, key=lambda file: file.step)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do.

    Example:
        >>> sorted(["version_10", "version_9"], key=natural)
        ['version_9', 'version_10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]


def _is_usual(folder: Path, top: Path) -> bool:
    return folder.name == FOLDER and folder != top


def _is_ours(run: Run) -> bool:
    """Whether the first or the last file looks like one of ours: others too may call their files so."""
    files = find_files(run)
    return any(_holds_meta(file.path) for file in {*files[:1], *files[-1:]})


def _holds_meta(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" in archive.namelist()
    except Exception:  # whatever else it may be, it is not one of ours
        return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if FILE.fullmatch(entry.name))
    except OSError:  # removed, or not ours to read: the walk has noted the latter
        return


def _inside(path: Path, top: Path) -> bool:
    """Whether a path leads into the log folder, whatever links are on the way."""
    return Path(os.path.realpath(path)).is_relative_to(top)


def _relative(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _name(prefix: str, relative: str) -> str:
    if not prefix:
        return relative
    return prefix if relative == "." else f"{prefix}/{relative}"


def _unreadable(error: OSError, top: Path) -> str:
    place = Path(str(error.filename))
    shown = _relative(place, top) if place.is_relative_to(top) else place.name
    return f"{shown} cannot be read ({error.strerror})"
