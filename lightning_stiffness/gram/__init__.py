"""Module + loss + batch → Gram of per-example gradients; needs torch alone.

========= ================================================================= ==========================
engine    how                                                               wins
========= ================================================================= ==========================
auto      ``layerwise``                                                     always: the default
layerwise one batched forward and backward pass; inner products from what   time and memory, on almost
          each call with a parameter took in and gave back; parameters that every network
          it can't treat, or that fail its check, through ``vmap``, then
          ``loop``, with a warning
vmap      ``torch.func``: ``vmap(grad(loss))``, in chunks                   as a second opinion
loop      one backward pass per example: the specification                  very few examples
========= ================================================================= ==========================
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from lightning_stiffness import arguments
from lightning_stiffness.gram.batch import Batch, leaves
from lightning_stiffness.gram.check import CoupledExamples, check_against_loop
from lightning_stiffness.gram.choice import ParameterFilter, select_parameters
from lightning_stiffness.gram.layers import Layers, layers_of
from lightning_stiffness.gram.layerwise import planned
from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.partition import BudgetError
from lightning_stiffness.gram.problem import (
    EngineRefusal,
    Examples,
    LossError,
    LossFn,
    Problem,
)
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.result import GradientGram
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.state import measuring
from lightning_stiffness.gram.steps import StepError, StepSize, optimizer_step, scales
from lightning_stiffness.gram.unfit import check_all_lost, check_layers, doubts, guarded_against_quantised
from lightning_stiffness.gram.vmap import vmap_gram

__all__ = ["ENGINES", "Examples", "GradientGram", "gradient_gram", "gram_of_examples"]


class Engine(Protocol):
    """What an engine is: problem and examples in, inner products out."""

    def __call__(
        self, problem: Problem, rows: Examples, columns: Examples | None = None, *, memory_budget: int | None = None
    ) -> Products: ...


def _layerwise(
    problem: Problem, rows: Examples, columns: Examples | None, memory_budget: int | None
) -> GradientGram:
    layers, plan = planned(problem, rows, columns, memory_budget)
    return GradientGram.from_layers(layers, plan.engine, plan)


_Run = Callable[[Problem, Examples, Examples | None, int | None], GradientGram]


def _single(name: str, engine: Engine) -> _Run:
    def run(problem: Problem, rows: Examples, columns: Examples | None, memory_budget: int | None) -> GradientGram:
        layers = {
            layer: engine(problem.of(names), rows, columns, memory_budget=memory_budget)
            for layer, names in problem.by_layer().items()
        }
        return GradientGram.from_layers(layers, name)

    return run


def _checked_vmap(
    problem: Problem, rows: Examples, columns: Examples | None, memory_budget: int | None
) -> GradientGram:
    layers = {}
    for layer, names in problem.by_layer().items():
        part = problem.of(names)
        layers[layer] = vmap_gram(part, rows, columns, memory_budget=memory_budget)
        check_against_loop(part, layers[layer], rows, columns)
    return GradientGram.from_layers(layers, "vmap")


ENGINES: dict[str, _Run] = {
    "auto": _layerwise,
    "layerwise": _layerwise,
    "vmap": _checked_vmap,
    "loop": _single("loop", loop_gram),
}
"""Name → engine; the names that ``engine=`` takes."""


def check_engine(engine: str) -> None:
    """Raise ``ValueError`` for a name that is not in :data:`ENGINES`; the message lists those that are."""
    if not isinstance(engine, str) or engine not in ENGINES:
        raise ValueError(f"unknown engine {arguments.shown(engine)}: expected one of {sorted(ENGINES)}")


def gradient_gram(
    module: nn.Module,
    batch: Batch,
    other: Batch | None = None,
    *,
    loss_fn: LossFn,
    engine: str = "auto",
    memory_budget: int | None = None,
    parameters: ParameterFilter = None,
    per_layer: Layers = False,
    step: Mapping[str, StepSize] | None = None,
) -> GradientGram:
    r"""Inner products of the per-example loss gradients of a module.

    .. math:: G_{ij} = g_i \cdot g_j \qquad g_i = \nabla_W L(f_W(x_i), y_i)

    with :math:`g_i` the gradient of one example's loss over the trainable parameters, in evaluation mode,
    each shared parameter once (Fort et al., arXiv:1901.09491v3, section 2.1). The module is afterwards what
    it was: parameters, ``.grad``, buffers, training flags, random state.

    Args:
        module: any ``nn.Module``, on any device.
        batch: ``n`` examples in the structure that ``loss_fn`` takes: tensors ``[n, …]``, or tuples, lists,
            mappings or dataclasses of them, on the module's device.
        other: ``m`` further examples for the columns; by default the columns are the rows.
        loss_fn: ``loss_fn(module, batch)`` → per-example losses ``[n]``, or their mean or sum. Of another number,
            as a mean over all tokens or the root of a mean, ``"auto"`` leaves each example's row, column and norm
            a positive factor, which cosines and signs do not see, and warns.
        engine: ``"auto"`` (default), or a name in :data:`ENGINES`.
        memory_budget: bytes for the gradients held at a time.
        parameters: which parameters: names or glob patterns, a function ``(name, parameter) -> bool``,
            or None for all trainable ones.
        per_layer: also the Gram of each layer's parameters, ``.layers``: True for every submodule that holds
            parameters, or the names of submodules. The engine ``"auto"`` takes no further pass for them; each
            layer keeps a Gram.
        step: name of each parameter → D, one number or a tensor of its shape, for :math:`g_i \cdot D g_j`: what
            a step of an optimizer on one example does to another (see :func:`optimizer_step`).

    Returns:
        :class:`GradientGram` with ``values`` ``[n, m]``, ``norms`` ``[n]`` and ``other_norms`` ``[m]``, in
        float64, in units of loss² per parameter².

    Raises:
        ValueError: for an argument of another type than its annotation says, an unknown engine, a batch with
            tensors of different lengths, a loss of the wrong shape, no trainable parameter, a parameter that is
            lazy, NaN or infinite, quantised weights.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 1, bias=False)
        >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.zeros(2, 1)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[1.0, 1.0]]))
        >>> def squared_error(module, batch):
        ...     return ((module(batch[0]) - batch[1]) ** 2).sum(1) / 2
        >>> gradient_gram(net, (x, y), loss_fn=squared_error).values.tolist()
        [[1.0, 2.0], [2.0, 8.0]]
    """
    arguments.network(module)
    arguments.loss(loss_fn)
    rows = Examples.of(batch)
    columns = None if other is None else Examples.of(other)
    gram = gram_of_examples(
        module,
        rows,
        columns,
        loss_fn=loss_fn,
        engine=engine,
        memory_budget=memory_budget,
        parameters=parameters,
        per_layer=per_layer,
        step=step,
    )
    for told in doubts(module, gram):
        warnings.warn(told, stacklevel=2)
    return gram


def gram_of_examples(
    module: nn.Module,
    rows: Examples,
    columns: Examples | None = None,
    *,
    loss_fn: LossFn,
    engine: str = "auto",
    memory_budget: int | None = None,
    parameters: ParameterFilter = None,
    per_layer: Layers = False,
    step: Mapping[str, StepSize] | None = None,
    share: Share | None = None,
) -> GradientGram:
    """As :func:`gradient_gram`, for examples that come in several batches.

    Args:
        share: the processes that work on this Gram together, each with the same module and examples; every one
            of them has to call this, and gets all of it. The engines ``vmap`` and ``loop`` do not share.
    """
    check_engine(engine)
    memory_budget = arguments.budget(memory_budget)
    check_layers(arguments.network(module))
    chosen = select_parameters(module, parameters)
    layers = layers_of(chosen, per_layer)
    scale = None if step is None else scales(step, chosen)
    moving = layers
    if scale is not None:
        chosen = {name: chosen[name] for name in scale}
        moving = layers and {
            layer: own for layer, names in layers.items() if (own := [n for n in names if n in scale])
        }
    problem = Problem(module, loss_fn, chosen, share, scale, moving)
    every = (*rows.batches, *(columns.batches if columns else ()))
    batches = [leaf for batch in every for _, leaf in leaves(batch) if isinstance(leaf, Tensor)]
    with measuring(module, problem.losses, batches) as kept, guarded_against_quantised(module):
        problem = replace(problem, module_kept=kept)
        gram = ENGINES[engine](problem, rows, columns, memory_budget)
    check_all_lost(module, gram.norms)
    return gram if layers is None else gram.with_layers(layers)


__all__ += [
    "BudgetError",
    "CoupledExamples",
    "EngineRefusal",
    "LossError",
    "Layers",
    "LossFn",
    "ParameterFilter",
    "StepSize",
    "StepError",
    "check_engine",
    "optimizer_step",
]
