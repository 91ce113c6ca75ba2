"""Batches of any structure: how many examples they hold, and taking some of them out."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""What a collate function returns: tensors, and tuples, lists, mappings or dataclasses of such."""

SHOWN = 4
"""Tensors of other lengths that an error names."""


def batch_size(batch: Batch) -> int:
    """Number of examples in a batch: the length shared by the first axes of its tensors.

    Tensors without axes, or of length 1 where others are longer, belong to all examples.

    Args:
        batch: what a collate function returns.

    Returns:
        The number of examples ``n``.

    Raises:
        ValueError: if the batch holds no tensor, or tensors of different lengths; the message names them.

    Example:
        >>> batch_size({"x": torch.zeros(4, 3), "scale": torch.tensor(2.0)})
        4
    """
    lengths = {path: len(leaf) for path, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim}
    if not lengths:
        raise ValueError(
            f"expected a batch with at least one tensor [n, …], got {type(batch).__name__} without any: "
            "pass tensors, or tuples, lists, mappings or dataclasses of tensors"
        )
    size = max(lengths.values(), key=lambda n: (n != 1, list(lengths.values()).count(n)))
    wrong = {path: n for path, n in lengths.items() if n not in (size, 1)}
    if wrong:
        told = ", ".join(f"batch{path}: {n}" for path, n in [*wrong.items()][:SHOWN])
        told += f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ValueError(
            f"expected every tensor of the batch to hold {size} examples along its first axis, got {told}. "
            "What all examples share belongs on the module, or in a tensor of length 1"
        )
    return size


def take(batch: Batch, index: slice, size: int) -> Batch:
    """The examples ``index`` of a batch of ``size``, in the batch's own structure.

    Args:
        batch: what a collate function returns.
        index: which examples.
        size: number of examples in ``batch``, from :func:`batch_size`.

    Returns:
        A batch of the same type, holding views of the tensors.

    Example:
        >>> x, names = take((torch.arange(4), ["a", "b", "c", "d"]), slice(1, 3), 4)
        >>> x.tolist(), names
        ([1, 2], ['b', 'c'])
    """
    return map_leaves(lambda leaf: leaf[index] if is_per_example(leaf, size) else leaf, batch)


def is_per_example(leaf: Any, size: int) -> bool:
    """Whether a leaf of a batch has one entry for each of its ``size`` examples."""
    if isinstance(leaf, Tensor):
        return leaf.ndim > 0 and len(leaf) == size
    return isinstance(leaf, list) and len(leaf) == size and _plain(leaf)


def map_leaves(function: Callable[[Any], Any], batch: Batch) -> Batch:
    """The batch with ``function`` applied to every leaf: tensors, lists of plain values, anything opaque."""

    def walk(node: Any) -> Any:
        if type(node) is Tensor or _is_leaf(node):
            return function(node)
        if type(node) is tuple:
            return tuple([walk(value) for value in node])
        if type(node) is dict:
            return {key: walk(value) for key, value in node.items()}
        if dataclasses.is_dataclass(node) and not isinstance(node, type):
            return dataclasses.replace(node, **{k: walk(v) for k, v in _fields(node)})
        if isinstance(node, Mapping):
            return _rebuild_mapping(node, {key: walk(value) for key, value in node.items()})
        if hasattr(node, "_fields"):  # a named tuple takes its fields one by one
            return type(node)(*(walk(value) for value in node))
        return type(node)(walk(value) for value in node)

    return walk(batch)


def leaves(batch: Batch) -> Iterator[tuple[str, Any]]:
    """Every leaf of a batch with its path, such as ``[0]`` or ``['ids']``."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if _is_leaf(node):
            yield path, node
        elif type(node) is tuple:
            for position, value in enumerate(node):
                yield from walk(value, f"{path}[{position}]")
        elif dataclasses.is_dataclass(node):
            for name, value in _fields(node):
                yield from walk(value, f"{path}.{name}")
        elif isinstance(node, Mapping):
            for key, value in node.items():
                yield from walk(value, f"{path}[{key!r}]")
        else:
            for position, value in enumerate(node):
                yield from walk(value, f"{path}[{position}]")

    return walk(batch, "")


def detached(batch: Batch) -> Batch:
    """The batch without gradient history; tensors made under inference mode are copied, so that they can
    take part in a backward pass."""

    def detach(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        with torch.inference_mode(False):
            return leaf.clone() if leaf.is_inference() else leaf.detach()

    return map_leaves(detach, batch)


def fresh(batch: Batch, *, copied: bool = False) -> Batch:
    """The batch in a structure of its own, so that what is done to that, or to what it holds, is done to it alone.

    Args:
        batch: what a collate function returns.
        copied: whether the tensors are copies, and not new names of the same memory, without the graphs of others.

    Example:
        >>> batch = {"x": torch.zeros(2)}
        >>> own = fresh(batch, copied=True)
        >>> _ = own.pop("x").add_(1)
        >>> batch
        {'x': tensor([0., 0.])}
    """

    def renew(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.detach().clone() if copied else leaf.detach()
        if isinstance(leaf, _PLAIN):
            return leaf
        try:
            return copy.copy(leaf)
        except Exception:  # such as an open file: it is what it is
            return leaf

    return map_leaves(renew, batch)


_PLAIN = (str, bytes, int, float, bool, type(None))
_LEAVES = (Tensor, str, bytes)


def _is_leaf(node: Any) -> bool:
    if isinstance(node, _LEAVES):
        return True
    # first what most batches are, as to ask whether something is a mapping takes longer
    if type(node) is tuple or type(node) is dict:
        return False
    if type(node) is list:
        return _plain(node)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return False
    if isinstance(node, Mapping):
        return False
    return not isinstance(node, list | tuple) or (isinstance(node, list) and _plain(node))


def _plain(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(isinstance(v, str | bytes | int | float | bool) for v in values)


def _fields(node: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node) if f.init]


def _rebuild_mapping(node: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """A mapping of the same type; types such as tokenizer outputs take one dict, OrderedDict too."""
    try:
        return type(node)(items)  # type: ignore[call-arg]
    except TypeError:
        return items
