"""The loss that stiffness is measured by, and what ``training_step`` returns made into one."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.compat import misconfiguration
from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.guard import is_single
from lightning_stiffness.refusal import Refusal, UnusableStep

SNIPPET = """\
    class YourModule(LightningModule):
        def stiffness_loss(self, batch):
            x, y = batch
            return torch.nn.functional.cross_entropy(self(x), y, reduction="none")  # losses [n], or their mean
"""

_ALONE = (
    "It was given one example alone, since stiffness is made of the gradients of single examples: for a loss that "
    "needs several, or batches of one size,"
)

_SPARED: Any = (getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError), NotImplementedError)
"""Errors that have nothing to do with how many examples there are."""


def find_loss(module: nn.Module, trainer: Any, loss_fn: LossFn | None) -> LossFn:
    """How the loss of a batch is computed on the shadow copy.

    In this order: ``loss_fn``; ``module.stiffness_loss(batch)`` where it is defined; ``training_step``.

    Args:
        module: the LightningModule in training.
        trainer: its trainer.
        loss_fn: the caller's function ``loss_fn(module, batch)``, or None.

    Returns:
        A function of the shadow copy and a batch.

    Raises:
        MisconfigurationException: if there is no loss to measure by: manual optimization, or a training step
            that cannot be called on a batch; the message holds a snippet to paste.
    """
    if loss_fn is not None:
        return loss_fn
    name = type(module).__name__
    if callable(getattr(module, "stiffness_loss", None)):
        return lambda shadow, batch: shadow.stiffness_loss(batch)  # type: ignore[operator]
    if not getattr(module, "automatic_optimization", True):
        raise misconfiguration(
            trainer,
            f"{name} optimizes manually, so its training_step is no loss to measure stiffness by. Pass "
            f"StiffnessCallback(loss_fn=...), or define the loss on the module:\n\n{SNIPPET}",
        )
    arguments = inspect.signature(module.training_step).parameters.values()  # type: ignore[arg-type]
    accepted = [p.name for p in arguments if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in arguments):
        accepted += ["batch", "batch_idx"][len(accepted) :]
    if not accepted or "dataloader_iter" in accepted:
        raise misconfiguration(
            trainer,
            f"{name}.training_step takes {accepted or 'nothing'} instead of a batch. Pass "
            f"StiffnessCallback(loss_fn=...), or define the loss on the module:\n\n{SNIPPET}",
        )
    return StepLoss(name, min(3, len(accepted)))


class StepLoss:
    """The loss that ``training_step`` returns for a batch.

    An example for which it returns None has a loss of zero, without a gradient: it is counted as excluded.

    Args:
        name: the module's class, for messages.
        arguments: how many of batch, batch_idx and dataloader_idx the step takes.

    Raises:
        UnusableStep: for anything else than a tensor, a dict with one under ``"loss"``, or None.
    """

    def __init__(self, name: str, arguments: int) -> None:
        self.name, self.arguments = name, arguments
        self._silent = self._answered = False
        self._forms: list[str] = []  # of batches that it took

    def __call__(self, shadow: nn.Module, batch: Batch) -> Tensor:  # noqa: D102
        output = None
        # A step that leaves out every other batch, by its index, is asked for one that it does not leave out.
        for index in (0, 1) if self.arguments > 1 else (0,):
            output = self._step(shadow, batch, *(index, 0)[: self.arguments - 1])
            if output is not None:
                break
        loss = output.get("loss") if isinstance(output, dict) else output
        if isinstance(loss, Tensor):
            self._answered = True
            return loss
        self._silent |= output is None
        if output is None and is_single(batch):
            parameter = next(shadow.parameters())
            return torch.zeros((), dtype=parameter.dtype, device=parameter.device)
        raise self._unusable(output)

    def _step(self, shadow: nn.Module, batch: Batch, *further: Any) -> Any:
        form = _form(batch)
        try:
            output = shadow.training_step(batch, *further)  # type: ignore[operator]
        except (TypeError, ValueError, AttributeError, LookupError, AssertionError) as error:
            if isinstance(error, Refusal) or form in self._forms:
                raise
            raise UnusableStep(self._failure(error, self._why(shadow, batch, form, error))) from error
        except RuntimeError as error:
            if isinstance(error, _SPARED) or form in self._forms or not is_single(batch) or _transformed():
                raise
            raise RuntimeError(self._failure(error, _ALONE)) from error
        if output is not None and form not in self._forms:
            self._forms.append(form)
        return output

    def _failure(self, error: Exception, why: str) -> str:
        return (
            f"{self.name}.training_step fails on a copy of the module in evaluation mode "
            f"({type(error).__name__}: {error}). {why} pass StiffnessCallback(loss_fn=...), or define the loss on "
            f"the module:\n\n{SNIPPET}"
        )

    def _why(self, shadow: nn.Module, batch: Batch, form: str, error: Exception) -> str:
        if self._forms:
            return (
                f"It takes batches of {self._forms[0]}, and got one of {form}, as validation batches may be: "
                "measure on training data alone with StiffnessCallback(splits='train'), or"
            )
        if isinstance(error, AssertionError):
            return _ALONE
        trainer = getattr(shadow, "_trainer", None)
        if isinstance(error, AttributeError) and getattr(trainer, "global_step", None) == 0:
            return (
                "What on_train_batch_start sets is not there before the first step: measure after it, with "
                "StiffnessCallback(at_start=False). For what else differs in evaluation mode,"
            )
        return (
            "Networks that return something else in training mode, such as auxiliary outputs or losses, need to be "
            "told:"
        )

    def check_answered(self) -> None:
        """Raise ``UnusableStep`` if the step returned None and nothing else."""
        if self._silent and not self._answered:
            raise self._unusable(None)

    def _unusable(self, output: Any) -> UnusableStep:
        return UnusableStep(
            f"expected {self.name}.training_step to return a loss tensor, or a dict with one under 'loss', got "
            f"{type(output).__name__}. Pass StiffnessCallback(loss_fn=...), or define the loss on the "
            f"module:\n\n{SNIPPET}"
        )


def _transformed() -> bool:
    """Whether a function transform of torch is at work, which may be what fails."""
    return torch._C._functorch.maybe_current_level() is not None


def _form(batch: Batch) -> str:
    """How a batch is built, in words: what it is, and how many entries or which keys it has."""
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with {', '.join(map(str, batch))}"
    if isinstance(batch, list | tuple):
        return f"{len(batch)} entries"
    return f"a {type(batch).__name__}"
