"""What becomes of the numbers made of all examples, up to the loss: whether each counts there as it does alone."""

from collections.abc import Iterable
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram.asking import READING
from lightning_stiffness.gram.axes import grown_axis
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.mixing import mixes
from lightning_stiffness.gram.monotone import (
    ADDING,
    AT_LEAST,
    AVERAGING,
    BLANK,
    CHOOSING,
    FINITE,
    KEEPING,
    NEVER_LESS,
    NO_LESS,
    POWERS,
    SCALING,
    SELECTING,
    SHAPING,
    STEPS,
    SUMMING,
)
from lightning_stiffness.gram.uses import flat, tensors_in

AGAINST = (
    "the loss of a batch is made of its examples' losses by {}, by which one may count with another sign than "
    "alone, or not at all, as where a mean is held against a number, or divided by another"
)

UNSEEN = "code in which no call is seen"


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
        """Never negative, whatever the examples."""
        self._read = False
        """Whether Python was given numbers that may be negative for some examples."""
        self._by_data: dict[int, Tensor] = {}
        """Without a gradient, and otherwise for each batch by more than its number of examples."""
        self._told: dict[int, Tensor] = {}
        """Without a gradient, and made of the numbers that have one."""
        self._gates: dict[int, Tensor] = {}
        """Made of whether such a number is larger than another: by that all examples may be left out."""
        self.scaled = False
        """Whether one is multiplied with, or divided by, something that each batch may have otherwise, as a mean is
        by how many it is over."""
        self.several = False
        """Whether numbers of all examples are put together of several, each of which may be a mean over others."""
        self._chosen: dict[int, ref[Tensor]] = {}
        """Without a gradient, and made of parameters, trained or not; not held, as they may be all that a frozen
        part of the module computes."""
        self.chooses = False
        """Whether such a one is part of what has a gradient, as labels or weights that a module gives itself."""

    def see(self, call: Call | None, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow one call.

        Args:
            call: the same for one example, unless it is of another function; None where that has no more calls.
            function: what was called.
            args: with which arguments.
            kwargs: by name.
            out: the result.
        """
        outs, given = tensors_in(out), tensors_in((args, kwargs))
        if not outs:
            self._read |= function in READING and any(id(one) in self._by_data for one in given)
            if function is Tensor.__setitem__:
                for changed in (args[0], args[0]._base):
                    self._positive.pop(id(changed), None)
                if id(args[2]) in self._made:
                    self._made[id(args[0])] = args[0], self._made[id(args[2])][1]
                    self.several = True
            return
        self._note_choices(given, outs)
        call = call if call is not None and call.function == function else None
        positive = self._is_positive(call, function, args, kwargs, out, given)
        self._note_gates(function, given, outs)
        for one in outs:
            for changed in (one, one._base) if inplace(function) else (one,):
                self._positive.pop(id(changed), None)
            if positive:
                self._positive[id(one)] = one
        if not any(one.requires_grad for one in outs):
            if not positive and self._depends(call, function, given, outs):
                self._by_data.update((id(one), one) for one in outs)
            return
        of_all = {id(one): self._made[id(one)][1] for one in given if id(one) in self._made}
        self.several = self.several or len(of_all) > 1
        if any(of_all.values()):
            odd = next(filter(None, of_all.values()))
        elif of_all:
            ones = [] if call is None else call.made
            kept = not _grown(ones, outs, self.n) and self._keeps(call, function, args, kwargs)
            odd = "" if kept else _name(function)
        elif function not in SELECTING and self._is_of_all(call, given, outs):
            odd = "" if self._adds(call, function, kwargs, given) else _name(function)
            self.scaled = self.scaled or self._averages_some(call, function, kwargs, given)
            self.several = self.several or any(one.numel() > 1 for one in outs)
        else:
            return
        self._made.update((id(one), (one, odd)) for one in outs)

    def _note_choices(self, given: list[Tensor], outs: list[Tensor]) -> None:
        """See what is made of parameters and has no gradient, and whether it meets again what has one."""
        chosen = any(id(one) in self._chosen and self._chosen[id(one)]() is one for one in given)
        if any(one.requires_grad for one in outs):
            self.chooses = self.chooses or chosen
        elif chosen or any(one.requires_grad or isinstance(one, nn.Parameter) for one in given):
            self._chosen.update((id(one), ref(one)) for one in outs)

    def ends(self, loss: Tensor) -> str:
        """What is to be told of the loss; nothing where each example counts there as it does alone."""
        return self._made.get(id(loss), (loss, UNSEEN))[1]

    def _is_of_all(self, call: Call | None, given: list[Tensor], outs: list[Tensor]) -> bool:
        """Whether a result is as large for all examples as for one, and what it is made of is not."""
        if call is None:
            return all(one.ndim == 0 for one in outs) and any(one.ndim and one.requires_grad for one in given)
        alone, results = call.given, call.made
        same = all(one.shape == other.shape for one, other in zip(results, outs, strict=False))
        return same and any(one.shape != other.shape for one, other in zip(alone, given, strict=False))

    def _depends(self, call: Call | None, function: Any, given: list[Tensor], outs: list[Tensor]) -> bool:
        """Whether a result that has no gradient is made of the examples' values."""
        known = self._by_data.keys() | self._made.keys()
        if any(id(one) in known for one in given):
            return True
        name = getattr(function, "__name__", "")
        if name.startswith("new_") or name.endswith("_like"):  # of its type, and perhaps its shape
            return False
        if call is None:  # what may have the examples along an axis
            sizes = [size for one in given for size in one.shape]
            return any(type(size) is not int or (size > 0 and size % self.n == 0) for size in sizes)
        return self._is_of_all(call, given, outs)

    def _adds(self, call: Call | None, function: Any, kwargs: Any, given: list[Tensor]) -> bool:
        """Whether each example adds a part of its own to a number, as it does alone."""
        weight = kwargs.get("weight")
        if isinstance(weight, Tensor) and bool((weight < 0).any()):
            return False
        if kwargs.get("reduction") in ("mean", "sum", "batchmean"):
            return True
        ones = given if call is None else call.given
        own = {
            id(b if b._base is None else b._base)  # an error and itself transposed are one
            for a, b in zip(ones, given, strict=False)
            if b.requires_grad and (call is None or a.shape != b.shape)
        }
        return function in ADDING and len(own) == 1

    def _averages_some(self, call: Call | None, function: Any, kwargs: Any, given: list[Tensor]) -> bool:
        """Whether a mean is one over as many as the values of a batch say, or weighs them."""
        if function in (F.cross_entropy, F.nll_loss):
            labels = given[1] if len(given) > 1 and not given[1].is_floating_point() else None
            some = kwargs.get("weight") is not None
            some = some or (labels is not None and bool((labels == kwargs.get("ignore_index", -100)).any()))
            return some and kwargs.get("reduction") == "mean"
        if function not in AVERAGING:
            return False
        if call is None or function.__name__ == "nanmean":
            return True
        return grown_axis(call.given[0].shape, given[0].shape, self.n) is None

    def _keeps(self, call: Call | None, function: Any, args: Any, kwargs: Any) -> bool:
        """Whether what is made of numbers grows with each of them that it grows with alone."""
        if function in KEEPING:
            return True
        if function in AT_LEAST:
            upper = (*args[2:], kwargs.get("max"))
            lower = (*args[1:2], kwargs.get("min"))
            low = all(one is None or (isinstance(one, int | float) and one <= 0) for one in lower)
            known = id(args[0]) in self._positive and not kwargs.get("inplace")
            return known and low and all(one is None for one in upper)
        if function in CHOOSING:
            condition = args[0] if function is torch.where else args[1] if len(args) > 1 else kwargs.get("mask")
            return id(condition) not in self._gates
        if function in POWERS:
            power = args[1] if len(args) > 1 else 2.0
            broken = isinstance(power, float) and not power.is_integer()  # not a number where that is negative
            return id(args[0]) in self._positive or ("pow" in function.__name__ and broken)
        if function not in SCALING or len(args) != 2 or kwargs:
            return False
        first, second = (id(one) in self._made for one in args)
        if first == second or (second and "div" in function.__name__):
            return False
        place = 1 if first else 0
        other = args[place]
        alone: Any = 1.0 if call is None else call.args[place]
        if not isinstance(other, Tensor):
            plain = isinstance(alone, int | float) and other in (alone, self.n * alone)
            self.scaled = self.scaled or not plain
            return other == alone or (_same_sign(other, alone) and not self._read)
        if id(other) in self._gates:
            return False
        same = isinstance(alone, Tensor) and alone.shape == other.shape
        if same and torch.equal(alone.detach(), other.detach()):
            return True
        self.scaled = True
        if id(other) in self._positive or other.dtype == torch.bool:
            return True
        if id(other) in self._by_data or other.requires_grad:
            return False
        return torch.equal(alone.sign(), other.sign()) if same else call is None and bool((other > 0).all())

    def _note_gates(self, function: Any, given: list[Tensor], outs: list[Tensor]) -> None:
        """See what tells whether a number made of all examples is beyond another."""
        if function in FINITE or any(one.requires_grad for one in outs):
            return
        found = any(id(one) in self._gates for one in given)
        if not found and (function in STEPS or any(one.dtype == torch.bool for one in outs)):
            found = any(id(one) in self._made or id(one) in self._told for one in given)
        if found:
            self._gates.update((id(one), one) for one in outs)
        elif any(id(one) in self._made or id(one) in self._told for one in given):
            self._told.update((id(one), one) for one in outs)

    def _is_positive(
        self, call: Call | None, function: Any, args: Any, kwargs: Any, out: Any, given: list[Tensor]
    ) -> bool:
        """Whether something is never negative, in any batch of these examples."""
        weight = kwargs.get("weight")
        if function in BLANK:
            return True
        if function in NEVER_LESS and not (isinstance(weight, Tensor) and bool((weight < 0).any())):
            return True
        if function in POWERS and len(args) > 1 and isinstance(args[1], int | float) and args[1] % 2 == 0:
            return True
        if function in SCALING and len(args) == 2 and args[0] is args[1]:
            return True
        known = [id(one) in self._positive or one.dtype == torch.bool for one in given]
        if known and all(known):
            numbers = [one for one in flat((args, kwargs)) if isinstance(one, int | float)]
            return function in NO_LESS and (function in SHAPING or all(one >= 0 for one in numbers))
        if any(one.requires_grad for one in tensors_in(out)):
            return False
        summed = function in SUMMING and mixes(call, function, args, kwargs, out, self.n)
        return summed and all(not bool((one < 0).any()) for one in given if one.dtype != torch.bool)


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
