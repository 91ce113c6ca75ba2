"""Gradients of tensors computed from parameters alone, pushed back to the parameters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.multiples import Multiple
from lightning_stiffness.gram.parts import Dense, Outer, Part
from lightning_stiffness.gram.uses import Pure, StaleOperand


def resolved(pure: Pure, part: Part) -> tuple[Pure, Part]:
    """A part with respect to what the tensor is the transpose of, as far as that goes."""
    while pure.base is not None and isinstance(part, Outer):
        pure, part = pure.base, part.transposed()
    return pure, part


def pushed_back(pure: Pure, part: Part, parameters: Mapping[str, Tensor], room: int) -> Mapping[str, Part]:
    r"""Per-example gradients of the parameters in a computed tensor: :math:`J^\top G_i`, exactly.

    Args:
        pure: the tensor.
        part: its per-example gradients.
        parameters: the wanted parameters, by name.
        room: bytes for gradients pushed back at a time.

    Returns:
        Name → per-example gradients, for the parameters in the tensor.

    Raises:
        StaleOperand: if the tensor was changed in place after it was used.
    """
    if pure.tensor._version != pure.version:
        raise StaleOperand("a tensor computed from it is changed in place afterwards")
    names = sorted(pure.roots)
    inputs = [parameters[name] for name in names]
    if pure.tensor.numel() == 1 and not any(p.is_complex() for p in (pure.tensor, *inputs)):
        return _multiples(pure.tensor, part, dict(zip(names, inputs, strict=True)))
    width = pure.tensor.numel() * 2 + sum(p.numel() for p in inputs)
    step = max(1, room // max(1, width * pure.tensor.element_size()))
    pieces: list[list[Tensor]] = []
    for low in range(0, part.n, step):
        some = part.take(slice(low, low + step))
        gradient = some.dense(0, some.rows).reshape(some.n, *pure.tensor.shape)
        pieces.append(_vjp(pure.tensor, inputs, gradient.to(pure.tensor.dtype)))
    return {
        name: Dense(torch.cat([piece[k] for piece in pieces]).reshape(part.n, -1), _rows(parameters[name]))
        for k, name in enumerate(names)
    }


def _multiples(number: Tensor, part: Part, parameters: Mapping[str, Tensor]) -> dict[str, Part]:
    """Of a number, as a penalty on parameters is one: multiples of its one gradient."""
    found = torch.autograd.grad(number, [*parameters.values()], torch.ones_like(number), True, allow_unused=True)
    factors = part.dense(0, 1)
    return {
        name: Multiple(factors, _as_matrix(_plain(gradient).detach()))
        for name, gradient in zip(parameters, found, strict=True)
        if gradient is not None
    }


def _as_matrix(gradient: Tensor) -> Tensor:
    """As a parameter is seen, which may have no entries."""
    return gradient.flatten(1) if gradient.ndim > 1 else gradient.reshape(gradient.numel(), 1)


def _rows(parameter: Tensor) -> int:
    return parameter.shape[0] if parameter.ndim else 1


def _vjp(tensor: Tensor, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    grads: Sequence[Tensor | None]
    try:
        grads = torch.autograd.grad(
            tensor, inputs, gradient, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    except Exception:  # an operation that vmap does not know: one example after the other
        single: list[Sequence[Tensor | None]] = [
            torch.autograd.grad(tensor, inputs, one, retain_graph=True, allow_unused=True) for one in gradient
        ]
        grads = tuple(_stacked(list(column)) for column in zip(*single, strict=True))
    return [
        torch.zeros(len(gradient), *p.shape, dtype=p.dtype, device=p.device) if g is None else g.detach()
        for g, p in zip(grads, inputs, strict=True)
    ]


def _plain(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _stacked(gradients: list[Tensor | None]) -> Tensor | None:
    known = [_plain(gradient) for gradient in gradients if gradient is not None]
    return torch.stack(known) if known else None
