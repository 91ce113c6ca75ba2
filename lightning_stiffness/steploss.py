"""The loss that stiffness is measured by, and what ``training_step`` returns made into one."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.compat import misconfiguration
from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch, batch_size
from lightning_stiffness.refusal import Refusal, UnusableStep

SNIPPET = """\
    class YourModule(LightningModule):
        def stiffness_loss(self, batch):
            x, y = batch
            return torch.nn.functional.cross_entropy(self(x), y, reduction="none")  # losses [n], or their mean
"""


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
        if output is None and _is_single(batch):
            parameter = next(shadow.parameters())
            return torch.zeros((), dtype=parameter.dtype, device=parameter.device)
        raise self._unusable(output)

    def _step(self, shadow: nn.Module, *arguments: Any) -> Any:
        try:
            return shadow.training_step(*arguments)  # type: ignore[operator]
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            if isinstance(error, Refusal) or self._answered:
                raise
            raise UnusableStep(
                f"{self.name}.training_step fails on a copy of the module in evaluation mode "
                f"({type(error).__name__}: {error}). Networks that return something else in training mode, such as "
                "auxiliary outputs or losses, need to be told: pass StiffnessCallback(loss_fn=...), or define the "
                f"loss on the module:\n\n{SNIPPET}"
            ) from error

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


def _is_single(batch: Batch) -> bool:
    try:
        return batch_size(batch) == 1
    except ValueError:  # such as a graph, of which there is one in a batch
        return True
