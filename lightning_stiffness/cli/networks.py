"""Networks as they were when a checkpoint was written, and how they are measured."""

import functools
import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lightning_stiffness.cli.checkpoints import Checkpoint, load_weights
from lightning_stiffness.cli.datasets import Data
from lightning_stiffness.cli.problem import UsageError, near, note
from lightning_stiffness.compat import classes, namespaces
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch, map_leaves
from lightning_stiffness.gram.state import seeded
from lightning_stiffness.measure import measure_probe
from lightning_stiffness.measuring import Measuring
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.rundata import choose_probes
from lightning_stiffness.settings import Settings
from lightning_stiffness.steploss import find_loss


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
    splits: Sequence[str]
    probe_size: int | None
    seed: int
    trust: bool
    data: Data | None = None


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


def measure_checkpoints(checkpoints: Sequence[Checkpoint], how: How) -> Iterator[StiffnessResult]:
    """The stiffness of a network as it was when each checkpoint was written, on the same examples.

    A LightningModule is measured as the callback measures it: on a copy, by the same loss, with its own transfer
    hooks. It sees a Trainer that stands where the checkpoint was written and never runs.

    Args:
        checkpoints: the weights.
        how: everything else.

    Yields:
        One result after the other.

    Raises:
        UsageError: if the module cannot be made, or the weights are not its own.
    """
    assert how.data is not None
    loaders = how.data.loaders
    splits = [split for split in how.splits if split in loaders]
    for split in [split for split in how.splits if split not in loaders]:
        note(f"--data has no {split} data, so stiffness is measured without it")
    told: set[str] = set()

    def say(text: str) -> None:
        if text not in told:
            note(text)
        told.add(text)

    measuring = Measuring(
        settings=how.settings,
        splits=splits,
        probe_size=how.probe_size,
        seed=how.seed,
        loss_fn=how.loss_fn,
        label_fn=how.label_fn,  # type: ignore[arg-type]
        input_fn=how.input_fn,  # type: ignore[arg-type]
        dataloaders=loaders,
        name="the checkpoint",
    )
    for checkpoint in checkpoints:
        module = make_network(checkpoint, how)
        step, epoch = checkpoint.step or 0, checkpoint.epoch or 0
        if is_lightning(module):
            trainer = idle_trainer(module, checkpoint, how)
            find_loss(module, trainer, how.loss_fn)
            if not measuring.probes:
                measuring.choose(trainer, module, say)
            yield measuring.measure(trainer, module, step=step, epoch=epoch, say=say)
        else:
            yield _measure_plain(module, measuring, how, step=step, epoch=epoch, say=say)


def _measure_plain(
    module: nn.Module, measuring: Measuring, how: How, *, step: int, epoch: int, say: Callable[[str], None]
) -> StiffnessResult:
    """The same for a module without Lightning, by the loss that was named."""
    if how.loss_fn is None:
        raise no_loss(type(module).__name__)
    if not measuring.probes:
        measuring.probes = choose_probes(
            None,
            measuring.splits,
            how.probe_size,
            seed=how.seed,
            label_fn=how.label_fn,
            dataloaders=measuring.dataloaders,
            indices={},
            own_loss=True,
            say=say,
        )
    with seeded(how.seed):
        sets = {
            split: probe.to_set(functools.partial(_moved, device=how.device), how.label_fn, how.input_fn)
            for split, probe in measuring.probes.items()
        }
        result = measure_probe(module, sets, loss_fn=how.loss_fn, settings=how.settings, step=step, epoch=epoch)
    for text in result.notes:
        say(text)
    return result


def _moved(batch: Batch, device: torch.device) -> Batch:
    return map_leaves(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, batch)


def check_hparams(make: Any, hparams: Mapping[str, Any]) -> None:
    """See whether what makes the module takes these arguments: Lightning passes over those that it does not know.

    Raises:
        UsageError: for one that it does not take; the message lists those that it does.
    """
    try:
        known = inspect.signature(make).parameters
    except (TypeError, ValueError):  # some that are built in do not tell; they say so themselves when called
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = [str(name) for name in hparams if name not in known]
    if unknown:
        name = getattr(make, "__name__", str(make))
        raise UsageError(
            f"{name} cannot be made: --hparams has to hold arguments of it ({', '.join(known) or 'none'}), "
            f"got {', '.join(unknown)}{near(unknown[0], known)}"
        )


def make_network(checkpoint: Checkpoint, how: How) -> nn.Module:
    """The module with a checkpoint's weights, on its device.

    Raises:
        UsageError: if it cannot be made from the arguments at hand, or the weights are not its own.
    """
    name = getattr(how.make, "__name__", str(how.make))
    content = checkpoint.content
    by_itself = inspect.isclass(how.make) and is_lightning(how.make) and checkpoint.from_lightning
    module: nn.Module
    try:
        if by_itself:
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
            if is_lightning(module):
                module.configure_model()  # type: ignore[operator]
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
        text = " ".join(str(error).split())[:600].rstrip(".")
        raise UsageError(
            f"the weights in {checkpoint.path.name} are not those of {name}: {text}. Layers have to be made in "
            "__init__ or configure_model; other sizes of them are given by --hparams"
        ) from error
    return module.to(how.device)


def idle_trainer(module: Any, checkpoint: Checkpoint, how: How) -> Any:
    """A Trainer that stands where the checkpoint was written, for what a training step reads from it."""
    with quiet():
        trainer = _namespace(module).Trainer(
            accelerator=how.device.type,
            devices=1 if how.device.index is None else [how.device.index],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    trainer.datamodule = how.data.datamodule if how.data else None
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
