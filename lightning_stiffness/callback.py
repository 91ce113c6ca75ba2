"""``StiffnessCallback``: when to measure; everything else is done by the modules it calls."""

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn

from lightning_stiffness.compat import classes, misconfiguration
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.functional.distance import Distance
from lightning_stiffness.gram import LossFn, ParameterFilter
from lightning_stiffness.loggers import log_pictures, log_scalars
from lightning_stiffness.measure import check_measurement, measure_probe
from lightning_stiffness.pictures import draw_picture, pictures
from lightning_stiffness.probe import Probe, build_probe, seeded
from lightning_stiffness.probeset import AUTO, ProbeSet
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.settings import Settings, one_of
from lightning_stiffness.shadow import find_loss, make_shadow
from lightning_stiffness.transfer import transfer_to_device

SPLITS = ("train", "val")

# A callback passes the type checks of both Lightning namespaces only if it derives from both.
_Base: Any = type("_Base", classes("Callback"), {})


class StiffnessCallback(_Base):  # type: ignore[misc]
    r"""Measures during training how a small gradient step on one example changes the loss on another.

    .. math::
        S_{\cos}(i, j) = \frac{g_i \cdot g_j}{|g_i| |g_j|} \qquad
        S_{\mathrm{sign}}(i, j) = \operatorname{sign}(g_i \cdot g_j)

    on a fixed probe of training and validation examples: by class, by distance in input space, with the
    dynamical critical length (Fort et al., arXiv:1901.09491v3, section 2). Scalars go through ``self.log``, so
    ``ModelCheckpoint`` and ``EarlyStopping`` can monitor them; heatmaps and curves go to the logger as images.
    The training itself is the same to the bit with and without the callback.

    Args:
        probe_size: examples of each split to measure on; by default 500, or all there are where there are
            fewer.
        splits: ``"train"``, ``"val"`` or both. Without validation data only ``"train"`` is measured.
        every_n_epochs: measure after every so many epochs; 0 for never.
        every_n_train_steps: also measure every so many training batches, or where a function of the number of
            batches trained says so.
        at_start: measure before the first training step.
        measures: ``"cos"``, ``"sign"`` or both.
        loss_fn: ``loss_fn(module, batch)`` → losses ``[n]``, their mean or sum. By default
            ``module.stiffness_loss(batch)`` where it is defined, else the loss of ``training_step``.
        label_fn: function from a batch to integer classes ``[n]``; by default found in the batch.
        input_fn: function from a batch to tensors ``[n, …]`` to take distances of; by default found in the batch.
        distance: ``"cosine"`` of the standardised inputs, ``"euclidean"``, or a function of two tensors.
        distance_layer: name of a submodule: distances between its outputs instead of the inputs.
        bins: number of bins of the distance curve.
        superclasses: group of each class.
        class_names: names of the classes.
        parameters: names or patterns of the parameters to differentiate, or a predicate; by default all
            trainable ones.
        engine: how gradients are computed, see ``lightning_stiffness.gram``.
        memory_budget: bytes for the gradients held at a time.
        save: write each result to ``<log directory>/stiffness/``.
        seed: decides which examples are in the probe.

    Raises:
        ValueError: for an argument that is not one of the allowed values; the message lists those.

    Example:
        >>> callback = StiffnessCallback(probe_size=100, measures=["cos"])
        >>> callback.history
        []
    """

    def __init__(
        self,
        probe_size: int | None = None,
        *,
        splits: Sequence[str] = SPLITS,
        every_n_epochs: int = 1,
        every_n_train_steps: int | Callable[[int], bool] | None = None,
        at_start: bool = True,
        measures: Sequence[str] = ("cos", "sign"),
        loss_fn: LossFn | None = None,
        label_fn: FieldFn | None = None,
        input_fn: FieldFn | None = None,
        distance: Distance = "cosine",
        distance_layer: str | None = None,
        bins: int = 20,
        superclasses: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        parameters: ParameterFilter = None,
        engine: str = "auto",
        memory_budget: int | None = None,
        save: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if probe_size is not None and (isinstance(probe_size, bool) or probe_size < 2):
            raise ValueError(f"expected probe_size of at least 2, to have a pair to compare, got {probe_size}")
        if every_n_epochs < 0:
            raise ValueError(f"expected every_n_epochs of at least 0 (0: never), got {every_n_epochs}")
        if isinstance(every_n_train_steps, int) and every_n_train_steps < 1:
            raise ValueError(f"expected every_n_train_steps of at least 1, got {every_n_train_steps}")
        self.probe_size = probe_size
        self.splits = one_of("splits", splits, SPLITS)
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.at_start = at_start
        self.loss_fn = loss_fn
        self.label_fn: FieldFn | str = AUTO if label_fn is None else label_fn
        self.input_fn: FieldFn | str = AUTO if input_fn is None else input_fn
        self.settings = Settings(
            measures, distance, distance_layer, bins, superclasses, class_names, parameters, engine, memory_budget
        )
        self.save = save
        self.seed = seed
        self.history: list[StiffnessResult] = []
        self.seconds = 0.0
        """Time spent measuring in this run."""
        self._probes: dict[str, Probe] = {}
        self._measured_at: int | None = None
        self._said: set[str] = set()

    @property
    def result(self) -> StiffnessResult | None:
        """The last measurement; None before the first."""
        return self.history[-1] if self.history else None

    @property
    def state_key(self) -> str:
        """Tells the states of several callbacks in one checkpoint apart."""
        settings = {
            **self.settings.plain(),
            "splits": list(self.splits),
            "seed": self.seed,
            "size": self.probe_size,
        }
        return self._generate_state_key(**settings)

    # When to measure

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Forget an earlier run; find out at once whether there is a loss to measure by."""
        self._probes, self._measured_at, self._said = {}, None, set()
        self.history, self.seconds = [], 0.0
        find_loss(pl_module, trainer, self.loss_fn)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Choose the probe, check it, and measure the network before its first step."""
        self._build_probes(trainer)
        if self.at_start and _batches_stepped(trainer) == 0:
            result = self._measure(trainer, pl_module, step=0, epoch=0)
            # self.log would keep these values back until the epoch's end, and overwrite them there.
            self._log_directly(trainer, result, step=0)
        else:  # mistakes show now all the same
            with seeded(self.seed):
                check_measurement(pl_module, self._probe_sets(trainer, pl_module), self.settings, [])

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        """Measure within an epoch, where that was asked for."""
        every, step = self.every_n_train_steps, _batches_stepped(trainer) + _about_to_count(trainer)
        if every is None or step == 0 or step == self._measured_at:
            return
        if every(step) if callable(every) else step % every == 0:
            result = self._measure(trainer, pl_module, step=step, epoch=trainer.current_epoch)
            # self.log would drop what falls between two steps of log_every_n_steps.
            self._log_directly(trainer, result, step=step)

    def on_validation_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Measure at an epoch's last validation: callbacks that monitor act after it."""
        if trainer.sanity_checking or not _in_fit(trainer):
            return
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and self._epoch_is_due(trainer):
            step = _batches_stepped(trainer) + _about_to_count(trainer)
            result = self._measure(trainer, pl_module, step=step, epoch=trainer.current_epoch + 1)
            self._log_through(trainer, pl_module, result)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Measure at the end of an epoch that had no validation."""
        step = _batches_stepped(trainer)
        if step != self._measured_at and self._epoch_is_due(trainer):
            result = self._measure(trainer, pl_module, step=step, epoch=trainer.current_epoch + 1)
            self._log_through(trainer, pl_module, result)

    def on_exception(self, *_: Any) -> None:
        """Release the probe."""
        self._probes = {}

    def teardown(self, *_: Any, **__: Any) -> None:
        """Release the probe."""
        self._probes = {}

    def _epoch_is_due(self, trainer: Any) -> bool:
        return self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    # What to measure on

    def _build_probes(self, trainer: Any) -> None:
        loaders = {"train": trainer.train_dataloader, "val": trainer.val_dataloaders}
        for split in self.splits:
            loader = loaders[split]
            several = isinstance(loader, list | tuple)
            if loader is None or (several and not loader):
                self._say(
                    f"the run has no {split} data, so stiffness is measured without it"
                    + (": pass val_dataloaders to fit, or splits=('train',)" if split == "val" else "")
                )
                continue
            if several and len(loader) > 1:
                self._say(f"stiffness is measured on the first of the {len(loader)} {split} loaders")
            self._probes[split] = build_probe(
                loader[0] if several else loader, split, self.probe_size, seed=self.seed, label_fn=self.label_fn
            )
        if not self._probes:
            raise misconfiguration(trainer, f"there is no data to measure stiffness on: splits={self.splits}")

    def _probe_sets(self, trainer: Any, module: nn.Module) -> dict[str, ProbeSet]:
        transfer = functools.partial(transfer_to_device, trainer, module)
        return {split: p.to_set(transfer, self.label_fn, self.input_fn) for split, p in self._probes.items()}

    def _measure(self, trainer: Any, module: nn.Module, *, step: int, epoch: int) -> StiffnessResult:
        started = time.perf_counter()
        loss_fn = find_loss(module, trainer, self.loss_fn)
        with warnings.catch_warnings(record=True) as caught, seeded(self.seed), torch.inference_mode(False):
            warnings.simplefilter("always")
            shadow = make_shadow(module, trainer)
            probe = self._probe_sets(trainer, shadow)
            result = measure_probe(shadow, probe, loss_fn=loss_fn, settings=self.settings, step=step, epoch=epoch)
        for text in (*(str(w.message) for w in caught if w.category is UserWarning), *result.notes):
            self._say(text)
        self._measured_at = step
        self.history.append(result)
        self.seconds += time.perf_counter() - started
        return result

    # Where it goes

    def _log_through(self, trainer: Any, pl_module: Any, result: StiffnessResult) -> None:
        pl_module.log_dict(result.scalars(), on_step=False, on_epoch=True, batch_size=1, add_dataloader_idx=False)
        # Lightning puts what it logs at the end of an epoch on the epoch's last batch.
        self._show(trainer, result, step=max(result.step - 1, 0))

    def _log_directly(self, trainer: Any, result: StiffnessResult, *, step: int) -> None:
        scalars = result.scalars()
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})
        if trainer.is_global_zero:
            log_scalars(trainer.loggers, scalars, step=step)
        self._show(trainer, result, step=step)

    def _show(self, trainer: Any, result: StiffnessResult, *, step: int) -> None:
        started = time.perf_counter()
        if trainer.is_global_zero:
            log_pictures(trainer.loggers, pictures(result), functools.partial(draw_picture, result), step=step)
            folder = trainer.log_dir if trainer.loggers else None
            if self.save and folder is not None and not trainer.fast_dev_run:
                result.save(Path(folder) / "stiffness" / f"step_{result.step:08d}.npz")
        self.seconds += time.perf_counter() - started

    def _say(self, text: str) -> None:
        """A message to the user, once in a run and on one rank."""
        if text not in self._said:
            self._said.add(text)
            rank_zero_warn(text, stacklevel=4)


def _batches_stepped(trainer: Any) -> int:
    """Batches after which an optimizer stepped: the x axis of Lightning's loggers. ``global_step`` counts every
    optimizer by itself."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _about_to_count(trainer: Any) -> int:
    # Lightning counts a batch only after its hooks and the validation behind it.
    return 0 if trainer.fit_loop.epoch_loop._should_accumulate() else 1


def _in_fit(trainer: Any) -> bool:
    return str(getattr(trainer.state.fn, "value", trainer.state.fn)) == "fit"
