"""A loss that is watched: it must depend on the copy alone, and leave everything else as it was."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram import LossError, LossFn
from lightning_stiffness.gram.batch import Batch, batch_size, map_leaves
from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.hush import HUSH, Hush
from lightning_stiffness.reach import is_users
from lightning_stiffness.refusal import THROUGH_SELF, ReachesTraining, UnusableStep, check_leaves
from lightning_stiffness.surroundings import Surroundings, unwatched

_LOOKS = 3
"""Losses whose graph is searched: those of a batch and of single examples among them."""
_VALUES = (int, float, str, bool, type(None))

TRAINABLE: ContextVar[Mapping[str, bool] | None] = ContextVar("trainable", default=None)
"""Parameter → whether it is trainable, where the loss has been seen to set that; None where the module says it."""


class SetsTrainable(LossError):
    """The loss freezes or thaws parameters, so that others are to be measured than those chosen before it.

    Args:
        trainable: parameter → whether the loss leaves it trainable.
    """

    def __init__(self, trainable: Mapping[str, bool]) -> None:
        super().__init__("the loss sets which parameters are trainable")
        self.trainable = trainable


@contextmanager
def trainable(flags: Mapping[str, bool]) -> Iterator[None]:
    """Copies made inside have these parameters trainable, whatever the module in training says."""
    token = TRAINABLE.set(flags)
    try:
        yield
    finally:
        TRAINABLE.reset(token)


@contextmanager
def guarded(loss_fn: LossFn, module: nn.Module, shadow: nn.Module, precision: Any = None) -> Iterator[LossFn]:
    """The loss function for one measurement, watched.

    Afterwards the module in training, the attributes of its classes and the global variables beside them are
    what they were, whatever the loss did to them.

    Args:
        loss_fn: ``loss_fn(module, batch)``.
        module: the module in training.
        shadow: the copy of it that is measured on.
        precision: ``trainer.precision``; the default dtype follows it where it is double.

    Yields:
        A function with the same values.

    Raises:
        ReachesTraining: if the loss depends on parameters of the module in training, or has changed them.
        SetsTrainable: if the first loss leaves other parameters trainable than it met.
        UnusableStep: if ``training_step`` returned None for every example.
    """
    live = {id(p): name for name, p in module.named_parameters()}
    own = {id(p) for p in shadow.parameters()}
    looked, hush = 0, shadow.__dict__.get(HUSH, Hush())
    parameters = _Parameters(module, shadow)
    view, flags = shadow.__dict__.get("_trainer"), _flags(shadow)

    def met(given: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch that meets everything as it was."""
        with unwatched():
            parameters.put_back()
            alone = is_single(batch)
            if view is not None:
                view.renew()
        try:
            with around.loss(alone=alone):
                return loss_fn(given, _own(batch))
        except (NotImplementedError, UnusableStep) as error:  # the second quotes what torch 2.4 says
            if not around.in_the_way(error):
                raise
        return met(given, batch)

    def watched(given: nn.Module, batch: Batch) -> Tensor:
        nonlocal looked
        loss = met(given, batch)
        if not isinstance(loss, Tensor) or torch._C._functorch.is_functorch_wrapped_tensor(loss):
            return loss
        with unwatched():
            again = hush.heard(loss)
        if again:
            loss = met(given, batch)
        if looked < _LOOKS:
            looked += 1
            with unwatched():
                if looked == 1 and TRAINABLE.get() is None and _flags(shadow) != flags:
                    raise SetsTrainable(_flags(shadow))
                check_leaves(loss, live, own, type(module).__name__)
        return loss

    with ExitStack() as stack:
        stack.enter_context(kept_state(module))
        data = getattr(getattr(module, "_trainer", None), "datamodule", None)  # a step may write to it
        own_code = [loss_fn] if is_users(getattr(loss_fn, "__module__", None)) else []
        around = stack.enter_context(Surroundings(*module.modules(), *shadow.modules(), data, *own_code).kept())
        stack.enter_context(_no_autocast())
        if str(precision) == "64-true":
            stack.enter_context(_default_dtype(torch.float64))
        if view is not None:
            view.keep(around.know)
        watched.keeps_parameters = True  # type: ignore[attr-defined] # so that engines need not
        try:
            yield watched
        except Exception:
            parameters.put_back()
            _check_answered(loss_fn)  # if there was no loss at all, that is the cause to name
            raise
        except BaseException:  # Ctrl-C, which needs no word of what the loss did
            parameters.mended()
            raise
        parameters.put_back()
    _check_answered(loss_fn)


def _flags(module: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def _check_answered(loss_fn: LossFn) -> None:
    check: Callable[[], None] | None = getattr(loss_fn, "check_answered", None)
    if check is not None:
        check()


def is_single(batch: Batch) -> bool:
    """Whether a batch is one example."""
    try:
        return batch_size(batch) == 1
    except ValueError:  # such as a graph, of which there is one in a batch
        return True


def _own(batch: Batch) -> Batch:
    """A copy for one loss: a step may change its batch in place, and the probe is to stay."""

    def copied(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.clone()
        if isinstance(leaf, (*_VALUES, bytes)):
            return leaf
        try:
            return copy.deepcopy(leaf)
        except Exception:  # such as an open file in it: what is on its surface is copied
            return copy.copy(leaf)

    return map_leaves(copied, batch)


class _Parameters:
    """The parameters of the module in training and of its copy: both stay what they are.

    A training step may change some, such as a teacher's that follows the student. Each loss is computed with those
    of the module in training; should it change these, they are put back from the copy.
    """

    def __init__(self, module: nn.Module, shadow: nn.Module) -> None:
        twins = zip(module.named_parameters(), shadow.parameters(), strict=True)
        self.found = [(n, p, twin) for (n, p), twin in twins if not is_lazy(p) and not p.is_inference()]
        self.versions = [(p._version, twin._version) for _, p, twin in self.found]
        self.owner = type(module).__name__
        self.looks = _LOOKS

    def put_back(self) -> None:
        """Make all parameters what they are to be.

        Raises:
            ReachesTraining: if some of the module in training had been changed.
        """
        changed = self.mended()
        if changed:
            raise ReachesTraining(
                f"the loss of {self.owner}, computed on a copy, changed parameters of the module in training: "
                f"{', '.join(changed[:4])}; they have been put back. {THROUGH_SELF}"
            )

    @torch.no_grad()
    def mended(self) -> list[str]:
        """Make all parameters what they are to be; names of those that were changed in the module in training."""
        changed = []
        for i, (name, parameter, twin) in enumerate(self.found):
            version, own = self.versions[i]
            if parameter._version != version:
                parameter.copy_(twin)
                changed.append(name)
            elif twin._version != own or self.looks > 0:
                # Changes through .data are seen in the values alone, which would take long to compare each time.
                before = parameter.to(twin.dtype)
                if not torch.equal(twin, before):
                    twin.copy_(before)
                    self.looks = _LOOKS + 1  # this step does: look again before every loss
            self.versions[i] = parameter._version, twin._version
        self.looks -= 1
        return changed


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that the loss makes are of the precision it is measured in."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _no_autocast() -> Iterator[None]:
    """An autocast that the loss enters by itself has no effect."""
    original = torch.autocast.__enter__

    def enter(self: Any) -> Any:
        enabled, self._enabled = self._enabled, False
        try:
            return original(self)
        finally:
            self._enabled = enabled

    torch.autocast.__enter__ = enter  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = original  # type: ignore[method-assign]
