"""Calls that change what they are given."""

from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.uses import Function


@lru_cache(maxsize=1024)
def inplace(func: Any) -> bool:
    """Whether a torch function changes its first argument."""
    name = getattr(func, "__name__", "")
    if name in _NOT_INPLACE:
        return False
    if name.startswith("__"):
        return name.startswith("__i") or name == "__setitem__"
    return name.endswith("_")


_NOT_INPLACE = frozenset({"__iter__", "__index__", "__invert__", "__int__", "requires_grad_"})


def rewritten(changed: Any, sources: list[Node]) -> list[Node]:
    """Nodes behind a tensor changed in place, where autograd has written the graph of what it is a view of anew."""
    node = changed.grad_fn if isinstance(changed, Tensor) else None
    behind = [following for following, _ in node.next_functions if following is not None] if node else []
    return [] if all(source in behind for source in sources) else behind


def out_of_place(func: Any) -> Function | None:
    """The function that returns what an in-place one writes."""
    name = getattr(func, "__name__", "")
    if name == "__setitem__" or not name:
        return None
    plain = f"__{name[3:]}" if name.startswith("__i") else name.removesuffix("_")
    return getattr(Tensor, plain, None)
