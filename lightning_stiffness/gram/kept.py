"""Parameters that a forward pass replaces or writes to: after each loss they are what they were."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.uses import tensors_in

_SCALING = frozenset({F.embedding, F.embedding_bag})
"""Functions that scale the rows they look up down to a largest norm, if told one."""


class KeptParameters:
    """Keeps parameters against what the forward pass of their own module does to them.

    Put back are parameters and submodules that were replaced (``self.layer = self.layer.to(dtype)``), the data of
    a parameter that was exchanged (``weight.data = ...``), and the values of those that calls write to: a teacher
    that follows the student, weights scaled to a norm, embeddings with ``max_norm``. Their values are copied when
    a call is about to write to them, and not before: few modules do.

    Args:
        modules: whose parameters; without what is in them, unless that is among them.
        further: tensors that are no parameters, against calls that write to them.

    Example:
        >>> net = nn.Embedding(3, 2, max_norm=0.1)
        >>> before = net.weight.detach().clone()
        >>> kept = KeptParameters([net])
        >>> _ = net(torch.tensor([1]))
        >>> kept.put_back()
        >>> torch.equal(net.weight, before)
        True
    """

    def __init__(self, modules: Iterable[nn.Module], further: Iterable[Tensor] = ()) -> None:
        owners = [owner for owner in modules if not isinstance(owner, torch.jit.ScriptModule)]
        self._owners = [(owner, owner._parameters.copy(), owner._modules.copy()) for owner in owners]
        parameters = {id(p): p for owner in owners for p in owner._parameters.values() if p is not None}
        present = [p for p in parameters.values() if not is_lazy(p)]
        # The old data under a name of its own: nothing is copied
        self._data: list[tuple[Tensor, Tensor, Tensor | None]] = [(p, p.data, p.grad) for p in present]
        self._versions = [(p, p._version) for p in present if not p.is_inference()]
        self._places: dict[int, list[Tensor]] = {}
        for tensor in (*present, *further):
            place = _place(tensor)
            if place:
                self._places.setdefault(place, []).append(tensor)
        self._saved: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for owner in owners:
            if isinstance(owner, nn.Embedding | nn.EmbeddingBag) and owner.max_norm is not None:
                self._save(owner.weight)

    def about_to_call(self, func: Any, args: Any, kwargs: Any) -> None:
        """Copy what a call is about to write to, if it is one of those that are kept."""
        if inplace(func) or "out" in kwargs or func in _SCALING:
            for tensor in tensors_in((args[1:2] if func in _SCALING else args[:1], kwargs)):
                self._save(tensor)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, what calls are about to write to is copied."""
        with _Watch(self):
            yield

    def _save(self, tensor: Tensor) -> None:
        place = _place(tensor)
        if place in self._places and place not in self._saved:
            self._saved[place] = [(one, one.detach().clone()) for one in self._places[place]]

    def put_back(self) -> None:
        """All of them are what they were; nothing is written to that is so already."""
        for owner, parameters, modules in self._owners:
            for present, before in ((owner._parameters, parameters), (owner._modules, modules)):
                if any(present.get(name) is not value for name, value in before.items()):
                    present.update(before)  # type: ignore[arg-type]
        for parameter, old, grad in self._data:
            if parameter.data_ptr() != old.data_ptr() or parameter.dtype != old.dtype:
                parameter.data = old
            if parameter.grad is not grad:
                parameter.grad = grad
        for saved in self._saved.values():
            for tensor, values in saved:
                if not torch.equal(tensor, values):
                    with torch.no_grad():
                        tensor.detach().copy_(values)

    def unseen(self) -> Tensor | None:
        """A parameter that was written to in a way that is not seen, if there is one: to be asked before
        :meth:`put_back`, which can't help it."""
        for i, (parameter, version) in enumerate(self._versions):
            if parameter._version != version:
                self._versions[i] = parameter, parameter._version
                # the values of data that were exchanged lie where they lay
                if _place(parameter) in self._places and _place(parameter) not in self._saved:
                    return parameter
        return None


class _Watch(TorchFunctionMode):
    def __init__(self, kept: KeptParameters) -> None:
        super().__init__()
        self.kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.kept.about_to_call(func, args, kwargs)
        return func(*args, **kwargs)


def _place(tensor: Tensor) -> int:
    """Where a tensor's values are; 0 where there is no one place, or nothing may write to it."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.is_meta or tensor.is_inference():
        return 0
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # as within vmap
        return 0
