"""Tensors outside of the module, such as those of a network in a global variable: what a loss writes is undone."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_UNDECLARED = frozenset({"running_mean", "running_var"})
"""Arguments that batch norm writes to without saying so."""


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Copies what tensors hold when an operation is about to write to them, and not before: most are read only.

    Args:
        tensors: tensors of any place and size.

    Example:
        >>> teacher = torch.ones(2)
        >>> writes = Writes([teacher])
        >>> with writes:
        ...     _ = teacher[0].mul_(3)
        >>> writes.put_back()
        >>> teacher.tolist()
        [1.0, 1.0]
    """

    supports_higher_order_operators = True  # flex_attention, torch.cond and their like

    def __init__(self, tensors: Iterable[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: dict[int, Any] = {}
        self._saved: dict[int, tuple[Any, Any]] = {}
        self._leaves: dict[int, tuple[Tensor, Tensor, Tensor | None, bool]] = {}
        for tensor in tensors:
            self.know(tensor)

    @property
    def seen(self) -> bool:
        """Whether anything was written to."""
        return bool(self._saved)

    def know(self, tensor: Any) -> None:
        """Watch a further tensor."""
        if type(tensor) not in (Tensor, nn.Parameter) or id(tensor) in self._leaves:
            return
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_inference() or not tensor.is_leaf:
            return
        grad = tensor.grad
        # The old data under a name of its own: nothing is copied
        self._leaves[id(tensor)] = tensor, tensor.data, grad, tensor.requires_grad
        for held in (tensor, grad):
            if held is not None and held.layout == torch.strided:
                storage = held.untyped_storage()
                self.known[storage.data_ptr()] = storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; what it writes to is saved first."""
        kwargs = kwargs or {}
        for place, name in _written(func):
            self._save(args[place] if place < len(args) else kwargs.get(name))
        return func(*args, **kwargs)

    def _save(self, written: Any) -> None:
        for tensor in written if isinstance(written, list | tuple) else (written,):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                place = storage.data_ptr()
                if place and place in self.known and place not in self._saved:
                    self._saved[place] = self.known[place], storage.clone()  # type: ignore[no-untyped-call]

    def put_back(self) -> None:
        """All of them hold what they held, are as trainable as they were and have the gradients that they had."""
        for storage, before in self._saved.values():
            storage.copy_(before)
        for tensor, data, grad, trainable in self._leaves.values():
            if tensor.data_ptr() != data.data_ptr():
                tensor.data = data
            if tensor.requires_grad != trainable:
                tensor.requires_grad_(trainable)
            if tensor.grad is not grad:
                tensor.grad = grad


@functools.cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Places and names of the arguments that an operation writes to."""
    schema = getattr(func, "_schema", None)  # operators of a higher order have none, and write to nothing
    arguments = enumerate(() if schema is None else schema.arguments)
    return [(place, one.name) for place, one in arguments if _is_written(one) or one.name in _UNDECLARED]


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
