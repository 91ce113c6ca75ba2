"""Values of all examples together that Python is given, and may decide by what is computed for all of them."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.asking import ALIKE, ARRAYS, BRANCHING, MASKED, NUMBERS, SHAPED
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.monotone import FINITE, named
from lightning_stiffness.gram.told import Comparison, watched
from lightning_stiffness.gram.uses import flat, tensors_in

DECIDING = BRANCHING | NUMBERS
"""Functions that give Python a number, or ask for one in an ``if``."""

_LENDING = ARRAYS | {Tensor.tolist}
"""What gives Python all values."""

_OF_EACH = ALIKE | _LENDING
"""What gives Python something of all that it takes, where examples are still by themselves."""

_TELLING: frozenset[Any] = frozenset({Tensor.item, Tensor.tolist})
"""What may give numbers that know what becomes of them; ``float()`` gives plain ones in any case."""

_LENGTHS: frozenset[Any] = frozenset(
    {Tensor.__len__, Tensor.shape.__get__, *named("size", "numel")}  # type: ignore[attr-defined]
)
"""What gives Python lengths."""

_WHERE = named("where")
_PICKING = SHAPED | _WHERE | {Tensor.__getitem__}
"""What gives tensors whose lengths depend on values."""

_GIVING = DECIDING | _OF_EACH
"""What gives Python something that is no tensor."""

_WATCHED = _GIVING | _PICKING

_CHECKS = FINITE | named("_is_all_true")
"""What tells whether numbers are any; the last one is what torch's distributions ask of what they are given."""

_JOINING = named(
    *("any", "all", "logical_not", "logical_or", "logical_and", "__invert__", "__or__", "__and__", "bitwise_not"),
    *("bitwise_or", "bitwise_and", "sum", "__gt__", "gt", "detach", "count_nonzero"),
)
"""What leaves it at that."""


@dataclass
class Asked:
    """A call that gives Python something of all examples."""

    call: Call
    """As it is for one example."""
    by: list[Tensor]
    """By which of this example's tensors it is what it is."""
    comparison: Comparison = field(default_factory=Comparison)
    """Whether Python compared a number that it gave."""

    @property
    def branches(self) -> bool:
        """Whether something was decided by it there and then."""
        return self.call.function in BRANCHING or self.comparison.made

    def before(self, log: Sequence[Call]) -> Sequence[Call]:
        """Those of a log's calls that are made before it."""
        return log[: next(i for i, call in enumerate(log) if call is self.call)]

    def comes_of(self, made: Container[int]) -> bool:
        """Whether it is what it is by parameters, or by tensors of these identities."""
        return any(one.requires_grad or id(one) in made for one in self.by)


class Asking:
    """Sees what Python is given of all examples together: a number made of them, whether they are all like others,
    all their values, or how many of them there are of a kind.

    Example:
        >>> one, many = torch.zeros(1), torch.zeros(3)
        >>> asking = Asking()
        >>> _ = asking.see(Call(torch.equal, (one, one), {}, True), torch.equal, [many, many], True, ())
        >>> len(asking.asked)
        1
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.told = False
        """Whether it was given numbers that are watched."""
        self.lent: list[Tensor] = []
        """All examples' values that Python was given, by which it may make something of its own for each."""
        self._picked: dict[int, tuple[Tensor, list[Tensor]]] = {}
        """As long as values say; and which values, of the one example."""

    def see(
        self,
        call: Call | None,
        function: Any,
        given: Sequence[Tensor],
        out: Any,
        whole: Container[int],
    ) -> Any:
        """Follow one call.

        Args:
            call: the same for one example; None where that makes other calls.
            function: what was called.
            given: the tensors that it took.
            out: the result.
            whole: identities of the tensors that are made of all examples.

        Returns:
            The result, with its numbers watched.
        """
        if call is None or not (self._picked or function in _WATCHED):  # the usual
            return out
        if function in _PICKING:
            by = _picked_by(call)
            if by:
                self._picked.update((id(one), (one, by)) for one in tensors_in(out))
                return out
        if function in _GIVING and (
            any(id(one) in whole for one in given)
            or (
                function in _OF_EACH
                and any(one.shape != many.shape for one, many in zip(call.given, given, strict=False))
            )
        ):
            self.asked.append(Asked(call, call.given))
            self.lent += given if function in _LENDING else ()
            if function in _TELLING:
                out, self.told = watched(out, self.asked[-1].comparison), True
        for one in given if self._picked else ():
            found = self._picked.get(id(one))
            if found is None:
                continue
            if function in _LENGTHS:
                self.asked.append(Asked(call, found[1]))
            elif one.ndim:  # what is as long
                alike = (many for many in tensors_in(out) if many.ndim and len(many) == len(one))
                self._picked.update((id(many), (many, found[1])) for many in alike)
        return out


