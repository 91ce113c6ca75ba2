"""What a measurement is checked for before its first forward pass."""

from collections.abc import Mapping

from torch import nn

from lightning_stiffness.gram import StepSize
from lightning_stiffness.gram.choice import select_parameters
from lightning_stiffness.gram.layers import layers_of
from lightning_stiffness.gram.steps import check_mapping, scales
from lightning_stiffness.inputs import check_distances, find_layer
from lightning_stiffness.labelling import Classes, find_classes
from lightning_stiffness.probeset import ProbeSet
from lightning_stiffness.settings import Settings


def check_measurement(
    module: nn.Module,
    probe: dict[str, ProbeSet],
    settings: Settings,
    notes: list[str],
    steps: Mapping[str, StepSize] | None = None,
) -> Classes | None:
    """Everything about a measurement that can be wrong before its first forward pass.

    Args:
        module: the network.
        probe: split → its examples.
        settings: what to compute.
        notes: what is left out, and why, is added here.
        steps: name of each parameter → how far a step on a gradient moves it.

    Returns:
        The classes of the probe; None where it has none.

    Raises:
        ValueError: for fewer than two examples, a mapping of the wrong length, an unknown submodule, no
            trainable parameter.
    """
    for split, part in probe.items():
        if len(part.examples) < 2:
            raise ValueError(f"expected at least 2 examples to compare, got {len(part.examples)} of {split}")
    chosen = select_parameters(module, settings.parameters)
    layers_of(chosen, settings.per_layer)
    if steps is not None or settings.step != "sgd":
        # None is what a function returns that returns nothing, and would be taken for plain descent
        check_mapping(steps)
        scales(steps or {}, chosen)
    if settings.distance_layer is not None:
        find_layer(module, settings.distance_layer)
    check_distances(probe, settings)
    return find_classes(probe, settings, notes)
