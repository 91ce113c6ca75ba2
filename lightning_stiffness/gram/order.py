"""Whether the rows of every use are the examples in their order: asked of all, where calls may mix them up."""

import torch
from torch import Tensor

from lightning_stiffness.gram.uses import Use

ELSEWHERE = "the module puts the examples of a batch in another order before it is used"

_ALLOWED = dict.fromkeys((torch.float64, torch.complex128), (1e-6, 1e-3))
"""By precision: error of a row's gradient relative to it, as parts of a module may compute in less; and what part
of that of the largest row is allowed to all. Rows next to nothing are rounding, as the gradient of an attention's
coefficient that a softmax does not see; whatever puts examples elsewhere does so to larger ones too."""

_SINGLE = 2e-4, 0.1
"""The same in single precision, or less."""


def weights_of(loss: Tensor) -> Tensor:
    """A weight for each example's loss, between 1 and 2, all of them different, those of neighbours by a third."""
    golden = torch.arange(loss.numel(), dtype=torch.float64, device="cpu") * 0.6180339887498949
    return (1 + golden.frac()).to(loss.device, loss.dtype).view_as(loss)


def out_of_order(use: Use, weighted: list[Tensor | None], weights: Tensor) -> bool:
    """Whether some row of a use is another example's, or that of several.

    With each example's loss times its weight, the gradient by a row of its own is multiplied by that weight.

    Args:
        use: with the gradients of the sum of all losses by its outputs.
        weighted: gradients of the weighted sum.
        weights: one for each example.
    """
    for layout, plain, other in zip(use.output_layouts, use.gradients, weighted, strict=True):
        if plain is None or other is None or layout is None:
            if plain is not other:
                return True
            continue
        before, after = (layout.canonical(one, use.n).flatten(1) for one in (plain, other))
        expected = before * weights.flatten()[:, None].to(before.dtype)
        relative, part = _ALLOWED.get(before.dtype, _SINGLE)
        allowed = relative * torch.linalg.vector_norm(expected, dim=1)
        off = torch.linalg.vector_norm(after - expected, dim=1)
        floor = part * allowed.nan_to_num(0.0, 0.0).amax()
        if bool((off > allowed + floor).any()):
            return True
    return False