def _picked_by(call: Call) -> list[Tensor]:
    """What says how long the tensors are that a call gives, where values say it."""
    function, given = call.function, call.given
    if function is Tensor.__getitem__:
        masks = (one for one in flat((call.args[1],)) if isinstance(one, Tensor))
        return [one for one in masks if one.dtype == torch.bool]
    if function in _WHERE and len(call.args) + len(call.kwargs) > 1:
        return []
    return given[1:2] if function in MASKED else given[:1]


def may_decide(log: Sequence[Call], asked: Asked) -> bool:
    """Whether what a call gives Python comes of the module's parameters, and something is decided by it.

    Where parameters are used after it, a module may leave early, or go on until all are done, by how far it has
    come with an example. What is told of the data alone, as a padded length, is the same as long as these are; what
    is told at the end, as an accuracy for a log, decides on nothing but itself. A loss may be left out at the end
    by an ``if`` of its own, or where Python compares the number that it was told, unless that asks whether it is a
    number at all.

    Args:
        log: the calls for one example, in order.
        asked: the call among them.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> made = weight * 2
        >>> large, none = made.detach() > 3, torch.zeros(())
        >>> log = [
        ...     Call(torch.mul, (weight, 2), {}, made),
        ...     Call(Tensor.detach, (made,), {}, none),
        ...     Call(Tensor.item, (none,), {}, 0.0),
        ... ]
        >>> asked = Asked(log[2], [none])
        >>> may_decide(log, asked), may_decide([*log, log[0]], asked)
        (False, True)
    """
    before = asked.before(log)
    midway = any(_has_parameter(call) for call in log[len(before) + 1 :])
    if not midway and not asked.branches:
        return False
    made = made_of_parameters(before)
    return asked.comes_of(made) and (midway or not _is_check(before, asked.by, made))


def made_of_parameters(log: Sequence[Call]) -> set[int]:
    """Identities of the tensors that calls made, in the end, of parameters."""
    made: set[int] = set()
    for call in log:
        if any(one.requires_grad or id(one) in made for one in call.given):
            made.update(map(id, call.made))
    return made


def _has_parameter(call: Call) -> bool:
    return any(one.requires_grad and one.is_leaf for one in call.given)


def _is_check(before: Sequence[Call], values: Sequence[Tensor], made: Container[int]) -> bool:
    """Whether values say nothing but that numbers are finite.

    Args:
        before: the calls before they are asked for.
        values: what is asked for.
        made: identities of what comes of parameters.
    """
    source = {id(one): call for call in before for one in call.made}
    left = [one for one in values if one.requires_grad or id(one) in made]
    while left:
        call = source.get(id(left.pop()))
        if call is None:
            return False
        unlike_itself = getattr(call.function, "__name__", "") in ("ne", "__ne__") and (
            len(call.given) == 2 and call.given[0] is call.given[1]
        )
        if call.function in _CHECKS or unlike_itself:
            continue
        if call.function not in _JOINING:
            return False
        left += [one for one in call.given if one.requires_grad or id(one) in made]
    return True
