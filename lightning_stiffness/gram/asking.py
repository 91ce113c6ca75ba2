"""Functions by what they tell Python of values."""

from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.monotone import named

BRANCHING: frozenset[Any] = frozenset({Tensor.__bool__, torch.is_nonzero})
"""What Python asks in an ``if``."""

NUMBERS: frozenset[Any] = frozenset(
    {Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.item, Tensor.tolist}
)
"""What gives numbers, or a truth value that is kept."""

ARRAYS: frozenset[Any] = named("numpy", "__array__", "__repr__", "apply_", "map_", "map2_")
"""What gives Python all values, for it to make of them what it likes."""

READING = NUMBERS | ARRAYS
"""What gives values."""

ALIKE: frozenset[Any] = named("equal", "allclose", "__contains__")
"""What tells whether some of them, or all, are like others."""

MASKED = named("masked_select")

SHAPED: frozenset[Any] = named("nonzero", "argwhere", "unique", "unique_consecutive") | MASKED
"""What gives tensors whose lengths depend on values, whatever it is given."""

ASKING = BRANCHING | READING | ALIKE | SHAPED
"""All of them."""
