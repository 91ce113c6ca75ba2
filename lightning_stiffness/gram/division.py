"""Which process works out the inner products of which parameters."""

from dataclasses import replace
from typing import TypeVar

from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.multiply import chosen, dense_of
from lightning_stiffness.gram.parts import Convolution, Dense
from lightning_stiffness.gram.share import Share, dealt

Said = TypeVar("Said")

ADDING = 200.0
"""Operations in whose time one inner product is added up, beside those that it takes: memory decides about them."""
MORE = 4
"""Times the bytes of a convolution's input and output gradient up to which its gradients are sent instead."""
UNEVEN = 1.3
"""Most work of one process, over its even share, with which parameters are divided."""


def divide(collected: Collected, names: list[str], n: int, pairs: int, count: int) -> dict[str, int] | None:
    """Give each process some of the parameters, the dearest first, each layer's together.

    A process then needs the gradients of all examples by its own parameters alone.

    Args:
        collected: their gradients for some of the examples.
        names: the parameters.
        n: examples, on both sides together.
        pairs: inner products wanted.
        count: processes.

    Returns:
        Parameter → process; None where a few parameters take most of the time, so that the processes had better
        divide the rows of the Gram.
    """
    layers: dict[str, float] = {}
    for name in names:
        layer = name.rpartition(".")[0]
        choice = chosen(collected.parts[name], n, pairs)
        layers[layer] = layers.get(layer, ADDING * pairs) + (choice.flops if choice else 0.0)
    owners = dict(zip(layers, dealt(list(layers.values()), count), strict=True))
    most = max(sum(layers[layer] for layer in layers if owners[layer] == rank) for rank in range(count))
    if most * count > UNEVEN * sum(layers.values()):
        return None
    return {name: owners[name.rpartition(".")[0]] for name in names}


def formed(mine: Collected, n: int, pairs: int, room: int) -> Collected:
    """The gradients of convolutions, where they are needed densely, formed by the process that has the examples.

    For processes that divide the rows of the Gram: each would form those of all examples. That takes longer than
    sending a few times as many bytes.

    Args:
        mine: gradients of this process's examples.
        n: all examples.
        pairs: inner products wanted.
        room: bytes for the gradients of all examples that are formed so.
    """
    parts = dict(mine.parts)
    for name, pieces in mine.parts.items():
        held = [part for piece in pieces for part in piece]
        choice = chosen(pieces, n, pairs)
        if choice is None or choice.formula != "dense" or not any(isinstance(part, Convolution) for part in held):
            continue
        whole = n * held[0].dense_bytes()
        if whole <= room and whole <= MORE * n * max(part.bytes_per_example() for part in held):
            room -= whole
            parts[name] = [
                [Dense(dense_of([piece], 0, piece[0].rows), piece[0].rows)] if piece else piece for piece in pieces
            ]
    return replace(mine, parts=parts)


def own_of(names: list[str], owners: dict[str, int] | None, rank: int) -> list[str]:
    """The parameters that one process multiplies; of all of them, where the rows are divided.

    Example:
        >>> own_of(["a", "b"], {"a": 1, "b": 0}, 0), own_of(["a", "b"], None, 0)
        (['b'], ['a', 'b'])
    """
    return names if owners is None else [name for name in names if owners[name] == rank]


def parts_of_all(
    share: Share,
    mine: Collected,
    names: list[str],
    owners: dict[str, int] | None,
    said: Said,
    failed: Exception | None = None,
) -> list[tuple[Said, Collected]]:
    """Exchange the gradients of each process's examples, and a word about them.

    Args:
        share: the processes.
        mine: gradients of this process's examples.
        names: the parameters whose gradients it gives.
        owners: who is to have the gradients by each of them; None: every process those by all.
        said: what all are to hear of them.
        failed: an error, instead of all that.

    Returns:
        What each process said and gave to this one, in the order of their examples.

    Raises:
        Exception: those of :meth:`Share.deliver`.
    """
    if failed is not None:
        return share.deliver([], failed, about="parts")
    whole = (said, mine.only(names))
    given = [
        whole if owners is None else (said, mine.only(own_of(names, owners, rank))) for rank in range(share.count)
    ]
    return share.deliver(given, about="parts")
