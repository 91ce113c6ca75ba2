"""A weighted mean held against those of a batch's halves: its weights may depend on each other."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_stiffness.gram.product import accumulation_dtype
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.shown import Shown

if TYPE_CHECKING:  # which calls what is here
    from lightning_stiffness.gram.collect import Collector
    from lightning_stiffness.gram.measurement import Measurement

APART = 0.05
"""By how much of it a factor may differ: where rounding decides a choice between equals, gradients do."""

NOTHING = 1e-4
"""Gradients so much smaller than the largest say nothing."""

MOST = 1 << 22
"""Entries of gradients that are looked at."""

FEW = 8
"""Parameters whose gradients are looked at."""

NO_WEIGHTS = (
    "the loss of a batch is a weighted mean of its examples' losses, whose weights depend on each other (by {:.1e} "
    "between a batch and half of it), as where they are computed from the losses: an example's gradient may have "
    "another sign in a batch than alone"
)


def unlike_weights(
    measurement: "Measurement", collector: "Collector", piece: Piece, middle: int
) -> tuple[int, float] | None:
    r"""The example whose gradient changes most, against the others', from a batch to half of it.

    In a weighted mean :math:`\sum_i w_i \ell_i / \sum_i w_i` the weights are divided by the sum of fewer there, so
    the gradients of all become larger by the same factor. Those by one parameter tell, of a few small ones.

    Args:
        measurement: what is measured.
        collector: collects gradients.
        piece: the batch.
        middle: how many are in its first half.

    Returns:
        The place in the batch, and the difference relative to the others; None if none differs by more than
        :data:`APART`, or there is no telling.
    """
    sizes = {n: p.numel() for n, p in measurement.problem.parameters.items() if not p.is_complex()}
    names = [name for name in sizes if name not in measurement.fallback and piece.size * sizes[name] <= MOST]
    names = sorted(names, key=lambda name: sizes[name])[:FEW]
    found = _gradients(collector, names, piece, 0, piece.size)
    # Of the smallest some may have gradients that are nothing but rounding, as the bias of keys in attention
    name = max(found, key=lambda name: float(found[name].square().sum()), default=None)
    if name is None:
        return None
    whole = found[name]
    worst: tuple[int, float] | None = None
    for low, high in ((0, middle), (middle, piece.size)):
        half, of_whole = _gradients(collector, [name], piece, low, high).get(name), whole[low:high]
        if half is None:
            continue
        squares = of_whole.square().sum(1)
        telling = torch.nonzero((squares > NOTHING**2 * whole.square().sum(1).amax()) & half.isfinite().all(1))[
            :, 0
        ]
        if not len(telling):
            continue
        factors = (half * of_whole).sum(1)[telling] / squares[telling]
        apart = (factors / factors.abs().median() - 1).abs()
        most = int(apart.argmax())
        if float(apart[most]) > max(APART, worst[1] if worst else 0.0):
            worst = low + int(telling[most]), float(apart[most])
    return worst


def _gradients(collector: "Collector", names: list[str], piece: Piece, low: int, high: int) -> dict[str, Tensor]:
    """Of some of a piece's examples by some parameters, ``[n, p]``; none where these are no batch."""
    examples = piece.examples.part(piece.start + low, piece.start + high)
    shown, collector.shown = collector.shown, Shown()  # they are no batch of the measurement
    try:
        collected = collector.collect(names, examples, piece.offset + piece.start + low, piece.size)
    except Exception:  # a batch of another length is not asked for: the single examples have to do
        return {}
    finally:
        collector.shown = shown
    rows = {}
    for name in names:
        parts = collected.parts[name]
        if all(parts):
            dtype = accumulation_dtype(parts[0][0].tensors()[0].device)
            rows[name] = torch.cat(
                [torch.stack([p.dense(0, p.rows).to(dtype) for p in one]).sum(0) for one in parts]
            )
    return rows
