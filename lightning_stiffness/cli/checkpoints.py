"""Files of weights: what is in them, and how far the training was."""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.cli.finding import near_files
from lightning_stiffness.cli.problem import UsageError, note

STATE = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which others than Lightning keep the weights."""
STEP, EPOCH = ("global_step", "step"), ("epoch",)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, read."""

    path: Path
    content: Any
    """What ``torch.load`` returned."""
    step: int | None
    """Batches trained on, as the callback counts them; None where the file does not say."""
    epoch: int | None
    """Epochs trained; None where the file does not say."""

    @property
    def from_lightning(self) -> bool:
        """Whether Lightning wrote it."""
        return isinstance(self.content, dict) and {"state_dict", "pytorch-lightning_version"} <= self.content.keys()


def read_checkpoint(file: str, *, trust: bool) -> Checkpoint:
    """Read a file of weights.

    Args:
        file: its path.
        trust: also run the code that is in it, where there is some beside the weights.

    Returns:
        The checkpoint.

    Raises:
        UsageError: if there is no such file, it is damaged, or it holds more than weights and ``trust`` is off.
    """
    path = check_file(file)
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)", str(error))
        if trust or unsafe is None:
            raise UsageError(f"{file} is damaged or no checkpoint: {str(error).splitlines()[0]}") from error
        raise UsageError(
            f"{file} holds more than weights and plain values ({unsafe[1]}), and reading that may run any code "
            "that is in the file. If it comes from someone you trust, add --trust"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UsageError(
            f"{file} is damaged or no checkpoint: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    return Checkpoint(path, content, *_progress(content))


def check_file(file: str) -> Path:
    """The path of a file that there is.

    Raises:
        UsageError: if there is none; the message names those like it.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        what = "the folder" if path.is_dir() else "nothing at"
        raise UsageError(f"expected --ckpt to be a file of weights, got {what} {file}{near_files(path, '.ckpt')}")
    return path


def numbered(checkpoints: Sequence[Checkpoint], steps: Sequence[int] | None) -> list[Checkpoint]:
    """The checkpoints by step; those of one step once.

    Args:
        checkpoints: as they were read.
        steps: batches trained on at each, where the caller knows; else what the files say, and 1, 2, 3, … where
            none of them says anything.

    Raises:
        UsageError: if only some say, or the number of steps is another.
    """
    silent = [one.path.name for one in checkpoints if one.step is None]
    if steps is not None:
        if len(steps) != len(checkpoints):
            raise UsageError(f"expected --steps for each of the {len(checkpoints)} checkpoints, got {len(steps)}")
        placed = [replace(one, step=step) for one, step in zip(checkpoints, steps, strict=True)]
    elif len(silent) == len(checkpoints):
        # Not 0, which stands for a network that was never trained.
        placed = [replace(one, step=place) for place, one in enumerate(checkpoints, start=1)]
        note(f"{', '.join(silent)}: no step is kept there, so they count as step 1, 2, … (--steps says otherwise)")
    elif silent:
        raise UsageError(f"{', '.join(silent)}: no step is kept there, in others there is; name all with --steps")
    else:
        placed = list(checkpoints)
    found: dict[int | None, Checkpoint] = {}
    for one in placed:
        if one.step in found:
            note(f"{one.path.name} is left out: {found[one.step].path.name} is of the same step, {one.step}")
        found.setdefault(one.step, one)
    return sorted(found.values(), key=lambda one: one.step or 0)


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights by name.

    Raises:
        UsageError: if none are found.
    """
    content = checkpoint.content
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    candidates = (
        [content, *(content[key] for key in STATE if key in content)] if isinstance(content, Mapping) else []
    )
    for candidate in reversed(candidates):
        if isinstance(candidate, nn.Module):
            return dict(candidate.state_dict())
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return dict(candidate)
    keys = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
    raise UsageError(
        f"expected weights by name in {checkpoint.path.name}, directly or under one of {list(STATE)}, got {keys}"
    )


def load_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into a module, also where all names have one and the same prefix too many.

    Raises:
        UsageError: if the names or shapes differ.
    """
    found, wanted = weights(checkpoint), module.state_dict()
    if found.keys() != wanted.keys():
        prefix = _prefix(found, wanted)
        if prefix:
            note(f"{checkpoint.path.name}: weights are taken from those that begin with {prefix!r}")
            found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(found)
    except RuntimeError as error:
        raise UsageError(
            f"the weights in {checkpoint.path.name} are not those of {type(module).__name__}: {_short(error)}"
        ) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 600 else f"{text[:600]} …"


def _prefix(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    first = next(iter(wanted), "")
    for name in found:
        prefix = name.removesuffix(first)
        if first and name.endswith(first) and prefix and all(f"{prefix}{other}" in found for other in wanted):
            return prefix
    return ""


def _progress(content: Any) -> tuple[int | None, int | None]:
    """Batches and epochs trained, as the callback counts them; None for what is not told."""
    if not isinstance(content, Mapping):
        return None, None
    step = next((int(content[key]) for key in STEP if isinstance(content.get(key), int)), None)
    epoch = next((int(content[key]) for key in EPOCH if isinstance(content.get(key), int)), None)
    try:
        loop = content["loops"]["fit_loop"]
        stepped = int(loop["epoch_loop.state_dict"]["_batches_that_stepped"])
        batch = loop["epoch_loop.batch_progress"]["current"]
        run = loop["epoch_progress"]["current"]
        # Behind its last batch an epoch is over, though Lightning has yet to count it.
        over = bool(loop["epoch_loop.batch_progress"]["is_last_batch"]) and run["processed"] < run["ready"]
        epoch = int(run["processed"]) + int(over)
    except (KeyError, TypeError, ValueError):  # another version, or not Lightning's
        return step, epoch
    # A checkpoint made behind a batch is written before Lightning counts the batch; several optimizers count twice.
    each = max(1, len(content.get("optimizer_states", ())))
    uncounted = batch["processed"] > batch["completed"] and (step or 0) > stepped * each
    return stepped + int(uncounted), epoch
