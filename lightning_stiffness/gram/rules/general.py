"""Any other call: the gradient of the call for one example, mapped over the examples.

Only the one call is mapped, not the module: ``vmap`` sees a single torch function, and where it cannot, a loop
over the examples runs no more than that function.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import UndecidedAxis
from lightning_stiffness.gram.quiet import quiet_vmap
from lightning_stiffness.gram.rules.registry import Parts, dense
from lightning_stiffness.gram.uses import Operand, Use, flat, rebuilt


def general(use: Use) -> Parts:
    """Per-example gradients of all wanted operands of a call."""
    operands = [operand for operand in use.operands() if operand.wanted]
    for operand in operands:
        if operand.layout is not None:
            raise UndecidedAxis("a tensor computed from parameters alone grows with the examples")
    places = [i for i in range(len(use.edges)) if use.gradients[i] is not None]
    if not places:
        return []
    if len({id(use.edges[i].node) for i in places}) > 1 and not use.apart:
        # The gradient that reaches one output may hold what passed through another.
        raise UndecidedAxis("its outputs may depend on each other")
    gradients = [g for g in (use.gradient(i) for i in places) if g is not None]
    varying = [operand for operand in use.operands() if operand.layout is not None]
    values = [operand.canonical() for operand in varying]
    parameters = [operand.shared() for operand in operands]

    def call(parameters: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> list[Tensor]:
        given = {id(o): t for o, t in zip((*operands, *varying), (*parameters, *values), strict=True)}

        def put(leaf: Any) -> Any:
            if not isinstance(leaf, Operand):
                return leaf
            return given[id(leaf)] if id(leaf) in given else leaf.shared()

        out = use.function(*rebuilt(use.args, put), **rebuilt(use.kwargs, put))
        every = flat(out)
        return [every[use.output_places[i]] for i in places]

    width = sum(p.numel() * p.element_size() for p in parameters) + sum(
        t[0].numel() * t.element_size() for t in (*gradients, *values)
    )
    step = max(1, use.room // max(1, width))
    pieces = [
        _mapped(call, parameters, [v[i : i + step] for v in values], [g[i : i + step] for g in gradients])
        for i in range(0, use.n, step)
    ]
    return [dense(operand, torch.cat([piece[k] for piece in pieces])) for k, operand in enumerate(operands)]


def _mapped(call: Any, parameters: list[Tensor], values: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """``[k, *shape]`` for each parameter."""

    def one(values: list[Tensor], gradients: list[Tensor]) -> tuple[Tensor, ...]:
        pull = torch.func.vjp(lambda *p: call(p, tuple(values)), *parameters)[1]
        return tuple(pull(gradients))

    try:
        with quiet_vmap():
            return [t.detach() for t in torch.func.vmap(one, randomness="error")(values, gradients)]
    except Exception:  # vmap refuses in many ways: any of them means one example after the other
        return _looped(call, parameters, values, gradients)


def _looped(call: Any, parameters: list[Tensor], values: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    found: list[list[Tensor]] = [[] for _ in parameters]
    leaves = [p.detach().requires_grad_() for p in parameters]
    for i in range(len(gradients[0])):
        with torch.enable_grad():  # the pass over the examples has ended by now
            # cuDNN wants states that lie in one piece; an example's own are every n-th row of the batch's
            out = call(tuple(leaves), tuple(v[i].contiguous() for v in values))
        grads = torch.autograd.grad(out, leaves, [g[i] for g in gradients], allow_unused=True)
        for k, grad in enumerate(grads):
            grad = torch.zeros_like(parameters[k]) if grad is None else grad
            found[k].append(grad.to_dense() if grad.is_sparse else grad)
    return [torch.stack(grads) for grads in found]
