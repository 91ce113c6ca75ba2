"""Probe → gradients → Gram → stiffness → statistics → result; needs no Trainer."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, pairwise

import numpy as np
import torch
from torch import Tensor, nn

import lightning_stiffness
from lightning_stiffness import arguments
from lightning_stiffness.blocks import measure_block, merge_results
from lightning_stiffness.checks import check_measurement
from lightning_stiffness.distances import DistanceCache
from lightning_stiffness.fields import FieldFn
from lightning_stiffness.functional import (
    effective_rank,
    gradient_coherence,
    gradient_confusion,
    gradient_diversity,
    valid_examples,
)
from lightning_stiffness.functional.distance import Distance
from lightning_stiffness.gram import (
    Examples,
    Layers,
    LossFn,
    ParameterFilter,
    StepSize,
    gram_of_examples,
    optimizer_step,
)
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.steps import UNREACHED, unreached
from lightning_stiffness.gram.unfit import UNRELATED
from lightning_stiffness.inputs import distance_inputs
from lightning_stiffness.probeset import AUTO, ProbeSet, probe_of_batch, same_examples
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.settings import Settings

_SYMMETRIC, _DIAGNOSTICS = 0.7, 0.3
"""Time of a block of one set of examples, and of what its Gram says as a whole, in that of a block of two sets."""


def measure_stiffness(
    module: nn.Module,
    train: Batch,
    val: Batch | None = None,
    *,
    loss_fn: LossFn,
    labels: FieldFn | str | None = AUTO,
    inputs: FieldFn | str | None = AUTO,
    measures: Sequence[str] = ("cos", "sign"),
    distance: Distance = "cosine",
    distance_layer: str | None = None,
    bins: int = 20,
    superclasses: Sequence[int] | Sequence[Sequence[int]] | None = None,
    superclass_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
    class_names: Sequence[str] | None = None,
    parameters: ParameterFilter = None,
    engine: str = "auto",
    memory_budget: int | None = None,
    resamples: int = 200,
    diagnostics: bool = True,
    per_layer: Layers = False,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | Mapping[str, StepSize] | None = None,
    step: int = 0,
    epoch: int = 0,
) -> StiffnessResult:
    r"""Stiffness of any ``nn.Module`` on a probe, without a Trainer.

    Class-wise, by distance, with the dynamical critical length (Fort et al., arXiv:1901.09491v3,
    section 2), for the blocks train-train, train-val and val-val. The module is left as it was.

    Args:
        module: the network, on any device.
        train: a batch of ``n`` training examples, on the module's device.
        val: a batch of ``m`` examples it does not train on; left out, only train-train is measured.
        loss_fn: ``loss_fn(module, batch)`` → per-example losses ``[n]``, or their mean or sum.
        labels: ``labels(batch)`` → integer classes ``[n]``; by default found in the batch; None: no classes.
        inputs: ``inputs(batch)`` → tensors ``[n, …]`` to take distances of; by default found in the batch;
            None: no distances.
        measures: ``"cos"``, ``"sign"`` or both.
        distance: ``"cosine"`` of the standardised inputs, ``"euclidean"``, or a function of two tensors
            ``[n, d]``, ``[m, d]``.
        distance_layer: name of a submodule: distances between its outputs instead of the inputs.
        bins: number of bins of the distance curve.
        superclasses: group of each class, ``[c]``, or several such levels, the finest first.
        superclass_names: names of the groups ``[s]``, or of those of each level.
        class_names: names of the classes, ``[c]``.
        parameters: which parameters to differentiate: names or patterns, a predicate, None for all trainable.
        engine: ``"auto"``, or a name in ``lightning_stiffness.gram.ENGINES``.
        memory_budget: bytes for the gradients held at a time.
        resamples: bootstrap resamples behind the 95% intervals; 0: no intervals.
        diagnostics: also coherence, diversity, confusion and effective rank of the gradients of each split.
        per_layer: also the class matrix of each layer's gradients: True for every submodule that holds parameters,
            or the names of submodules.
        optimizer: one or several, whose step on one example is told to help or hurt another, with its state as it
            is now (see :func:`lightning_stiffness.gram.optimizer_step`), or name of each parameter → step size; by
            default plain gradient descent's. Adam's takes about the time of ``engine="vmap"``.
        step: number of batches trained on, for the record.
        epoch: number of epochs trained, for the record.

    Returns:
        :class:`StiffnessResult`; all values on the CPU.

    Raises:
        ValueError: for an unknown measure, distance or engine, a batch with tensors of different lengths,
            labels that are not integers, a mapping of the wrong length, no trainable parameter.

    Example:
        >>> net = nn.Linear(4, 2)
        >>> batch = (torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]))
        >>> result = measure_stiffness(
        ...     net, batch, loss_fn=lambda net, b: nn.functional.cross_entropy(net(b[0]), b[1])
        ... )
        >>> result.class_matrix["train-train"]["cos"].shape
        (2, 2)
    """
    arguments.network(module)
    arguments.loss(loss_fn)
    step, epoch = arguments.whole("step", step, 0), arguments.whole("epoch", epoch, 0)
    settings = Settings(
        measures=measures,
        distance=distance,
        distance_layer=distance_layer,
        bins=bins,
        superclasses=superclasses,
        superclass_names=superclass_names,
        class_names=class_names,
        parameters=parameters,
        engine=engine,
        memory_budget=memory_budget,
        resamples=resamples,
        diagnostics=diagnostics,
        per_layer=per_layer,
        step="sgd" if optimizer is None else "optimizer",
    )
    known = optimizer is None or isinstance(optimizer, Mapping)
    steps = optimizer if known else optimizer_step(optimizer, module)
    batches = {"train": train} if val is None else {"train": train, "val": val}
    probe = {split: probe_of_batch(batch, labels=labels, inputs=inputs) for split, batch in batches.items()}
    result = measure_probe(module, probe, loss_fn=loss_fn, settings=settings, step=step, epoch=epoch, steps=steps)
    for note in result.notes:
        warnings.warn(note, stacklevel=2)
    return result


def measure_probe(
    module: nn.Module,
    probe: dict[str, ProbeSet],
    *,
    loss_fn: LossFn,
    settings: Settings,
    step: int = 0,
    epoch: int = 0,
    steps: Mapping[str, StepSize] | None = None,
    cache: DistanceCache | None = None,
    share: Share | None = None,
) -> StiffnessResult:
    """Stiffness on probe sets; what :func:`measure_stiffness` and the callback share.

    Args:
        module: the network.
        probe: split → its examples, ``"train"`` first.
        loss_fn: ``loss_fn(module, batch)``.
        settings: what to compute.
        step: batches trained on.
        epoch: epochs trained.
        steps: name of each parameter → how far a step on a gradient moves it, in the settings' ``step``; None for
            plain gradient descent.
        cache: keeps the distances between inputs from one measurement to the next, for a caller that measures
            again and again.
        share: the processes that measure together, each with the same module and probe; every one of them has
            to call this, and gets the whole result.

    Returns:
        The result; its ``notes`` say what was left out, and why.
    """
    started = time.perf_counter()
    notes: list[str] = []
    classes = check_measurement(module, probe, settings, notes, steps)
    inputs = distance_inputs(module, probe, loss_fn, settings, notes)
    distances = (cache or DistanceCache()).distances(inputs, settings.distance) if inputs else {}
    together = Examples.joined([part.examples for part in probe.values()])
    gram = gram_of_examples(
        module,
        together,
        loss_fn=loss_fn,
        engine=settings.engine,
        memory_budget=settings.memory_budget,
        parameters=settings.parameters,
        per_layer=settings.per_layer,
        step=steps,
        share=share,
    ).to("cpu")
    if steps is not None and unreached(steps):
        notes.append(UNREACHED)
    places = dict(zip(probe, _slices([len(part.examples) for part in probe.values()]), strict=True))
    result = StiffnessResult(
        step=step,
        epoch=epoch,
        class_names=classes.names if classes else None,
        superclasses=settings.levels[0] if classes and settings.levels else None,
        further_superclasses=settings.levels[1:] if classes else [],
        superclass_names=settings.level_names if classes else [],
        probe_indices={s: p.indices.numpy() for s, p in probe.items() if p.indices is not None},
        probe_labels={s: labels.numpy() for s, labels in (classes.labels if classes else {}).items()},
        layer_names=list(gram.layers),
        excluded={s: int((~valid_examples(gram.norms[places[s]])).sum()) for s in probe},
        engine=gram.engine,
        settings=settings.plain(),
        versions=_versions(),
        notes=notes,
    )
    blocks = list(combinations_with_replacement(probe, 2))
    sizes = {split: len(part.examples) for split, part in probe.items()}
    costs = [(_SYMMETRIC if a == b else 1.0) * sizes[a] * sizes[b] for a, b in blocks]
    costs += [_DIAGNOSTICS * size**2 for size in sizes.values()]
    mine = [True] * len(costs) if share is None else share.deal(costs)
    found = StiffnessResult(step=step, epoch=epoch)  # what travels: the rest every process knows
    for (first, second), of_this_process in zip(blocks, mine, strict=False):
        if of_this_process:
            measure_block(
                found,
                gram.block(places[first], places[second]),
                (first, second),
                same_example=same_examples(probe[first], probe[second]),
                classes=classes,
                distance=distances.get((first, second)),
                settings=settings,
            )
    for (split, part), of_this_process in zip(places.items(), mine[len(blocks) :], strict=True):
        if settings.diagnostics and of_this_process:
            found.diagnostics[split] = _diagnostics(gram.block(part, part).values)
    merge_results(
        result,
        [found] if share is None else share.tell(found, about="results"),
        [*("-".join(block) for block in blocks), *probe],
    )
    if any(result.excluded.values()):
        told = ", ".join(f"{n} of {len(probe[s].examples)} in {s}" for s, n in result.excluded.items() if n)
        notes.append(
            f"examples whose gradient is zero or not finite have no stiffness and are left out: {told} "
            f"({UNRELATED if bool((gram.norms == 0).all()) else 'a loss of exactly 0, or an overflow'})"
        )
    return replace(result, seconds=time.perf_counter() - started)


def _diagnostics(gram: Tensor) -> dict[str, float]:
    """What the Gram of one split's gradients says of them as a whole, by name."""
    of_gram = (gradient_coherence, gradient_diversity, gradient_confusion, effective_rank)
    return {function.__name__: function(gram) for function in of_gram}


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(low, high) for low, high in pairwise(ends)]


def _versions() -> dict[str, str]:
    return {"lightning_stiffness": lightning_stiffness.__version__, "torch": str(torch.__version__)}
