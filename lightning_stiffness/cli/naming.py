"""Objects and values that options name: ``pkg.mod:Net``, and JSON or YAML."""

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_stiffness.cli.problem import UsageError, near


def load_name(option: str, name: str) -> Any:
    """What a dotted name stands for, importable from the current folder too.

    Args:
        option: the option that it was given to, for messages.
        name: ``pkg.mod:Net`` or ``pkg.mod.Net``.

    Returns:
        The class, function or object.

    Raises:
        UsageError: if there is no such module or nothing of that name in it; an error inside the module comes
            through as it is.

    Example:
        >>> load_name("--data", "collections:OrderedDict").__name__, load_name("--data", "os.path.join").__name__
        ('OrderedDict', 'join')
    """
    if name.endswith(".py") or "/" in name or ".py:" in name:
        wanted = name.partition(":")[0].removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(
            f"expected {option} to name something to import, such as {wanted}:{name.partition(':')[2] or 'Net'}, "
            f"got the path {name}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    path, colon, attributes = name.partition(":")
    if not colon:
        path, _, attributes = name.rpartition(".")
    if not path or not attributes:
        raise UsageError(f"expected {option} to name a module and something in it, such as train:Net, got {name!r}")
    module = _module(option, path)
    found: Any = module
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            known = (
                [known for known in vars(found) if not known.startswith("_")] if hasattr(found, "__dict__") else []
            )
            raise UsageError(
                f"expected {option} to name something in {path}, but it has no {attributes}{near(attribute, known)}"
            )
        found = getattr(found, attribute)
    return found


def _module(option: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if path != missing and not path.startswith(f"{missing}."):
            raise  # something that the module itself imports
        here = [file.stem for file in Path.cwd().glob("*.py")] + [
            f.parent.name for f in Path.cwd().glob("*/__init__.py")
        ]
        raise UsageError(
            f"expected {option} to name a module that can be imported from {Path.cwd()} or is installed, but "
            f"there is no {missing}{near(missing.split('.')[0], here)}"
        ) from error


def load_value(option: str, text: str, kind: type | tuple[type, ...], what: str) -> Any:
    """A value written as JSON or YAML, or in a file of it.

    Args:
        option: the option that it was given to, for messages.
        text: the value, or a path that ends in ``.json``, ``.yaml`` or ``.yml``.
        kind: what it has to be.
        what: the same in words.

    Returns:
        The value.

    Raises:
        UsageError: if it cannot be read, or is something else.

    Example:
        >>> load_value("--hparams", "{width: 8, act: relu}", dict, "a mapping")
        {'width': 8, 'act': 'relu'}
    """
    source = text
    if text.endswith((".json", ".yaml", ".yml")):
        try:
            source = Path(text).expanduser().read_text("utf-8")
        except OSError as error:
            raise UsageError(
                f"expected {option} to be {what}, but the file {text} cannot be read: {error.strerror}"
            ) from error
    try:
        value = _parsed(source)
    except ValueError as error:
        raise UsageError(f"expected {option} to be {what} in JSON or YAML, got {text}: {error}") from error
    if not isinstance(value, kind):
        raise UsageError(f"expected {option} to be {what}, got {type(value).__name__}: {text}")
    return value


def _parsed(source: str) -> Any:
    try:
        return json.loads(source)
    except ValueError:
        import yaml  # which Lightning requires

        try:
            return yaml.safe_load(source)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error


UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def load_bytes(option: str, text: str) -> int:
    """A number of bytes, with or without a unit.

    Example:
        >>> load_bytes("--memory-budget", "500MB"), load_bytes("--memory-budget", "2 GiB")
        (500000000, 2147483648)
    """
    digits = text.rstrip("bBkKmMgGiI ")
    unit = text[len(digits) :].strip().lower()
    try:
        return int(float(digits) * UNITS[unit])
    except (ValueError, KeyError) as error:
        raise UsageError(f"expected {option} to be a number of bytes, such as 500MB or 2GiB, got {text}") from error
