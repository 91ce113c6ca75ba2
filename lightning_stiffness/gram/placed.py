"""Values that examples have by their place in a batch alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import SIZED, Call
from lightning_stiffness.gram.moves import INDEXING

_GIVING: frozenset[Any] = frozenset(
    {
        *(SIZED - {torch.empty, Tensor.new_empty}),  # in which is whatever was there
        *(torch.as_tensor, torch.tensor, torch.linspace, torch.logspace, torch.randperm, torch.randint),
        torch.bernoulli,
    }
)
"""What may give a row for each example without being given any of theirs."""


class Placed:
    """Follows rows that are made of no example's values, and are not all as the row for one example is: a table's,
    or those of a mask that is made of places.

    Where they meet the values of examples, one may have another loss by its place than alone, be it one in a
    hundred. The places of all, with which an entry of each is picked, are none of that. What no call gave, as what
    comes of an array of NumPy's, may be made of places too, or of all values that Python was given before.

    Args:
        n: examples in the batch.
        lent: values of all examples that Python was given, and may give back; it grows.

    Example:
        >>> place, rows, row = torch.arange(4), torch.zeros(4, 2), torch.zeros(1, 2)
        >>> made = Call(torch.arange, (1,), {}, place[:1])
        >>> for function in (Tensor.__getitem__, torch.mul):
        ...     placed = Placed(4)
        ...     placed.see(made, torch.arange, [], [place])
        ...     placed.see(Call(function, (row, place[:1]), {}, row), function, [rows, place], [rows])
        ...     print(placed.used)
        False
        True
    """

    def __init__(self, n: int, lent: Sequence[Tensor] = ()):
        self.n, self.lent = n, lent
        self.used = False
        """Whether some met the values of examples."""
        self._held: dict[int, Tensor] = {}

    def hold(self, strangers: list[tuple[Tensor, Tensor]]) -> None:
        """Follow what no call gave: pairs of what one example has and all have, which are taken from the list."""
        self._held.update((id(many), many) for one, many in strangers if self._differs(one, many))
        strangers.clear()

    def see(self, call: Call | None, function: Any, given: Sequence[Tensor], outs: Sequence[Tensor]) -> None:
        """Follow one call.

        Args:
            call: the same for one example; None where that makes other calls.
            function: what was called.
            given: the tensors that it took.
            outs: those that it gave.
        """
        if not (self._held or function in _GIVING) or self.used or call is None:  # the usual
            return
        rows = [many for one, many in zip(call.given, given, strict=False) if one.shape != many.shape]
        placed = [many for many in rows if id(many) in self._held]
        if len(placed) < len(rows):
            if not placed:
                return
            if all(one.dtype == torch.int64 for one in placed):
                if function in INDEXING:
                    return
                if all(one.dtype == torch.int64 for one in outs):  # as the place of an entry among those of all
                    self._held.update((id(one), one) for one in outs)
                    return
            self.used = bool(outs)
        elif placed or function in _GIVING:
            for one, many in zip(call.made, outs, strict=False):
                if self._differs(one, many):
                    self._held[id(many)] = many

    def _differs(self, one: Tensor, many: Tensor) -> bool:
        """Whether rows are not all as that for one example, nor are values of their own that were given back."""
        if one.shape == many.shape or torch._C._functorch.is_functorch_wrapped_tensor(many):
            return False
        axis = grown_axis(one.shape, many.shape, self.n)
        if axis is None or many.layout != torch.strided or not one.numel():
            return False
        if any(own.shape == many.shape and torch.equal(own.to(many.dtype), many) for own in self.lent):
            return False
        rows = torch.unflatten(many.detach(), axis, (self.n, one.shape[axis]))
        return bool((rows != one.detach().unsqueeze(axis)).any())
