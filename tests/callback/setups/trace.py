"""Everything that a run does and leaves behind, as plain values that can be compared."""

import csv
import random
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_stiffness import StiffnessCallback
from tests.callback.setups.base import Run
from tests.devices import ACCELERATOR

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def plain(value: Any) -> Any:
    """A value with every tensor in it as bytes, so that ``==`` tells whether two are the same to the bit."""
    if isinstance(value, Tensor):
        dense = value.detach().to_dense() if value.is_sparse else value.detach()
        raw = dense.cpu().contiguous().reshape(-1).view(torch.uint8)
        return (str(value.dtype), tuple(value.shape), raw.numpy().tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "__dict__") and not callable(value):
        return (type(value).__qualname__, plain(vars(value)))
    return repr(value) if isinstance(value, float) else value


def random_states() -> Any:
    found = [random.getstate(), np.random.get_state(), torch.get_rng_state()]  # noqa: NPY002
    return plain([*found, *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ())])


def ordinary(metrics: Any) -> dict[str, Any]:
    """Metrics besides those of stiffness."""
    return {name: value for name, value in metrics.items() if not name.startswith("stiffness/")}


class Trace(pl.Callback, lightning.pytorch.Callback):
    """Writes down what a run does, and the network at the time of each measurement."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.measured: dict[str, Tensor] = {}
        self.trainable: list[str] = []
        self.attributes: dict[str, Any] = {}
        self.wanted: tuple[str, ...] = ()
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.events.append(["batch", batch_idx, plain(batch), random_states(), self.structure(pl_module)])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.events.append([plain(p.grad) for p in pl_module.parameters()])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.events.append(
            ["end", plain(outputs), random_states(), rates, plain(ordinary(trainer.callback_metrics))]
        )

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.events.append(["validation", random_states(), self.structure(pl_module)])
            self.remember(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        self.events.append(["epoch", plain(ordinary(trainer.logged_metrics)), self.structure(pl_module)])
        if not trainer.val_dataloaders:
            self.remember(pl_module)

    def remember(self, module):
        self.measured = {name: value.detach().clone().cpu() for name, value in module.state_dict().items()}
        self.trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        found = {name: getattr(module, name) for name in self.wanted}
        self.attributes = {name: v.cpu() if isinstance(v, Tensor) else v for name, v in found.items()}

    def number(self, thing: Any) -> int:
        """The same for the same object, numbered in order of appearance."""
        self._alive.append(thing)  # an id is given again once its owner is gone
        return self._numbers.setdefault(id(thing), len(self._numbers))

    def structure(self, module: nn.Module) -> list[Any]:
        """Which objects, of which types, in which modes, with which hooks."""
        return [
            [(n, self.number(p), type(p).__name__, p.requires_grad, len(p._backward_hooks or ()))
             for n, p in module.named_parameters()],
            [(n, self.number(b), type(b).__name__) for n, b in module.named_buffers()],
            [(n, type(part).__name__, part.training, sorted(vars(part))) for n, part in module.named_modules()],
            [[[getattr(hook, "__qualname__", type(hook).__name__) for hook in getattr(part, kind, {}).values()]
              for kind in _HOOKS] for part in module.modules()],
        ]  # fmt: skip


class Outcome:
    """A finished run."""

    def __init__(self, run: Run, folder: Path, callback: StiffnessCallback | None) -> None:
        self.callback, self.trace = callback, Trace()
        self.trace.wanted = run.attributes
        own = [] if callback is None else [callback]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.trainer = run.package.Trainer(
                **{
                    "max_epochs": 2,
                    "accelerator": ACCELERATOR,
                    "devices": 1,
                    "logger": run.package.loggers.CSVLogger(folder, name=None, version=""),
                    "log_every_n_steps": 1,
                    "enable_progress_bar": False,
                    "enable_model_summary": False,
                    "enable_checkpointing": False,
                    "callbacks": [*run.callbacks, *own, self.trace],
                    **run.trainer,
                }
            )
            if run.own_loaders:
                data = {}
            elif run.datamodule is not None:
                data = {"datamodule": run.datamodule}
            else:
                data = {
                    "train_dataloaders": DataLoader(run.train, **{"batch_size": 8, "shuffle": True, **run.loader})
                }
                if run.val is not None:
                    collate = run.loader.get("collate_fn")
                    data["val_dataloaders"] = DataLoader(run.val, batch_size=8, collate_fn=collate)
            random.seed(5)
            np.random.seed(5)  # noqa: NPY002
            torch.manual_seed(5)
            self.trainer.fit(torch.compile(run.module, backend="eager") if run.compile else run.module, **data)
        self.module = run.module
        self.warnings = [str(warning.message) for warning in caught]
        self.folder = folder

    def left_behind(self) -> dict[str, Any]:
        """All that the run leaves, besides stiffness itself."""
        trainer, module, path = self.trainer, self.module, self.folder / "end.ckpt"
        trainer.save_checkpoint(path)
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["callbacks"] = {
            key: state for key, state in checkpoint["callbacks"].items() if "StiffnessCallback" not in key
        }
        return {
            "events": self.trace.events,
            "random state": random_states(),
            "state": plain(module.state_dict()),
            "gradients": [plain(p.grad) for p in module.parameters()],
            "structure": self.trace.structure(module),
            "optimizers": [plain(optimizer.state_dict()) for optimizer in trainer.optimizers],
            "schedulers": [plain(c.scheduler.state_dict()) for c in trainer.lr_scheduler_configs],
            "callback metrics": plain(ordinary(trainer.callback_metrics)),
            "logged metrics": plain(ordinary(trainer.logged_metrics)),
            "progress bar metrics": plain(ordinary(trainer.progress_bar_metrics)),
            "checkpoint": plain(checkpoint),
            "log": self.logged(),
            "steps": (trainer.global_step, trainer.current_epoch),
        }

    def logged(self) -> list[dict[str, str]]:
        """The rows of the CSV log, without stiffness and rows that hold nothing else."""
        file = self.folder / "metrics.csv"
        if not file.exists():
            return []
        with file.open(newline="") as lines:
            rows = [{k: v for k, v in ordinary(row).items() if v} for row in csv.DictReader(lines)]
        return [row for row in rows if row.keys() - {"step", "epoch"}]
