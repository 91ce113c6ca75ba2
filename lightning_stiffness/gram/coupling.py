"""Whether what is made of all examples together goes into the losses of single ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.calls import SIZED, Call
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.mixing import RANKING
from lightning_stiffness.gram.moves import INDEXING
from lightning_stiffness.gram.uses import tensors_in

COUPLED = (
    "the loss of an example is computed with values made of all examples of its batch, as their mean, or the "
    "largest of them: the examples affect each other"
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
        >>> coupling.see(Call(torch.mean, (one,), {}, one.mean()), torch.mean, [many], mean, mixing=True)
        >>> centred = many - mean
        >>> coupling.see(Call(torch.sub, (one, 1), {}, one), torch.sub, [many, mean], centred, mixing=False)
        >>> coupling.holds(mean), coupling.holds(centred)
        (False, True)
    """

    def __init__(self, n: int):
        self.n = n
        self._whole: dict[int, Tensor] = {}
        """Made of all examples together."""
        self._each: dict[int, Tensor] = {}
        """Made of those, and of something that each example has its own of."""

    def holds(self, tensor: Tensor) -> bool:
        """Whether examples have something of all others in a tensor."""
        return id(tensor) in self._each

    def see(self, call: Call | None, function: Any, given: Sequence[Tensor], out: Any, *, mixing: bool) -> None:
        """Follow one call.

        Args:
            call: the same for one example; None where that has no more calls.
            function: what was called.
            given: the tensors that it took.
            out: the result.
            mixing: whether it makes values of all examples together.
        """
        if not (mixing or self._whole or self._each):  # the usual
            return
        outs = tensors_in(out)
        mixing = mixing and function not in INDEXING and _combines(call, function, given, outs)
        taken = [one for one in given if not (function in INDEXING and one.dtype == torch.int64)]
        met = any(id(one) in self._each for one in taken)
        if function in SIZED and function not in INDEXING and not met:
            return
        if not (met or mixing or any(id(one) in self._whole for one in taken)):
            return
        outs += taken[:1] if inplace(function) else []
        ones = call.made if call is not None and call.function == function else []
        for k, many in enumerate(outs):
            rows = k >= len(ones) or bool(_lengths(ones[k], many))
            (self._each if met or rows else self._whole)[id(many)] = many


def _combines(call: Call | None, function: Any, given: Sequence[Tensor], outs: Sequence[Tensor]) -> bool:
    """Whether a call makes something of several examples, and not of some of them one by one: then what it gives
    has as many parts as what it takes."""
    if call is None or call.function != function or function in RANKING:
        return True
    made = [_lengths(*pair) for pair in zip(call.made, outs, strict=False)]
    took = {length for pair in zip(call.given, given, strict=False) for length in _lengths(*pair)}
    return any(len(lengths) > 1 or not took <= {*lengths} for lengths in made)


def _lengths(one: Tensor, many: Tensor) -> list[int]:
    """Of the axes that are of other lengths than for one example."""
    if one.ndim != many.ndim:
        return [many.numel()]
    return [size for size, own in zip(many.shape, one.shape, strict=True) if size != own]
