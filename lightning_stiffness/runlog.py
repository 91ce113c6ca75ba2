"""What a run is told: numbers and pictures under one name, and messages once."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_stiffness.loggers import log_picture, log_scalars, takes_pictures
from lightning_stiffness.pictures import draw_picture, pictures
from lightning_stiffness.result import StiffnessResult

_NUMBER = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")


class RunLog:
    """Where one callback's results of one run go.

    Args:
        name: what logged names and the folder of saved results begin with.
        save: whether results are saved.
        pictures: which pictures the loggers are given, one of ``lightning_stiffness.pictures.CHOICES``.
    """

    def __init__(self, name: str, *, save: bool, pictures: str) -> None:
        self.name, self.save, self.pictures = name, save, pictures
        self.folder: Path | None = None
        self._said: set[str] = set()

    def find_folder(self, trainer: Any) -> None:
        """Find out where results are saved. Processes agree on it, so each of them has to ask, and at once."""
        folder = trainer.log_dir
        if not self.save or not trainer.loggers or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        first = trainer.loggers[0]
        if folder is None or folder != getattr(first, "log_dir", None):
            # All runs of this logger share the folder, or there is none: one for the run, as for checkpoints
            getattr(first, "experiment", None)  # before it is made, some loggers have no version
            version = first.version if isinstance(first.version, str) else f"version_{first.version}"
            folder = Path(folder or trainer.default_root_dir) / str(first.name) / version
        self.folder = Path(folder) / self.name

    def say(self, text: str) -> None:
        """A message to the user, once in a run and on one rank, whatever numbers it tells."""
        kind = _NUMBER.sub("#", text)
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_warn(text, stacklevel=5)

    def failed(self, what: str, error: Exception) -> None:
        """The first failure of its kind, with its cause and the way to look into it."""
        if what not in self._said:
            self._said.add(what)
            self.say(
                f"stiffness could not be {what}: {type(error).__name__}: {error}. The training goes on as it would "
                "without; StiffnessCallback(on_error='raise') stops it there and shows where the error comes from"
            )

    def scalars(self, result: StiffnessResult, further: Mapping[str, float] | None = None) -> dict[str, float]:
        """Every number of a result, and further ones, by the names they are logged under."""
        numbers = {**result.scalars(), **(further or {})}
        return {self._renamed(tag): value for tag, value in numbers.items()}

    def missing(self, before: Iterable[str], splits: Iterable[str], measures: Iterable[str]) -> dict[str, float]:
        """What stands in for a result that there is not: NaN under the names of the one before, or of the
        commonest numbers."""
        if before:
            return dict.fromkeys(before, float("nan"))
        blocks = [f"{a}-{b}" for i, a in enumerate(splits) for b in list(splits)[i:]]
        numbers = ("overall", "within_class", "between_class", "critical_length")
        names = [f"{self.name}/{b}/{m}/{n}" for b in blocks for m in measures for n in numbers]
        return dict.fromkeys(names, float("nan"))

    def through(self, pl_module: Any, scalars: dict[str, float], *, alone: bool) -> None:
        """Numbers through ``self.log``, at the end of an epoch; ``alone``: there is one process."""
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": 1, "add_dataloader_idx": False}
        if not alone:
            # All processes have the same, of which the largest is just that; unsynchronised numbers are warned of
            options |= {"sync_dist": True, "reduce_fx": "max"}
        pl_module.log_dict(scalars, **options)

    def directly(self, trainer: Any, scalars: dict[str, float], *, step: int) -> None:
        """Numbers to the loggers at once, and to callbacks that monitor. ``self.log`` would keep back those of
        the start until the epoch's end, and drop what falls between two steps of ``log_every_n_steps``."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})
        if trainer.is_global_zero:
            log_scalars(trainer.loggers, scalars, step=step)

    def show(self, trainer: Any, result: StiffnessResult, *, step: int) -> None:
        """The result to a file, and pictures to the loggers."""
        if not trainer.is_global_zero:
            return
        if self.folder is not None:
            result.save(self.folder / f"step_{result.step:08d}.npz")
        if takes_pictures(trainer.loggers):
            for tag in pictures(result, self.pictures):
                log_picture(trainer.loggers, self._renamed(tag), draw_picture(result, tag), step=step)

    def _renamed(self, tag: str) -> str:
        return f"{self.name}/{tag.split('/', 1)[1]}"
