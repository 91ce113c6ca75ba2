"""Which process works out the inner products of which parameters."""

from lightning_stiffness.gram.collect import Collected
from lightning_stiffness.gram.multiply import cost
from lightning_stiffness.gram.share import Share, dealt

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
        layers[layer] = layers.get(layer, 0.0) + cost(collected.parts[name], n, pairs)
    owners = dict(zip(layers, dealt(list(layers.values()), count), strict=True))
    most = max(sum(layers[layer] for layer in layers if owners[layer] == rank) for rank in range(count))
    if most * count > UNEVEN * sum(layers.values()):
        return None
    return {name: owners[name.rpartition(".")[0]] for name in names}


def parts_of_all(
    share: Share, mine: Collected, names: list[str], owners: dict[str, int] | None
) -> tuple[Collected, list[str]]:
    """Exchange the gradients of each process's examples.

    Args:
        share: the processes.
        mine: gradients of this process's examples.
        names: the parameters wanted.
        owners: who is to have the gradients by each of them; None: every process those by all.

    Returns:
        Gradients of all examples, in their order, by the parameters of this process; and which those are.
    """
    own = [
        names if owners is None else [name for name in names if owners[name] == rank] for rank in range(share.count)
    ]
    whole = mine.only(names)
    first, *others = share.deliver([whole if owners is None else mine.only(some) for some in own], about="parts")
    for one in others:
        first = first.beside(one)
    return first, own[share.rank]
