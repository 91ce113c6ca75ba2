"""``StiffnessCallback``: when to measure; everything else is done by the modules it calls."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from lightning_stiffness import arguments
from lightning_stiffness.compat import classes, inform, misconfiguration, misconfigurations
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.functional.distance import Distance
from lightning_stiffness.gram import Layers, LossFn, ParameterFilter
from lightning_stiffness.guard import SetsTrainable, trainable
from lightning_stiffness.history import drop_from_peak, within_class
from lightning_stiffness.measuring import Measuring
from lightning_stiffness.moments import (
    about_to_count,
    batches_stepped,
    in_fit,
    last_batch_of_epoch,
    sharded_strategy,
)
from lightning_stiffness.pictures import CHOICES
from lightning_stiffness.probeset import chosen_field
from lightning_stiffness.refusal import REFUSALS
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.rundata import checked_source
from lightning_stiffness.runlog import RunLog
from lightning_stiffness.settings import Settings, StepFn, one_of
from lightning_stiffness.steploss import find_loss

SPLITS = ("train", "val")
ON_ERROR = ("warn", "raise")

DEAR = 0.05
"""Share of a run above which the callback says how to make measuring cheaper."""
NOTICEABLE = 10.0
"""Seconds below which that share is nobody's concern."""

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
        label_fn: function from a batch to integer classes ``[n]``; by default found in the batch; False: no
            classes.
        input_fn: function from a batch to tensors ``[n, …]`` to take distances of; by default found in the batch;
            False: no distances, unless ``distance_layer`` is given.
        distance: ``"cosine"`` of the standardised inputs, ``"euclidean"``, or a function of two tensors.
        distance_layer: name of a submodule: distances between its outputs instead of the inputs.
        bins: number of bins of the distance curve.
        superclasses: group of each class; or several such lists, from fine to coarse.
        superclass_names: names of the groups; for several levels, a list of names for each.
        class_names: names of the classes.
        parameters: names or patterns of the parameters to differentiate, or a predicate; by default all
            trainable ones.
        engine: how gradients are computed, see ``lightning_stiffness.gram``.
        memory_budget: bytes for the gradients held at a time.
        resamples: bootstrap samples of the examples for the 95% intervals; 0 for no intervals.
        diagnostics: also log coherence, diversity, confusion and effective rank of each split's gradients.
        per_layer: also the class matrix of each layer's gradients, at no further pass: True for every submodule
            that holds parameters, or names of submodules. Each layer keeps a Gram of the whole probe.
        step: whose step on one example is told to help or hurt another: ``"sgd"``, plain gradient descent's;
            ``"optimizer"``, the one that the run's optimizer would take, as its state is
            (:func:`lightning_stiffness.gram.optimizer_step`; with Adam about as slow as ``engine="vmap"``); or a
            function ``step(optimizers, module)`` → parameter name → step size.
        pictures: what loggers show as images: ``"main"``, a class matrix and a distance curve from training to
            validation examples, and with ``per_layer`` one of the layers; ``"all"``, those of every block and
            measure; ``"none"``. Drawing takes some hundredths of a second each, and the tab "Stiffness" of
            TensorBoard shows all of them without it.
        save: write each result to ``<log directory>/stiffness/``.
        seed: decides which examples are in the probe.
        dataloaders: split → loader or dataset to choose the examples from, instead of the run's own: for a
            stream that cannot be copied, or for another than the first of several validation loaders.
        on_error: what an error inside a measurement does: with ``"warn"`` the training goes on, with one
            warning, and NaN is logged; with ``"raise"`` it stops. Mistakes in the settings, and modules that
            cannot be measured, always stop the run, before its first step.
        name: what every logged name and the folder of saved results begin with; two callbacks in one run
            need two names.

    Raises:
        ValueError: for an argument of another type than its annotation says, or that is not one of the allowed
            values; the message names the argument, and what was expected.

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
        label_fn: FieldFn | Literal[False] | None = None,
        input_fn: FieldFn | Literal[False] | None = None,
        distance: Distance = "cosine",
        distance_layer: str | None = None,
        bins: int = 20,
        superclasses: Sequence[int] | Sequence[Sequence[int]] | None = None,
        superclass_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        class_names: Sequence[str] | None = None,
        parameters: ParameterFilter = None,
        engine: str = "auto",
        memory_budget: int | None = None,
        resamples: int = 200,
        diagnostics: bool = True,
        per_layer: Layers = False,
        step: StepFn | str = "sgd",
        pictures: str = "main",
        save: bool = True,
        seed: int = 0,
        dataloaders: Mapping[str, Any] | None = None,
        on_error: str = "warn",
        name: str = "stiffness",
    ) -> None:
        super().__init__()
        self.probe_size = arguments.probe_size(probe_size)
        chosen = one_of("splits", splits, SPLITS)
        self.splits = tuple(split for split in SPLITS if split in chosen)  # blocks go from training to validation
        self.every_n_epochs = arguments.whole("every_n_epochs", every_n_epochs, 0, why=" (0: never)")
        self.every_n_train_steps = arguments.batches("every_n_train_steps", every_n_train_steps)
        self.at_start = arguments.switch("at_start", at_start)
        self.loss_fn = None if loss_fn is None else arguments.loss(loss_fn)
        self.label_fn = chosen_field("label_fn", label_fn)
        self.input_fn = chosen_field("input_fn", input_fn)
        self.settings = Settings(
            per_layer=per_layer,
            step=step,
            measures=measures,
            distance=distance,
            distance_layer=distance_layer,
            bins=bins,
            superclasses=superclasses,
            superclass_names=superclass_names,
            class_names=class_names,
            parameters=parameters,
            engine=engine,
            memory_budget=memory_budget,
            resamples=resamples,
            diagnostics=diagnostics,
        )
        self.pictures = arguments.choice("pictures", pictures, CHOICES)
        self.save = arguments.switch("save", save)
        self.seed = arguments.seed(seed)
        self.dataloaders = arguments.mapping("dataloaders", dataloaders, "{'train': loader}")
        if self.dataloaders:
            one_of("dataloaders", tuple(self.dataloaders), SPLITS)
        for split, source in self.dataloaders.items():
            checked_source(split, source)
        if not isinstance(on_error, str):  # one_of would take a list
            raise ValueError(f"expected on_error to be 'warn' or 'raise', got {arguments.shown(on_error)}")
        self.on_error = one_of("on_error", on_error, ON_ERROR)[0]
        self.name = arguments.path_name("name", name)
        self._forget()

    def _forget(self) -> None:
        """As before any run."""
        self.history: list[StiffnessResult] = []
        self.seconds = 0.0
        """Time spent measuring in this run."""
        self.failures = 0
        """Measurements of this run that failed."""
        self._earlier: list[StiffnessResult] = []
        self._measuring = Measuring(
            self.settings,
            self.splits,
            self.probe_size,
            self.seed,
            self.loss_fn,
            self.label_fn,  # type: ignore[arg-type]
            self.input_fn,  # type: ignore[arg-type]
            self.dataloaders,
            self.name,
        )
        self._started = False
        self._measured_at: int | None = None
        self._log = RunLog(self.name, save=self.save, pictures=self.pictures)
        self._began = time.perf_counter()

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
            "name": self.name,
        }
        return self._generate_state_key(**settings)

    def state_dict(self) -> dict[str, Any]:
        """As plain numbers: which examples are in the probe, so that a resumed run measures on the same, and
        within-class stiffness so far, to tell how far it has fallen from its peak."""
        so_far = [*self._earlier, *self.history]
        return {"probe": self._measuring.indices, "within_class": [within_class(result) for result in so_far]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the probe of the run that is resumed."""
        self._measuring.indices = {split: list(map(int, indices)) for split, indices in state_dict["probe"].items()}
        self._earlier = [StiffnessResult(**numbers) for numbers in state_dict["within_class"]]

    # When to measure

    def setup(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """Forget an earlier run; refuse what cannot be measured before anything is spread over processes."""
        if stage != "fit":
            return
        self._forget()
        others = [c for c in trainer.callbacks if isinstance(c, StiffnessCallback) and c is not self]
        if any(other.name == self.name for other in others):
            raise misconfiguration(
                trainer, f"two StiffnessCallbacks would log as {self.name!r}: pass name= to one of them"
            )
        sharded = sharded_strategy(trainer)
        if sharded is not None:
            raise misconfiguration(
                trainer,
                f"{sharded} spreads parameters over processes, so that none of them has an example's whole "
                "gradient, which stiffness is made of: train with strategy='ddp', or measure its checkpoints "
                "afterwards with measure_stiffness",
            )

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Find out at once whether there is a loss to measure by."""
        find_loss(pl_module, trainer, self.loss_fn)

    def on_train_batch_start(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        """Choose the probe, check it, and measure the network before its first step.

        Not sooner: what a module sets up in hooks of its own when training or an epoch starts is there by now.
        """
        if self._started:
            return
        self._started = True
        self._log.find_folder(trainer)
        self._measuring.choose(trainer, pl_module, self._log.say)
        if self.at_start and batches_stepped(trainer) == 0:
            self._measure(trainer, pl_module, step=0, epoch=0, at_epoch_end=False)
        self._measuring.forget_check()

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        """Measure within an epoch, where that was asked for."""
        every = self.every_n_train_steps
        if every is None:
            return
        step = batches_stepped(trainer) + about_to_count(trainer)
        if step == 0 or step == self._measured_at:
            return
        if every(step) if callable(every) else step % every == 0:
            epoch = trainer.current_epoch + last_batch_of_epoch(trainer)
            self._measure(trainer, pl_module, step=step, epoch=epoch, at_epoch_end=False)

    def on_validation_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Measure at an epoch's last validation: callbacks that monitor act after it."""
        if trainer.sanity_checking or not in_fit(trainer):
            return
        step = batches_stepped(trainer) + about_to_count(trainer)
        due = last_batch_of_epoch(trainer) and self._epoch_is_due(trainer)
        if due and step != self._measured_at:
            self._measure(trainer, pl_module, step=step, epoch=trainer.current_epoch + 1, at_epoch_end=True)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Measure at the end of an epoch that had no validation."""
        step = batches_stepped(trainer)
        if step != self._measured_at and self._epoch_is_due(trainer):
            self._measure(trainer, pl_module, step=step, epoch=trainer.current_epoch + 1, at_epoch_end=True)

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Say what measuring cost."""
        made, failed = len(self.history), self.failures
        if not made + failed:
            return
        share = self.seconds / (time.perf_counter() - self._began)
        each = self.seconds / (made + failed)
        cost = f"{self.seconds:.1f} s ({each:.2f} s each), {share:.1%} of the run"
        text = f"{self.name}: {made + failed} measurements took {cost}"
        if failed:
            text += f"; {failed} of them failed, see the warning above"
        if share > DEAR and self.seconds > NOTICEABLE:
            text += "; a smaller probe_size or a larger every_n_epochs makes it less"
        inform(trainer, text)

    def on_exception(self, *_: Any) -> None:
        """Release everything."""
        self.teardown()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Release the probe."""
        self._measuring.release()

    def _epoch_is_due(self, trainer: Any) -> bool:
        return self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _measure(self, trainer: Any, module: nn.Module, *, step: int, epoch: int, at_epoch_end: bool) -> None:
        """Measure and log; an error is raised or told, as the user wishes, and the run is as it was."""
        started = time.perf_counter()
        self._measured_at = step
        result = None
        try:
            result = self._result_of(trainer, module, step=step, epoch=epoch)
        except Exception as error:
            to_settle = not self.history and isinstance(error, (*REFUSALS, *misconfigurations()))
            if self.on_error == "raise" or to_settle:
                raise
            self.failures += 1
            self._log.failed("measured, and NaN is logged in its place", error)
        if result is None:
            names = {} if self.result is None else self._log.scalars(self.result, self._drop())
            scalars = self._log.missing(names, list(self._measuring.probes), self.settings.measures)
        else:
            self.history.append(result)
            scalars = self._log.scalars(result, self._drop())
        if at_epoch_end:
            self._log.through(module, scalars, alone=trainer.world_size == 1)
        else:
            self._log.directly(trainer, scalars, step=step)
        if result is not None:
            # Lightning puts what it logs at the end of an epoch on the epoch's last batch
            shown_at = max(step - 1, 0) if at_epoch_end else step
            self._or_say("shown or saved", lambda: self._log.show(trainer, result, step=shown_at))
        self.seconds += time.perf_counter() - started

    def _result_of(self, trainer: Any, module: nn.Module, **place: int) -> StiffnessResult:
        measure = functools.partial(self._measuring.measure, trainer, module, say=self._log.say, **place)
        try:
            return measure()
        except SetsTrainable as told:  # now that the loss has been seen, with the parameters that it trains
            with trainable(told.trainable):
                return measure()

    def _drop(self) -> dict[str, float]:
        return drop_from_peak([*self._earlier, *self.history])

    def _or_say(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._log.failed(what, error)
