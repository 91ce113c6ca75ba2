"""Whether the rows of every use are the examples in their order: asked of all, where calls may mix them up."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.check import ROUNDED, TIMES
from lightning_stiffness.gram.uses import Use

ELSEWHERE = "the module puts the examples of a batch in another order before it is used"

_ALLOWED = {torch.float64: 1e-6, torch.complex128: 1e-6}
"""Error of a row's gradient relative to it, by precision, as parts of a module may compute in less; else 2e-4."""


def weights_of(loss: Tensor) -> Tensor:
    """A weight for each example's loss, between 1 and 2, all of them different, those of neighbours by a third."""
    golden = torch.arange(loss.numel(), dtype=torch.float64, device="cpu") * 0.6180339887498949
    return (1 + golden.frac()).to(loss.device, loss.dtype).view_as(loss)


def out_of_order(
    use: Use, weighted: list[Tensor | None], weights: Tensor, larger: Callable[[float], Sequence[Tensor | None]]
) -> bool:
    """Whether some row of a use is another example's, or that of several.

    With each example's loss times its weight, the gradient by a row of its own is multiplied by that weight. But
    for rows that are nothing but rounding, as the gradient of an attention's coefficient that a softmax does not
    see: these are others for another multiple of the losses too.

    Args:
        use: with the gradients of the sum of all losses by its outputs.
        weighted: gradients of the weighted sum.
        weights: one for each example.
        larger: gives the gradients of a multiple of the sum of all losses.
    """
    for k, (layout, plain, other) in enumerate(zip(use.output_layouts, use.gradients, weighted, strict=True)):
        if plain is None or other is None or layout is None:
            if plain is not other:
                return True
            continue
        before, after = (layout.canonical(one, use.n).flatten(1) for one in (plain, other))
        expected = before * weights.flatten()[:, None].to(before.dtype)
        allowed = _ALLOWED.get(before.dtype, 2e-4) * torch.linalg.vector_norm(expected, dim=1)
        off = torch.linalg.vector_norm(after - expected, dim=1)
        floor = 1e-3 * allowed.nan_to_num(0.0, 0.0).amax()  # rows that are next to nothing may be rounding
        if not bool((off > allowed + floor).any()):
            continue
        for times in TIMES:
            again = larger(times)[k]
            if again is not None:
                rounded = layout.canonical(again, use.n).flatten(1) / times - before
                off -= ROUNDED * torch.linalg.vector_norm(rounded, dim=1)
        if bool((off > allowed + floor).any()):
            return True
    return False
