"""Between what distances are taken: inputs, or the outputs of a layer."""

import torch
from torch import Tensor, nn

from lightning_stiffness.functional import pairwise_distance, standardise
from lightning_stiffness.gram import Examples, LossFn
from lightning_stiffness.gram.state import measuring
from lightning_stiffness.probeset import ProbeSet
from lightning_stiffness.settings import Settings


def distance_inputs(
    module: nn.Module, probe: dict[str, ProbeSet], loss_fn: LossFn, settings: Settings, notes: list[str]
) -> dict[str, Tensor]:
    """What distances are taken between, ``[n, …]`` of every split; empty where there is nothing, with a note unless
    nothing is wanted."""
    if settings.distance_layer is not None:
        return {s: layer_outputs(module, settings.distance_layer, p.examples, loss_fn) for s, p in probe.items()}
    if any("inputs" in part.unwanted for part in probe.values()):
        return {}
    raw = {split: part.inputs for split, part in probe.items() if part.inputs is not None}
    without = [split for split in probe if split not in raw]
    if without:
        notes.append(
            f"no inputs with a distance in the {' and '.join(without)} batches (token ids have none), so "
            "distance curves and critical lengths are left out; pass a function batch -> tensors [n, d] "
            "(input_fn= in the callback, inputs= in measure_stiffness), or distance_layer= with the name "
            "of a submodule whose output is to be compared"
        )
        return {}
    return raw


def check_distances(probe: dict[str, ProbeSet], settings: Settings) -> None:
    """See on two examples of each split whether there are distances between them.

    Raises:
        ValueError: if inputs differ in shape, or the caller's function returns no distances.
    """
    few = [part.inputs[:2] for part in probe.values() if part.inputs is not None]
    if settings.distance_layer is None and len(few) == len(probe):
        for values in few:
            x, y = (standardise(inputs, reference=few[0]) for inputs in (few[0], values))
            pairwise_distance(x, y, distance=settings.distance)


def find_layer(module: nn.Module, layer: str) -> nn.Module:
    """The submodule of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    named = dict(module.named_modules())
    if layer not in named:
        known = ", ".join(name for name in named if name) or "none"
        raise ValueError(f"distance_layer={layer!r} is no submodule; there are {known}")
    return named[layer]


def layer_outputs(module: nn.Module, layer: str, examples: Examples, loss_fn: LossFn) -> Tensor:
    """Outputs ``[n, …]`` of a submodule while the loss of the examples is computed, on the CPU.

    Raises:
        ValueError: if there is no such submodule, it did not run, or returned no tensor ``[n, …]``.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append(output.detach().cpu())

    handle = find_layer(module, layer).register_forward_hook(keep)
    collected = []
    try:
        with measuring(module), torch.no_grad():
            for _, size, piece in examples.pieces(256):
                seen.clear()
                loss_fn(module, piece)
                if len(seen) != 1 or seen[0].ndim == 0 or len(seen[0]) != size:
                    shapes = [list(tensor.shape) for tensor in seen]
                    raise ValueError(
                        f"expected distance_layer={layer!r} to return one tensor [{size}, …] for {size} examples, "
                        f"got {shapes}: name a layer that runs once and returns a tensor, examples first"
                    )
                collected.append(seen[0])
    finally:
        handle.remove()
    return torch.cat(collected)
