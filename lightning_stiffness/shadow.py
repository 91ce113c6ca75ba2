"""A detached copy of a LightningModule to measure on, and the loss it is measured by."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric, MetricCollection

from lightning_stiffness.compat import classes
from lightning_stiffness.hush import HUSH, Hush
from lightning_stiffness.rebind import Rebinding
from lightning_stiffness.refusal import NotCopyable
from lightning_stiffness.trainer_view import TrainerView

_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")


def make_shadow(module: nn.Module, trainer: Any) -> nn.Module:
    """A copy of a LightningModule that can be run without touching the training.

    Parameters and buffers are copied, in float32 at least. ``log`` and ``log_dict`` do nothing, the trainer is
    a read-only view, metrics that have no gradient are silent, compiled parts run uncompiled.

    Args:
        module: the module in training.
        trainer: its trainer.

    Returns:
        The copy, of the module's own type, on the module's device.

    Raises:
        NotCopyable: if an attribute of the module cannot be copied; the message names it.
    """
    view = TrainerView(trainer)
    with torch.inference_mode(False), torch.no_grad():
        copied, others = _copy(module, trainer, view)
        shadow = _uncompiled(copied)
        view.lightning_module = shadow
        hush = Hush()
        shadow.__dict__[HUSH] = hush
        for part in {*shadow.modules(), *others}:
            _silence(part, view, hush)
            _raise_precision(part)
    return shadow


def _copy(module: nn.Module, trainer: Any, view: TrainerView) -> tuple[nn.Module, list[nn.Module]]:
    """The copy, and every module copied on the way: those that no module holds as a submodule are among them."""
    memo: dict[int, Any] = {id(trainer): view, id(_unproxied(trainer)): view}
    heavy = (Dataset, DataLoader, *classes("LightningDataModule"), *classes("loggers.Logger"))
    for owner in module.modules():
        for parameter in owner._parameters.values():
            # The default copy would take .grad along
            if type(parameter) is nn.Parameter and id(parameter) not in memo and not parameter.is_meta:
                memo[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for value in owner.__dict__.values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()  # such as the weight of the older weight_norm
            elif isinstance(value, heavy):
                memo[id(value)] = value  # read by the copy, not copied
    functions = Rebinding(module, memo, heavy)
    try:
        shadow = copy.deepcopy(module, memo)
        functions.finish()
    except Exception as error:
        raise NotCopyable(
            f"{type(module).__name__} cannot be copied to measure on: {_culprit(module, memo)} "
            f"({type(error).__name__}: {error}). Give the attribute's class a __deepcopy__ method, or keep the "
            "attribute outside the module"
        ) from error
    for parameter, twin in zip(module.parameters(), shadow.parameters(), strict=True):
        twin.requires_grad_(parameter.requires_grad)  # which a scripted module's copy forgets
    return shadow, [part for part in memo.values() if isinstance(part, nn.Module)]


def _culprit(module: nn.Module, memo: dict[int, Any]) -> str:
    """The attribute that stands in the way of a copy, by name."""
    for path, owner in module.named_modules():
        for name, value in owner.__dict__.items():
            if name.startswith("_") or isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception as error:
                return f"attribute {path + '.' if path else ''}{name} of type {type(value).__name__} ({error})"
    return "one of its parts"


def _unproxied(trainer: Any) -> Any:
    # Modules hold their trainer as a weak proxy; the object behind it answers to __repr__ only.
    return getattr(getattr(trainer, "__repr__", None), "__self__", trainer)


def _uncompiled(shadow: nn.Module) -> nn.Module:
    """The copy with every compiled part replaced by what was compiled: copies of compiled functions would
    still run the original module."""
    shadow = getattr(shadow, "_orig_mod", shadow)
    for part in list(shadow.modules()):
        part.__dict__.pop("_compiled_call_impl", None)
        for name, child in part._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                part._modules[name] = _Uncompiled(child._modules["_orig_mod"])
        if part.__dict__.get("_compiler_ctx") is not None:  # torch.compile on a whole LightningModule
            part.__dict__["_compiler_ctx"] = None
            for name in _STEPS:
                part.__dict__.pop(name, None)
    return shadow


class _Uncompiled(nn.Module):
    """What ``torch.compile`` made of a module, without the compiler: the same names, and all that it hands on."""

    def __init__(self, original: nn.Module | None) -> None:
        super().__init__()
        self._orig_mod = original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules["_orig_mod"](*args, **kwargs)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":
            return self._modules[name]
        return getattr(self._modules["_orig_mod"], name)

    def __getitem__(self, index: Any) -> Any:
        return self._modules["_orig_mod"][index]  # type: ignore[index]

    def __len__(self) -> int:
        return len(self._modules["_orig_mod"])  # type: ignore[arg-type]

    def __iter__(self) -> Any:
        return iter(self._modules["_orig_mod"])  # type: ignore[call-overload]


def _silence(part: nn.Module, view: TrainerView, hush: Hush) -> None:
    """Whatever would reach out of the copy does nothing."""
    if isinstance(part, classes("LightningModule")):
        part._trainer = view
        for name in ("log", "log_dict"):
            part.__dict__[name] = _nothing
        part.__dict__["all_gather"] = lambda data, *_, **__: data
        part.__dict__["print"] = _nothing
        part.__dict__["optimizers"] = lambda *_, **__: _one_or_all(view.optimizers)
        part.__dict__["lr_schedulers"] = lambda: _one_or_all(view.schedulers) or None
    elif isinstance(part, MetricCollection):
        names = [str(name) for name in part.keys(keep_base=True)]
        hush.over(part, lambda: {name: torch.tensor(float("nan")) for name in names})
    elif isinstance(part, Metric):
        part.sync_on_compute = part.dist_sync_on_step = False
        hush.over(part, lambda: torch.tensor(float("nan")))


def _one_or_all(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else found


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _raise_precision(part: nn.Module) -> None:
    """Half-precision parameters and buffers become float32."""
    low = (torch.float16, torch.bfloat16)
    for holder in (part._parameters, part._buffers):
        for tensor in holder.values():
            if tensor is not None and tensor.dtype in low:
                tensor.data = tensor.data.float()
