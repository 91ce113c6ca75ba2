"""A loss that is watched: it must depend on the copy alone, and leave everything else as it was."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_stiffness.gram import LossFn
from lightning_stiffness.gram.batch import Batch, map_leaves
from lightning_stiffness.gram.loop import nodes_behind
from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.hush import HUSH, Hush
from lightning_stiffness.refusal import ReachesTraining
from lightning_stiffness.surroundings import kept_surroundings

_LOOKS = 3
"""Losses whose graph is searched: those of a batch and of single examples among them."""
_VALUES = (int, float, str, bool, type(None))
_SNIPPET = (
    "Refer to the parameter as an attribute of self in training_step, or pass StiffnessCallback(loss_fn=...) "
    "with a function of the module that it is given"
)


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
        UnusableStep: if ``training_step`` returned None for every example.
    """
    live = {id(p): name for name, p in module.named_parameters()}
    own = {id(p) for p in shadow.parameters()}
    looked, hush = 0, shadow.__dict__.get(HUSH, Hush())
    parameters = _Parameters(module, shadow)

    def watched(given: nn.Module, batch: Batch) -> Tensor:
        nonlocal looked
        with _unwatched():
            parameters.put_back()
        loss = loss_fn(given, _own(batch))
        if not isinstance(loss, Tensor) or torch._C._functorch.is_functorch_wrapped_tensor(loss):
            return loss
        with _unwatched():
            again = hush.heard(loss)
        if again:
            loss = loss_fn(given, _own(batch))
        if looked < _LOOKS:
            looked += 1
            with _unwatched():
                _check_leaves(loss, live, own, type(module).__name__)
        return loss

    with ExitStack() as stack:
        stack.enter_context(kept_state(module))
        stack.enter_context(kept_surroundings(*module.modules(), _data_module(module)))
        stack.enter_context(_no_autocast())
        if str(precision) == "64-true":
            stack.enter_context(_default_dtype(torch.float64))
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


def _data_module(module: nn.Module) -> Any:
    """What a step may reach through its trainer, and write to."""
    return getattr(getattr(module, "_trainer", None), "datamodule", None)


def _check_answered(loss_fn: LossFn) -> None:
    check: Callable[[], None] | None = getattr(loss_fn, "check_answered", None)
    if check is not None:
        check()


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


def _unwatched() -> Any:
    """Engines see every torch call that takes a parameter; those made here are none of the loss's."""
    return torch._C.DisableTorchFunction()  # modes as well as subclasses


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
                f"{', '.join(changed[:4])}; they have been put back. {_SNIPPET}"
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


def _check_leaves(loss: Tensor, live: dict[int, str], own: set[int], owner: str) -> None:
    """Every parameter that a loss depends on is one of the copy's."""
    for node in nodes_behind(loss):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            name = live.get(id(leaf))
            if name is not None:
                raise ReachesTraining(
                    f"the loss of {owner} depends on {name!r} of the module in training by a way that a copy of "
                    "it does not follow (a global variable, or an object that is not copied), so its gradient "
                    f"cannot be measured. {_SNIPPET}"
                )
            raise ReachesTraining(
                f"the loss of {owner} depends on a parameter {list(leaf.shape)} that is not among its "
                "named_parameters(), so its gradient would be left out. Register it on the module (as an "
                "attribute, in nn.ParameterList or nn.ModuleList), or detach it"
            )


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
