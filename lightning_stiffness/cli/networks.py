"""Networks as they were when a checkpoint was written, and how their loss is computed."""

import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lightning_stiffness.cli.checkpoints import Checkpoint, load_weights
from lightning_stiffness.cli.problem import UsageError
from lightning_stiffness.compat import classes, namespaces
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch, map_leaves
from lightning_stiffness.guard import guarded
from lightning_stiffness.measure import measure_probe
from lightning_stiffness.probe import Probe, seeded
from lightning_stiffness.progress import counted
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.settings import Settings
from lightning_stiffness.shadow import make_shadow
from lightning_stiffness.steploss import find_loss
from lightning_stiffness.surroundings import kept_surroundings
from lightning_stiffness.transfer import transfer_to_device


@dataclass(frozen=True)
class How:
    """What is the same for every checkpoint."""

    make: Any
    """Class of the module, or a function that returns one."""
    hparams: dict[str, Any]
    loss_fn: LossFn | None
    label_fn: FieldFn | str | None
    input_fn: FieldFn | str | None
    settings: Settings
    device: torch.device
    seed: int
    trust: bool
    datamodule: Any = None


def is_lightning(thing: Any) -> bool:
    """Whether something is a LightningModule, or a class of such."""
    kinds = classes("LightningModule")
    return issubclass(thing, kinds) if inspect.isclass(thing) else isinstance(thing, kinds)


def no_loss(name: str) -> UsageError:
    """What to say of a module that has no loss of its own."""
    return UsageError(
        f"expected --loss pkg.mod:function, as {name} is no LightningModule and has no loss of its own: a function "
        "of the module and a batch that returns losses [n], their mean or sum"
    )


def measure_checkpoint(checkpoint: Checkpoint, probes: dict[str, Probe], how: How) -> StiffnessResult:
    """The stiffness of a network as it was when a checkpoint was written.

    A LightningModule is measured as the callback measures it: on a copy, by the same loss, with its own transfer
    hooks. It sees a Trainer that stands where the checkpoint was written and never runs.

    Args:
        checkpoint: its weights.
        probes: split → examples.
        how: everything else.

    Returns:
        The result.

    Raises:
        UsageError: if the module cannot be made, or the weights are not its own.
    """
    module = make_network(checkpoint, how)
    size = sum(len(probe) for probe in probes.values())
    with ExitStack() as stack:
        stack.enter_context(seeded(how.seed))
        trainer: Any = None
        measured = module
        if is_lightning(module):
            trainer = idle_trainer(module, checkpoint, how)
            loss_fn = find_loss(module, trainer, how.loss_fn)
            measured = make_shadow(module, trainer)
            stack.enter_context(kept_surroundings(module, how.datamodule))
            loss_fn = stack.enter_context(guarded(loss_fn, module, measured, trainer.precision))
            loss_fn = stack.enter_context(counted(loss_fn, size, checkpoint.path.name, trainer))
        else:
            if how.loss_fn is None:
                raise no_loss(type(module).__name__)
            loss_fn = how.loss_fn
        sets = {
            split: probe.to_set(_transfer(trainer, measured, how.device), how.label_fn, how.input_fn)
            for split, probe in probes.items()
        }
        return measure_probe(
            measured,
            sets,
            loss_fn=loss_fn,
            settings=how.settings,
            step=checkpoint.step or 0,
            epoch=checkpoint.epoch,
        )


def make_network(checkpoint: Checkpoint, how: How) -> nn.Module:
    """The module with a checkpoint's weights, on its device.

    Raises:
        UsageError: if it cannot be made from the arguments at hand, or the weights are not its own.
    """
    name = getattr(how.make, "__name__", str(how.make))
    content = checkpoint.content
    try:
        if inspect.isclass(how.make) and is_lightning(how.make) and checkpoint.from_lightning:
            with _pickle_allowed() if how.trust else nullcontext(), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # that metrics or logged values are among its arguments, and the like
                module = how.make.load_from_checkpoint(checkpoint.path, map_location="cpu", **how.hparams)
        else:
            module = content if isinstance(content, nn.Module) else how.make(**how.hparams)
            if not isinstance(module, nn.Module):
                raise UsageError(
                    f"expected --module to make an nn.Module, but {name} returns {type(module).__name__}"
                )
            load_weights(module, checkpoint)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UsageError(
            f"{name} cannot be made: {error}. Arguments that the checkpoint does not hold are given by --hparams, "
            "such as --hparams '{width: 64}'; for those that are objects, write a function that makes the module "
            "and name that"
        ) from error
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        text = " ".join(str(error).split())[:600]
        raise UsageError(
            f"the weights in {checkpoint.path.name} are not those of {name}: {text}. Layers have to be made in "
            "__init__ or configure_model; other sizes of them are given by --hparams"
        ) from error
    return module.to(how.device)


def idle_trainer(module: nn.Module, checkpoint: Checkpoint, how: How) -> Any:
    """A Trainer that stands where the checkpoint was written, for what a training step reads from it."""
    with quiet():
        trainer = _namespace(module).Trainer(
            accelerator=how.device.type,
            devices=1 if how.device.index is None else [how.device.index],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    trainer.datamodule = how.datamodule
    if checkpoint.from_lightning and "loops" in checkpoint.content:
        trainer.fit_loop.load_state_dict(checkpoint.content["loops"]["fit_loop"])
    trainer.strategy._lightning_module = module
    module.trainer = trainer
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.setup("fit")
    module.load_state_dict(before)  # if it made layers anew
    module.to(how.device)
    return trainer


def _namespace(module: nn.Module) -> Any:
    """Lightning's package that a module's class comes from."""
    return next(
        package
        for package, kind in zip(namespaces(), classes("LightningModule"), strict=True)
        if isinstance(module, kind)
    )


def _transfer(trainer: Any, module: nn.Module, device: torch.device) -> Callable[[Batch], Batch]:
    if trainer is not None:
        return lambda batch: transfer_to_device(trainer, module, batch)
    return lambda batch: map_leaves(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, batch)


@contextmanager
def _pickle_allowed() -> Iterator[None]:
    """Lightning reads the file by itself, and some of its versions leave it to torch what may be in there."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning does not tell which accelerators there are: nothing is trained."""
    loggers = [logging.getLogger(f"{package.__name__}.utilities.rank_zero") for package in namespaces()]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
