"""Examples that tell of parameters of which those compared say nothing."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.check import Witness
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.parts import Part

TELLING = 2
"""Examples that are taken of a batch for its parameters."""


def telling(
    collected: Collected, names: Iterable[str], near: Witness, offset: int, spans: Iterable[tuple[int, int]]
) -> set[int]:
    """A few more examples, by which some parameters have gradients that are zero for those that were compared.

    Where all units behind a parameter are dead for an example, or a head has no label of it, its gradients are
    right whatever the module makes of others.

    Args:
        collected: gradients in the batches.
        names: of the parameters.
        near: the examples compared.
        offset: position of the first example that was collected.
        spans: the first and behind the last position of each batch.

    Returns:
        Their positions: at most :data:`TELLING` of each batch that some of those compared are of.
    """
    found: set[int] = set()
    for low, high in spans:
        inside = [k for k, place in enumerate(near.positions) if low <= place < high]
        mute = [name for name in names if not any(near.table[name][k][k] for k in inside)] if inside else []
        alive = [one for name in mute if (one := _alive(collected, name)) is not None]
        if alive:
            first, last = max(low - offset, 0), high - offset
            found |= {offset + first + place for place in _covering([one[first:last] for one in alive])}
    return found


def _alive(collected: Collected, name: str) -> Tensor | None:
    """Which examples have a gradient by a parameter that is not zero; None if none has."""
    pieces = [
        torch.stack([_is_alive(part) for part in parts]).any(0) if parts else None
        for parts in collected.parts[name]
    ]
    some = next((piece for piece in pieces if piece is not None), None)
    if some is None:
        return None
    whole = zip(pieces, collected.sizes, strict=True)
    return torch.cat([some.new_zeros(size) if piece is None else piece for piece, size in whole])


def _is_alive(part: Part) -> Tensor:
    """Of which examples no factor is zero."""
    factors = [one for one in part.tensors() if one.dtype.is_floating_point or one.dtype.is_complex]
    return torch.stack([(one != 0).flatten(1).any(1) for one in factors]).all(0)


def _covering(alive: Sequence[Tensor]) -> list[int]:
    """Places of a few examples that have gradients by as many of the parameters as can be."""
    table, places = torch.stack(list(alive)), list[int]()
    while len(places) < TELLING and bool(table.any()):
        places.append(int(table.sum(0).argmax()))
        table = table[~table[:, places[-1]]]
    return places
