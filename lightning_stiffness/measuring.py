"""A measurement within a run: the probe, a copy of the module and its loss → a result, and the run as it was."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lightning_stiffness.checks import check_measurement
from lightning_stiffness.chosen import Probe
from lightning_stiffness.distances import DistanceCache
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import LossFn, StepSize, optimizer_step
from lightning_stiffness.gram.state import seeded
from lightning_stiffness.guard import guarded
from lightning_stiffness.measure import measure_probe
from lightning_stiffness.probeset import ProbeSet
from lightning_stiffness.processes import Processes
from lightning_stiffness.progress import counted
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.rundata import choose_probes
from lightning_stiffness.settings import Settings
from lightning_stiffness.shadow import make_shadow
from lightning_stiffness.steploss import find_loss
from lightning_stiffness.surroundings import kept_surroundings
from lightning_stiffness.transfer import transfer_to_device

Say = Callable[[str], None]
"""Takes a message to the user."""

_Prepared = tuple[nn.Module, dict[str, ProbeSet], Mapping[str, StepSize] | None]
"""A copy of the module, the probe on its device, and how far the optimizer steps."""


@dataclass
class Measuring:
    """What one callback measures in one run; its arguments are those of ``StiffnessCallback``."""

    settings: Settings
    splits: Sequence[str]
    probe_size: int | None
    seed: int
    loss_fn: LossFn | None
    label_fn: FieldFn | str
    input_fn: FieldFn | str
    dataloaders: Mapping[str, Any]
    name: str
    indices: dict[str, list[int]] = field(default_factory=dict)
    """Split → which examples are in the probe; given before they are chosen, in a run that is resumed."""
    probes: dict[str, Probe] = field(default_factory=dict)
    _cache: DistanceCache = field(default_factory=DistanceCache)
    _kept: _Prepared | None = None

    def choose(self, trainer: Any, module: nn.Module, say: Say) -> None:
        """Choose the probe, and find mistakes now, whenever the first measurement is."""
        processes = Processes(trainer)
        choose = functools.partial(
            choose_probes,
            trainer,
            self.splits,
            self.probe_size,
            seed=self.seed,
            label_fn=self.label_fn,
            dataloaders=self.dataloaders,
            indices=self.indices,
            own_loss=self.loss_fn is not None or hasattr(module, "stiffness_loss"),
            say=say,
        )
        self.probes = processes.from_first(processes.together(choose))
        self.indices = {split: probe.indices.tolist() for split, probe in self.probes.items()}
        processes.together(functools.partial(self._check, trainer, module))

    def measure(self, trainer: Any, module: nn.Module, *, step: int, epoch: int, say: Say) -> StiffnessResult:
        """Measure; every process of the run has to call this, and gets the same result."""
        processes = Processes(trainer)
        with warnings.catch_warnings(record=True) as caught, seeded(self.seed), torch.inference_mode(False):
            warnings.simplefilter("always")
            loss_fn, (shadow, probe, steps) = processes.together(functools.partial(self._ready, trainer, module))
            processes.share_buffers(shadow)
            size = sum(len(part.examples) for part in probe.values())
            with (
                guarded(loss_fn, module, shadow, trainer.precision) as watched,
                counted(watched, size, self.name, trainer) as counting,
            ):
                measure = functools.partial(
                    measure_probe,
                    shadow,
                    probe,
                    loss_fn=counting,
                    settings=self.settings,
                    step=step,
                    epoch=epoch,
                    steps=steps,
                    cache=self._cache,
                    share=processes.share(next(shadow.parameters()).device),
                )
                # Processes may round differently, and callbacks that monitor must decide alike
                result = processes.from_first(processes.together(measure))
        for text in (*(str(w.message) for w in caught if w.category is UserWarning), *result.notes):
            say(text)
        return result

    def forget_check(self) -> None:
        """Let go of what the check made, where no measurement follows at once."""
        self._kept = None

    def release(self) -> None:
        """Let go of the probe."""
        self.probes, self._cache, self._kept = {}, DistanceCache(), None

    def _check(self, trainer: Any, module: nn.Module) -> None:
        with seeded(self.seed):
            self._kept = self._prepared(trainer, module)
            shadow, probe, steps = self._kept
            check_measurement(shadow, probe, self.settings, [], steps)

    def _ready(self, trainer: Any, module: nn.Module) -> tuple[LossFn, _Prepared]:
        """The loss, and what it is taken of; the check has made that already where nothing was trained since."""
        kept, self._kept = self._kept, None
        return find_loss(module, trainer, self.loss_fn), kept or self._prepared(trainer, module)

    def _prepared(self, trainer: Any, module: nn.Module) -> _Prepared:
        shadow = make_shadow(module, trainer)
        transfer = functools.partial(transfer_to_device, trainer, shadow)
        with kept_surroundings(shadow, trainer.datamodule):  # which the hooks of the transfer may write to
            probe = {split: p.to_set(transfer, self.label_fn, self.input_fn) for split, p in self.probes.items()}
        return shadow, probe, self._steps(trainer, module)

    def _steps(self, trainer: Any, module: nn.Module) -> Mapping[str, StepSize] | None:
        step = self.settings.step
        if step == "sgd":
            return None
        return (
            optimizer_step(trainer.optimizers, module)
            if isinstance(step, str)
            else step(trainer.optimizers, module)
        )
