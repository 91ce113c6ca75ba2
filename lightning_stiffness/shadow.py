"""A detached copy of a LightningModule to measure on, and the loss it is measured by."""

import copy
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric, MetricCollection

from lightning_stiffness.compat import classes
from lightning_stiffness.guard import TRAINABLE
from lightning_stiffness.hush import HUSH, Hush
from lightning_stiffness.rebind import Rebinding
from lightning_stiffness.refusal import NotCopyable, culprit
from lightning_stiffness.trainer_view import TrainerView

_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")


def make_shadow(module: nn.Module, trainer: Any) -> nn.Module:
    """A copy of a LightningModule that can be run without touching the training.

    Parameters and buffers are copied, in float32 at least. It is in evaluation mode. ``log`` and ``log_dict`` do
    nothing, the trainer is a read-only view, metrics that have no gradient are silent, compiled parts run
    uncompiled.

    Args:
        module: the module in training.
        trainer: its trainer.

    Returns:
        The copy, of the module's own type, on the module's device.

    Raises:
        NotCopyable: if an attribute of the module cannot be copied, or a copy of it would be shared with the
            module; the message names it.
    """
    view = TrainerView(trainer)
    with torch.inference_mode(False), torch.no_grad():
        copied, others, live = _copy(module, trainer, view)
        shadow = _uncompiled(copied)
        view.bind(module, shadow)
        hush = Hush()
        shadow.__dict__[HUSH] = hush
        for part in {*shadow.modules(), *others}:
            _silence(part, view, hush)
            _raise_precision(part, live)
        for part in shadow.modules():
            part.training = False  # from now on: hooks that move the probe to its device look at it too
            if not isinstance(part, torch.jit.ScriptModule):  # which keeps its methods in C++
                part.__dict__["train"] = MethodType(_stays, part)
    return shadow


def _stays(part: nn.Module, mode: bool = True) -> nn.Module:
    """In place of ``train`` and ``eval``: whatever mode a step asks for, it is measured in evaluation mode."""
    return part


def _copy(module: nn.Module, trainer: Any, view: TrainerView) -> tuple[nn.Module, list[nn.Module], "_Live"]:
    """The copy, the modules copied on the way (those that no module holds as a submodule are among them), and
    what neither may be: the module in training."""
    shadow, memo, live = _attempt(module, trainer, view, [])
    stubborn = live.uncopied(module, shadow, memo)
    if stubborn:
        shadow, memo, live = _attempt(module, trainer, view, stubborn)
    for path, part in shadow.named_modules():
        shared = live.shared(part)
        if shared is not None:
            name = ".".join(step for step in (path, shared) if step)
            raise NotCopyable(
                f"{type(module).__name__} cannot be copied to measure on: its copy would share {name or 'itself'} "
                f"(of {type(part).__name__}) with the module in training. Give that class a __deepcopy__ method "
                "that copies, or keep what cannot be copied outside the module"
            )
    originals, twins = dict(module.named_parameters()), dict(shadow.named_parameters())
    if list(originals) != list(twins):
        other = ", ".join(sorted(originals.keys() ^ twins.keys())[:4]) or "they are in another order"
        raise NotCopyable(
            f"{type(module).__name__} cannot be copied to measure on: its copy has other parameters ({other}). See "
            "to it that __deepcopy__ methods copy all parameters"
        )
    told = TRAINABLE.get() or {}
    for name, parameter in originals.items():
        if not is_lazy(parameter):  # those have no flag to set, and are refused by name further on
            # which a scripted module's copy forgets
            twins[name].requires_grad_(told.get(name, parameter.requires_grad))
    copied = [part for part in memo.values() if isinstance(part, nn.Module) and id(part) not in live.modules]
    return shadow, copied, live


