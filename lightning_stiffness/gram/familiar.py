"""Calls whose gradients have been held against those of examples alone: after that, their values are compared.

What a rule makes of a call depends on the function and on the shapes and settings that it is called with. Once
that has been proven for all calls of a module, gradient by gradient, those of linear layers in turn, another
measurement with the same calls compares what can be otherwise then: of an example alone, the loss and the inputs
and output gradients of every use. The gradients follow from these. They are as large as the parameters, and the
values only as the activations. From one measurement to the next it is another example, so that in time all have
their turn; and two, where Python asked for a value, as what it does with that may be otherwise for each.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.asking import ASKING
from lightning_stiffness.gram.axes import Layout
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.uses import flat

MOST = 256
"""Sets of calls that are remembered."""

SUSPECTS = 4
"""Examples that are remembered of one of them."""

DOUBTED = 6
"""Examples that are taken alone of a batch whose calls make values of several together."""

GOLDEN = (5**0.5 - 1) / 2
"""Steps of this part of a circle come near no earlier place for as long as can be."""


@dataclass(frozen=True)
class Proof:
    """What was found out about calls that gave the gradients that examples alone have."""

    ties: bool = False
    """Whether they did so in float64 alone, as float32 rounds choices between equals."""
    known: Mapping[tuple[int, int], Layout] = field(default_factory=dict)
    """Layouts that the values of an example told."""
    form: str = "each"
    """Whether the loss of a batch was one for each example, or their mean or sum."""
    left: frozenset[str] = frozenset()
    """Parameters whose gradients are yet to be held against those of an example alone."""


_proven: OrderedDict[Hashable, Proof] = OrderedDict()
_suspects: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()
_seen: OrderedDict[Hashable, None] = OrderedDict()
_lock = threading.Lock()
_turns = 0


def proven(key: Hashable) -> Proof | None:
    """What was found out about these calls before; None where nothing was."""
    with _lock:
        proof = _proven.pop(key, None)
        if proof is not None:  # those that were not asked for longest are forgotten first
            _proven[key] = proof
        return proof


def prove(key: Hashable, proof: Proof) -> None:
    """Remember that these calls gave the gradients that examples alone have."""
    with _lock:
        _keep(_proven, key, proof)


def refute(key: Hashable, places: Iterable[int]) -> None:
    """Remember that they did not, and the examples that showed it, of which some may be innocent: the next
    measurements are to look at them."""
    with _lock:
        _proven.pop(key, None)
        _keep(_suspects, key, tuple(dict.fromkeys((*places, *_suspects.get(key, ()))))[:SUSPECTS])


def suspects(key: Hashable) -> tuple[int, ...]:
    """The examples that showed these calls to be wrong before."""
    return _suspects.get(key, ())


def was_seen(key: Hashable) -> bool:
    """Whether something that takes its time was found to be right before."""
    return key in _seen


def note_seen(key: Hashable) -> None:
    """Remember that it was."""
    with _lock:
        _keep(_seen, key, None)


def _keep(memory: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > MOST:
        memory.popitem(last=False)


def next_turn() -> int:
    """How many measurements there were before this one."""
    global _turns
    with _lock:
        _turns += 1
        return _turns - 1


def anything_known() -> bool:
    """Whether some calls are familiar."""
    return bool(_proven)


def place_of(turn: int, size: int) -> int:
    """Whose turn it is: one of ``size`` examples, far from those of the last measurements.

    Example:
        >>> [place_of(turn, 12) for turn in range(7)]
        [0, 7, 2, 10, 5, 1, 8]
    """
    return int(size * (turn * GOLDEN % 1))


def forget() -> None:
    """Take nothing for proven any more."""
    global _turns
    with _lock:
        _proven.clear()
        _suspects.clear()
        _seen.clear()
        _turns = 0


def asks_for_values(reference: Reference) -> bool:
    """Whether an example's calls gave values to Python, which may decide by them what to call, or took shapes from
    values."""
    return any(call.function in ASKING or _picks(call) for call in reference.calls)


def _picks(call: Call) -> bool:
    """Whether the shape of what comes depends on values: slices up to one, masks, the places of a condition."""
    if call.function in (torch.where, Tensor.where):
        return len(call.args) + len(call.kwargs) == 1
    if call.function != Tensor.__getitem__:
        return False
    item = call.args[1]
    entries = [(e.start, e.stop, e.step) if isinstance(e, slice) else e for e in flat((item,))]
    return any(isinstance(e, Tensor) and (e.ndim == 0 or e.dtype == torch.bool) for e in flat(entries))
