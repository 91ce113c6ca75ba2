"""Distances of every pair of examples, block by block; kept where the inputs stay the same."""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from lightning_stiffness.functional import pairwise_distance, standardise
from lightning_stiffness.functional.distance import Distance

BlockDistances = dict[tuple[str, str], Tensor]
"""Two splits → distances ``[n, m]`` between their examples."""


def block_distances(inputs: dict[str, Tensor], distance: Distance) -> BlockDistances:
    """Distances between the standardised inputs of every two splits.

    Args:
        inputs: split → inputs ``[n, …]``; the first split gives mean and deviation.
        distance: as in :func:`lightning_stiffness.functional.pairwise_distance`.

    Example:
        >>> x = {"train": torch.tensor([[0.0], [2.0]]), "val": torch.tensor([[3.0]])}
        >>> block_distances(x, "euclidean")["train", "val"].tolist()
        [[3.0], [1.0]]
    """
    reference = next(iter(inputs.values()))
    flat = {split: standardise(values, reference=reference) for split, values in inputs.items()}
    return {
        (a, b): pairwise_distance(flat[a], None if a == b else flat[b], distance=distance)
        for a, b in combinations_with_replacement(inputs, 2)
    }


class DistanceCache:
    """The distances of the last inputs seen, to be had again without computing them anew.

    Whoever measures again and again on one probe keeps one of these and hands it to every measurement. It goes by
    what the inputs hold, so that other inputs get other distances; distances by a user's function are not kept,
    since the function may not give the same ones again.

    Example:
        >>> cache, x = DistanceCache(), {"train": torch.eye(3)}
        >>> cache.distances(x, "cosine") is cache.distances({"train": torch.eye(3)}, "cosine")
        True
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._kept: BlockDistances = {}

    def distances(self, inputs: dict[str, Tensor], distance: Distance) -> BlockDistances:
        """What :func:`block_distances` gives."""
        if not isinstance(distance, str):
            return block_distances(inputs, distance)
        key = (distance, *((split, *_print(values)) for split, values in inputs.items()))
        if key != self._key:
            self._kept = block_distances(inputs, distance)
            self._key = key
        return self._kept


def _print(values: Tensor) -> tuple[object, ...]:
    """What tells inputs apart without keeping them; some thirty times as fast as their distances.

    Python's hash of bytes has 64 bits: other inputs would be taken for the same once in 10¹⁹ times.
    """
    held = values.detach().cpu().contiguous()
    return held.dtype, held.shape, hash(held.reshape(-1).view(torch.uint8).numpy().tobytes())