def _attempt(
    module: nn.Module, trainer: Any, view: TrainerView, stubborn: list[nn.Module]
) -> tuple[nn.Module, dict[int, Any], "_Live"]:
    """A copy, what was copied for it, and what it may not share; ``stubborn`` parts are copied in spite of them."""
    memo: dict[int, Any] = {id(trainer): view, id(_unproxied(trainer)): view}
    heavy = (Dataset, DataLoader, *classes("LightningDataModule"), *classes("loggers.Logger"))
    for owner in module.modules():
        for parameter in owner._parameters.values():
            # The default copy would take .grad along
            if type(parameter) is nn.Parameter and id(parameter) not in memo and not parameter.is_meta:
                memo[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for value in owner.__dict__.values():
            if isinstance(value, heavy):
                memo[id(value)] = value  # read by the copy, not copied
    functions = Rebinding(module, memo, heavy)
    live = _Live(module, functions.met)
    before = dict(memo)  # a copy that fails leaves things half made in the memo
    for part in stubborn:
        _enforce(part, memo, live)
    try:
        shadow = copy.deepcopy(module, memo)
        functions.finish()
    except Exception as error:
        raise NotCopyable(
            f"{type(module).__name__} cannot be copied to measure on: {culprit(module, before, error)}. Give the "
            "attribute's class a __deepcopy__ method, or keep the attribute outside the module"
        ) from error
    return shadow, memo, live


def _enforce(part: nn.Module, memo: dict[int, Any], live: "_Live") -> None:
    """Enter a copy of a part in the memo, by the part's own way if that copies, else as nn.Module would."""
    for way in (copy.deepcopy, _by_default):
        trial = dict(memo)
        try:
            twin = way(part, trial)
        except Exception:
            continue  # if neither way leads to one, the copy of the whole is refused by name
        if not live.shares(twin):
            memo.update(trial)
            memo[id(part)] = twin
            return


def _by_default(part: nn.Module, memo: dict[int, Any]) -> nn.Module:
    twin: nn.Module = object.__new__(type(part))
    memo[id(part)] = twin
    twin.__dict__.update(copy.deepcopy(part.__dict__, memo))
    return twin


class _Live:
    """Modules and tensors of the module in training, wherever it holds them: no copy may be one of them."""

    def __init__(self, module: nn.Module, met: list[Any]) -> None:
        self.found = list(
            {id(part): part for part in (*module.modules(), *met) if isinstance(part, nn.Module)}.values()
        )
        self.modules = {id(part) for part in self.found}
        # Held: a scripted module makes its tensors anew whenever it is asked, and ids are given again.
        self.held = [tensor for part in self.found for _, tensor in _tensors(part)]
        self.tensors = {id(value) for value in (*self.held, *met) if isinstance(value, Tensor)}
        self.storages = {_storage(tensor) for tensor in self.held} - {0}

    def shared(self, part: nn.Module) -> str | None:
        """The parameter or buffer of a part that is the module's own; "" for all of the part, None for nothing."""
        if id(part) in self.modules:
            return ""
        for name, tensor in _tensors(part):
            if id(tensor) in self.tensors or _storage(tensor) in self.storages:
                return name
        return None

    def shares(self, twin: Any) -> bool:
        """Whether a copy is, or has, something of the module in training."""
        return isinstance(twin, nn.Module) and any(self.shared(part) is not None for part in twin.modules())

    def uncopied(self, module: nn.Module, shadow: nn.Module, memo: dict[int, Any]) -> list[nn.Module]:
        """Parts whose classes do not make a copy of their own, those within others first."""
        places = dict(shadow.named_modules())
        twins = {id(part): places.get(path) for path, part in module.named_modules()}
        found = []
        for part in self.found:
            twin = memo.get(id(part), twins.get(id(part)))
            if twin is None and hasattr(part, "__deepcopy__"):  # kept in a list, say, it may be its own copy
                twin = part
            if self.shares(twin):
                found.append(part)
        return sorted(found, key=lambda part: sum(1 for _ in part.modules()))


def _tensors(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for holder in (part._parameters, part._buffers):
        for name, tensor in holder.items():
            if tensor is not None:
                yield name, tensor


def _storage(tensor: Tensor) -> int:
    """Where the values are; 0 if nowhere, or in several places."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return tensor.untyped_storage().data_ptr() if plain and not tensor.is_nested and not tensor.is_meta else 0


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


def _raise_precision(part: nn.Module, live: _Live) -> None:
    """Half-precision parameters and buffers become float32, but for those of the module in training."""
    low = (torch.float16, torch.bfloat16)
    for _, tensor in _tensors(part):
        if not is_lazy(tensor) and tensor.dtype in low and id(tensor) not in live.tensors:
            tensor.data = tensor.data.float()
