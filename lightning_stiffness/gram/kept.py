"""A module that is the same after each loss, whatever its forward pass does to it and to its parameters."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.held import Held
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.uses import tensors_in

_SCALING = frozenset({F.embedding, F.embedding_bag})
"""Functions that scale the rows they look up down to a largest norm, if told one."""
_GIVING: list[Any] = [Tensor.numpy, Tensor.__array__]
_TO_NUMPY = frozenset(_GIVING)
"""Functions that give NumPy the memory of a tensor."""


class KeptModule:
    """Keeps a module against what its own forward pass does to it.

    Put back is what it holds beside its parameters (:class:`~lightning_stiffness.gram.held.Held`); parameters and
    submodules that were replaced (``self.layer = self.layer.to(dtype)``), the data of a parameter that was
    exchanged (``weight.data = ...``), and the values of those that calls write to: a teacher that follows the
    student, weights scaled to a norm, embeddings with ``max_norm``. Their values are copied when a call is about to
    write to them, and not before: few modules do.

    And of a batch that losses turn out to write to they are given copies from then on.

    Args:
        parts: a module and its submodules, as they are to be.
        further: objects that are kept with it, such as the loss function.
        batches: the tensors of the batches that losses are given.

    Attributes:
        writes_to_batch: whether a loss has been seen to.

    Example:
        >>> net = nn.Embedding(3, 2, max_norm=0.1)
        >>> before = net.weight.detach().clone()
        >>> kept = KeptModule(net.modules())
        >>> _ = net(torch.tensor([1]))
        >>> kept.put_back()
        >>> torch.equal(net.weight, before)
        True
    """

    def __init__(
        self, parts: Iterable[nn.Module], further: Iterable[Any] = (), batches: Iterable[Tensor] = ()
    ) -> None:
        self.writes_to_batch = False
        self._batches = [*batches]
        self._held = Held(parts, further)
        owners = [owner for owner in self._held.owners if not isinstance(owner, torch.jit.ScriptModule)]
        registries: list[dict[str, Any]] = [r for owner in owners for r in (owner._parameters, owner._modules)]
        self._registries = [(one, one.copy(), [*map(id, one.values())]) for one in registries]
        parameters = {id(p): p for owner in owners for p in owner._parameters.values() if p is not None}
        parameters.update((id(p), p) for p in self._held.parameters)
        present = [p for p in parameters.values() if not is_lazy(p)]
        # The old data under a name of its own: nothing is copied
        self._data = [
            (t, t.data, t.data_ptr(), t.dtype, t.grad, t.requires_grad) for t in (*present, *self._held.large)
        ]
        self._versions = [(p, p._version) for p in present if not p.is_inference()]
        self._saved: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for owner in owners:
            if isinstance(owner, nn.Embedding | nn.EmbeddingBag) and owner.max_norm is not None:
                self._save(owner.weight)

    @cached_property
    def _places(self) -> dict[int, list[Tensor]]:
        """Where values lie → the tensors that have them there. Most modules write to none, and never ask."""
        found: dict[int, list[Tensor]] = {}
        for tensor, data in (*((t, data) for t, data, *_ in self._data), *((t, t) for t in self._batches)):
            place = _place(data)
            if place:
                found.setdefault(place, []).append(tensor)
        return found

    @cached_property
    def _of_batches(self) -> set[int]:
        return {_place(tensor) for tensor in self._batches}

    def about_to_call(self, func: Any, args: Any, kwargs: Any) -> None:
        """Copy what a call is about to write to, if it is one of those that are kept."""
        if func in _SCALING:
            largest = args[3] if len(args) > 3 else kwargs.get("max_norm")
            written = [] if largest is None else tensors_in((args[1:2], kwargs))
        elif func in _TO_NUMPY:  # a batch is given to it to be read
            written = [one for one in tensors_in(args[:1]) if _place(one) not in self._of_batches]
        else:
            writes = inplace(func) or (kwargs and ("out" in kwargs or kwargs.get("inplace") is True))
            written = tensors_in((args[:1], kwargs)) if writes else []
        for tensor in written:
            self._save(tensor)

    def watched(self) -> AbstractContextManager[Any]:
        """Inside, what calls are about to write to is copied."""
        return _Watch(self)

    def _save(self, tensor: Tensor) -> None:
        place = _place(tensor)
        if place in self._places and place not in self._saved:
            self._saved[place] = [(one, one.detach().clone()) for one in self._places[place]]
            self.writes_to_batch |= place in self._of_batches

    def put_back(self) -> None:
        """The module is what it was; nothing is written to that is so already."""
        self._held.put_back()
        for registry, before, ids in self._registries:
            if [*map(id, registry.values())] != ids:
                registry.clear()
                registry.update(before)
        for tensor, old, place, dtype, grad, trainable in self._data:
            if tensor.data_ptr() != place or tensor.dtype != dtype:
                tensor.data = old
            if tensor.grad is not grad:
                tensor.grad = grad
            if tensor.requires_grad != trainable:
                tensor.requires_grad_(trainable)
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
    def __init__(self, kept: KeptModule) -> None:
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
