"""Arguments as a caller writes them: checked one by one, with their name in the message, and made plain."""

from lightning_stiffness.arguments.callables import LOSS, batches, function, loss, network
from lightning_stiffness.arguments.lists import (
    entries,
    group_names,
    groups,
    limits,
    mapping,
    names,
    real_numbers,
)
from lightning_stiffness.arguments.tensors import label_tensor, mask_tensor, real_tensor
from lightning_stiffness.arguments.told import LONGEST, shown
from lightning_stiffness.arguments.values import (
    budget,
    choice,
    fraction,
    path_name,
    probe_size,
    seed,
    switch,
    whole,
)

__all__ = [
    "LONGEST",
    "LOSS",
    "batches",
    "budget",
    "choice",
    "entries",
    "fraction",
    "function",
    "group_names",
    "groups",
    "label_tensor",
    "limits",
    "loss",
    "mapping",
    "mask_tensor",
    "names",
    "network",
    "path_name",
    "probe_size",
    "real_numbers",
    "real_tensor",
    "seed",
    "shown",
    "switch",
    "whole",
]
