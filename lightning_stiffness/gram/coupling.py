"""Whether what is made of all examples together goes into the losses of single ones."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import SIZED, Call
from lightning_stiffness.gram.deciding import Asking
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.mixing import RANKING
from lightning_stiffness.gram.monotone import SCALING, SELECTING, SHAPING, named
from lightning_stiffness.gram.moves import INDEXING
from lightning_stiffness.gram.uses import tensors_in

_PICKING = INDEXING | SELECTING
"""What gives some of the examples, which are made of no others."""

_ADDING = named("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__")

_LINEAR = frozenset(
    {
        *(*SHAPING, *SCALING, *_ADDING),
        *named("where", "clone", "contiguous", "neg", "__neg__", "masked_fill", "float", "double"),
    }
)
"""What leaves a factor in front of all losses where it is."""

COUPLED = (
    "the loss of an example is computed with values made of all examples of its batch, as their mean, or the "
    "largest of them: the examples may affect each other"
)


class Coupling:
    """Follows what some call makes of all examples, on its way back to single ones.

    The mean over a batch that is the loss itself is made of all losses, and so is a mean that is written to a log.
    It is another thing where it meets something that each example has its own of: then each has something of all.
    Places of examples, as by sorting them, are left to what follows these
    (:func:`lightning_stiffness.gram.moves.moved`). Whether what only decides on sizes, or is given to Python,
    matters, the losses of single examples show.

    Args:
        n: examples in the batch.

    Example:
        >>> one, many = torch.ones(1, 3), torch.ones(4, 3)
        >>> coupling, mean = Coupling(4), many.mean()
        >>> _ = coupling.see(Call(torch.mean, (one,), {}, one.mean()), torch.mean, [many], mean, mixing=True)
        >>> centred = many - mean
        >>> _ = coupling.see(Call(torch.sub, (one, 1), {}, one), torch.sub, [many, mean], centred, mixing=False)
        >>> coupling.holds(mean), coupling.holds(centred)
        (False, True)
    """

    def __init__(self, n: int):
        self.n = n
        self._whole: dict[int, Tensor] = {}
        """Made of all examples together."""
        self._each: dict[int, Tensor] = {}
        """Made of those, and of something that each example has its own of."""
        self._scaled: dict[int, Tensor] = {}
        """What each has its own of, times a number of all that has no gradient: a sum over it keeps that factor."""
        self._places: dict[int, Tensor] = {}
        """What a call made of examples by themselves, as their ranks or which are of a kind, and what is made of it
        alone: their places, where it is an index."""
        self.asking = Asking()
        """Sees what Python is given of all of them."""

    def holds(self, loss: Tensor) -> bool:
        """Whether examples have something of all others in a loss, or in theirs."""
        return id(loss) in self._each or (id(loss) in self._scaled and loss.numel() > 1)

    def see(self, call: Call | None, function: Any, given: Sequence[Tensor], out: Any, *, mixing: bool) -> Any:
        """Follow one call.

        Args:
            call: the same for one example; None where that makes other calls.
            function: what was called.
            given: the tensors that it took.
            out: the result.
            mixing: whether it makes values of all examples together.

        Returns:
            The result, with numbers watched that Python is told.
        """
        out = self.asking.see(call, function, given, out, self._whole)
        if mixing or self._whole or self._each or self._scaled:  # unlike the usual
            self._follow(call, function, given, out, mixing=mixing)
        return out

    def _follow(self, call: Call | None, function: Any, given: Sequence[Tensor], out: Any, *, mixing: bool) -> None:
        """Tell what a call's results are made of."""
        outs = tensors_in(out)
        mixing = mixing and function not in _PICKING and self._combines(call, function, given, outs)
        taken = [one for one in given if not (function in INDEXING and self._is_place(one))]
        met = any(id(one) in self._each for one in taken)
        if function in SIZED and function not in INDEXING and not met:
            return
        numbers = [one for one in taken if id(one) in self._whole]
        scaled = any(id(one) in self._scaled for one in taken)
        if not (met or mixing or numbers or scaled):
            return
        met = met or (scaled and (function not in _LINEAR or self._adds_others(call, function, given)))
        if function in SCALING and numbers and not mixing:
            scaled = scaled or all(one.numel() == 1 and not one.requires_grad for one in numbers)
        pairs = [*itertools.zip_longest(() if call is None else call.made, outs)]
        if inplace(function):
            pairs += [(None if call is None else call.given[0], given[0])]
        if function in RANKING or not (met or numbers or scaled) or (self._places and self._are_places(given)):
            self._places.update((id(many), many) for many in outs if many.dtype == torch.int64)
        for one, many in pairs:
            if many is not None:
                rows = self._is_of_each(one, many)
                held = self._each if met or (rows and not scaled) else self._scaled if rows else self._whole
                held[id(many)] = many

    def _adds_others(self, call: Call | None, function: Any, given: Sequence[Tensor]) -> bool:
        """Whether something that each example has its own of, without a factor, is added to what has one."""
        if call is None or function not in _ADDING:
            return False
        own = (many for one, many in zip(call.given, given, strict=False) if self._is_of_each(one, many))
        return any(id(many) not in self._scaled for many in own)

    def _is_place(self, index: Tensor) -> bool:
        """Whether an index says where an example stands, and no values of all others say what it is."""
        if index.dtype != torch.int64:
            return False
        return id(index) in self._places or not (id(index) in self._each or id(index) in self._whole)

    def _are_places(self, given: Sequence[Tensor]) -> bool:
        """Whether what is followed of a call's tensors are places of examples."""
        followed = [id(one) for one in given if id(one) in self._each or id(one) in self._whole]
        return bool(followed) and all(one in self._places for one in followed)

    def _is_of_each(self, one: Tensor | None, many: Tensor) -> bool:
        """Whether it is not as large for one example, or could be if that is not known."""
        if one is None:
            several = not many.is_nested and many.numel() > 1
            return several and any(size and size % self.n == 0 for size in many.shape)
        return bool(_lengths(one, many))

    def _combines(self, call: Call | None, function: Any, given: Sequence[Tensor], outs: Sequence[Tensor]) -> bool:
        """Whether a call makes something of all examples, and not of some of them one by one: then what it gives
        has as many parts as what it takes."""
        if call is None or function in RANKING:
            return True
        took = set()
        for one, many in zip(call.given, given, strict=False):
            axis = None if one.is_nested or many.is_nested else grown_axis(one.shape, many.shape, self.n)
            took |= set() if axis is None else {many.shape[axis]}
        made = [_lengths(*pair) for pair in zip(call.made, outs, strict=False)]
        return bool(took) and any(len(lengths) > 1 or not took <= {*lengths} for lengths in made)


def _lengths(one: Tensor, many: Tensor) -> list[int]:
    """Of the axes that are of other lengths than for one example."""
    if many.is_nested or one.is_nested:  # whose lengths are no numbers
        return []
    if one.ndim != many.ndim:
        return [many.numel()]
    return [size for size, own in zip(many.shape, one.shape, strict=True) if size != own]
