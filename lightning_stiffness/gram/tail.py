"""What becomes of the numbers made of all examples, up to the loss: whether each counts there as it does alone."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import VIEWS, Call
from lightning_stiffness.gram.mixing import along_examples, mixes
from lightning_stiffness.gram.uses import flat

AGAINST = (
    "the loss of a batch is made of its examples' losses by {}, by which one may count with another sign than "
    "alone, as where a mean is held against a number, or divided by another"
)

UNSEEN = "code in which no call is seen"


def _named(*names: str) -> frozenset[Any]:
    """The functions of these names, of torch and of tensors."""
    homes = (torch, Tensor, torch.linalg, torch.special)
    return frozenset(getattr(home, name) for home in homes for name in names if hasattr(home, name))


_ADDING = _named(
    *("mean", "sum", "nanmean", "nansum", "logsumexp", "norm", "vector_norm", "matrix_norm", "max", "amax"),
    *("min", "amin", "dot", "mv", "matmul", "mm", "bmm", "einsum", "trace", "count_nonzero"),
    *("__matmul__", "__rmatmul__", "median", "tensordot", "inner", "vdot"),
)
"""What makes a number of all examples to which each adds its own part, or none."""

_KEEPING = frozenset(
    {
        *VIEWS,
        *_named("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__rsub__", "__isub__", "neg"),
        *_named(
            "__neg__", "mean", "sum", "stack", "cat", "flatten", "squeeze", "unsqueeze", "clone", "to", "float"
        ),
        *_named("double", "half", "bfloat16", "exp", "log", "log1p", "log2", "log10", "expm1", "sqrt", "sigmoid"),
        *_named("tanh", "logsumexp", "relu", "clamp", "clamp_min", "clamp_max", "max", "amax", "min", "amin"),
        *_named(
            "maximum", "minimum", "where", "contiguous", "unbind", "__getitem__", "nan_to_num", "type_as", "expand"
        ),
        *_named("type", "item", "detach", "requires_grad_", "retain_grad", "register_hook", "select", "permute"),
        *(F.relu, F.softplus, F.sigmoid, F.tanh),
    }
)
"""What grows, or stays, where one of the numbers grows that it takes; differences are the same alone."""

_SCALING = _named("mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__", "__itruediv__")

_SUMMING = _named("sum", "mean", "count_nonzero", "nansum", "max", "amax")

_SHAPING = frozenset(
    {*VIEWS, *_SUMMING, *_named("expand", "squeeze", "unsqueeze", "flatten", "to", "type_as", "type")}
)

_NO_LESS = frozenset(
    {
        *(*_SHAPING, *_SCALING),
        *_named(
            "add", "__add__", "__radd__", "__iadd__", "clamp", "clamp_min", "maximum", "float", "double", "half"
        ),
        *_named("sqrt", "detach", "clone", "long", "int", "reciprocal", "clamp_", "clamp_min_"),
    }
)
"""What is not negative where nothing is that it takes."""


class Tail:
    """Follows numbers made of all examples through a forward pass.

    Args:
        n: examples in the batch.
    """

    def __init__(self, n: int):
        self.n = n
        self._made: dict[int, tuple[Tensor, str]] = {}
        """Each with what lets an example count with another sign than alone, if anything does."""
        self._positive: dict[int, Tensor] = {}
        self._by_data: dict[int, Tensor] = {}
        """Without a gradient, and otherwise for each batch by more than its number of examples."""
        self.scaled = False
        """Whether one is multiplied with, or divided by, something that each batch may have otherwise."""

    def see(self, call: Call | None, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow one call.

        Args:
            call: the same for one example, unless it is of another function; None where that has no more calls.
            function: what was called.
            args: with which arguments.
            kwargs: by name.
            out: the result.
        """
        outs = [*_tensors(out)]
        if not outs:
            return
        call = call if call is not None and call.function == function else None
        given = [*_tensors((args, kwargs))]
        if not any(one.requires_grad for one in outs):
            if self._is_positive(call, function, args, kwargs, out, given):
                self._positive.update((id(one), one) for one in outs)
            elif self._depends(call, args, kwargs, outs, given):
                self._by_data.update((id(one), one) for one in outs)
            return
        of_all = [self._made[id(one)][1] for one in given if id(one) in self._made]
        if any(of_all):
            odd = next(filter(None, of_all))
        elif of_all:
            ones = [] if call is None else [*_tensors(call.out)]
            kept = not _grown(ones, outs, self.n) and self._keeps(call, function, args, kwargs)
            odd = "" if kept else _name(function)
        elif along_examples(call, function, args, kwargs, self.n):
            odd = _name(function)
        elif self._is_of_all(call, args, kwargs, outs):
            odd = "" if self._adds(call, function, kwargs, given) else _name(function)
        else:
            return
        self._made.update((id(one), (one, odd)) for one in outs)

    def ends(self, loss: Tensor) -> str:
        """What is to be told of the loss; nothing where each example counts there as it does alone."""
        return self._made.get(id(loss), (loss, UNSEEN))[1]

    def _is_of_all(self, call: Call | None, args: Any, kwargs: Any, outs: list[Tensor]) -> bool:
        """Whether a result is as large for all examples as for one, and what it is made of is not."""
        given = [*_tensors((args, kwargs))]
        if call is None:
            return all(one.ndim == 0 for one in outs) and any(one.ndim and one.requires_grad for one in given)
        alone, results = [*_tensors((call.args, call.kwargs))], [*_tensors(call.out)]
        same = all(one.shape == other.shape for one, other in zip(results, outs, strict=False))
        return same and any(one.shape != other.shape for one, other in zip(alone, given, strict=False))

    def _depends(self, call: Call | None, args: Any, kwargs: Any, outs: list[Tensor], given: list[Tensor]) -> bool:
        """Whether a result that has no gradient is made of the examples' values."""
        known = self._by_data.keys() | self._made.keys() | self._positive.keys()
        if any(id(one) in known for one in given):
            return True
        if call is None:  # what may have the examples along an axis
            return any(size and size % self.n == 0 for one in given for size in one.shape)
        return self._is_of_all(call, args, kwargs, outs)

    def _adds(self, call: Call | None, function: Any, kwargs: Any, given: list[Tensor]) -> bool:
        """Whether each example adds a part of its own to a number, as it does alone."""
        weight = kwargs.get("weight")
        if isinstance(weight, Tensor) and bool((weight < 0).any()):
            return False
        if kwargs.get("reduction") in ("mean", "sum", "batchmean"):
            return True
        ones = given if call is None else [*_tensors((call.args, call.kwargs))]
        own = [
            b for a, b in zip(ones, given, strict=False) if b.requires_grad and (call is None or a.shape != b.shape)
        ]
        return function in _ADDING and len(own) == 1

    def _keeps(self, call: Call | None, function: Any, args: Any, kwargs: Any) -> bool:
        """Whether what is made of numbers grows with each of them that it grows with alone."""
        if function in _KEEPING:
            return True
        if function not in _SCALING or len(args) != 2 or kwargs:
            return False
        first, second = (id(one) in self._made for one in args)
        if first == second or (second and "div" in function.__name__):
            return False
        place = 1 if first else 0
        other = args[place]
        alone: Any = 1.0 if call is None else call.args[place]
        if not isinstance(other, Tensor):
            return _same_sign(other, alone)
        same = isinstance(alone, Tensor) and alone.shape == other.shape
        if same and torch.equal(alone.detach(), other.detach()):
            return True
        if id(other) in self._positive or other.dtype == torch.bool:
            self.scaled = True
            return True
        if id(other) in self._by_data or other.requires_grad:
            return False
        return torch.equal(alone.sign(), other.sign()) if same else call is None and bool((other > 0).all())

    def _is_positive(
        self, call: Call | None, function: Any, args: Any, kwargs: Any, out: Any, given: list[Tensor]
    ) -> bool:
        """Whether something that has no gradient is never negative, in any batch of these examples."""
        known = [id(one) in self._positive or one.dtype == torch.bool for one in given]
        if known and all(known):
            numbers = [one for one in flat((args, kwargs)) if isinstance(one, int | float)]
            return function in _NO_LESS and (function in _SHAPING or all(one >= 0 for one in numbers))
        summed = function in _SUMMING and mixes(call, function, args, kwargs, out, self.n)
        return summed and all(not bool((one < 0).any()) for one in given if one.dtype != torch.bool)


def _tensors(node: Any) -> Iterator[Tensor]:
    return (leaf for leaf in flat((node,)) if isinstance(leaf, Tensor))


def _grown(ones: Iterable[Tensor], outs: Iterable[Tensor], n: int) -> bool:
    """Whether results have an axis for the examples."""
    return any(grown_axis(one.shape, many.shape, n) is not None for one, many in zip(ones, outs, strict=False))


def _name(function: Any) -> str:
    return f"'{getattr(function, '__name__', str(function)).strip('_')}'"


def _same_sign(one: Any, other: Any) -> bool:
    try:
        return bool((one > 0) == (other > 0) and (one < 0) == (other < 0))
    except TypeError:
        return False
