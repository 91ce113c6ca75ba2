"""Values that nothing done with them can change, and copies of those that are not."""

import copy
import enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), type, range),
    *(enum.Enum, PurePath, np.generic, torch.device, torch.dtype, torch.Size),
)


def own(value: Any) -> Any:
    """A value for the measurement alone; functions and what cannot be copied as they are.

    Example:
        >>> group = {"lr": 0.1, "betas": [0.9, 0.99]}
        >>> twin = own(group)
        >>> twin["betas"].append(1.0)
        >>> group["betas"]
        [0.9, 0.99]
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {key: own(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own(entry) for entry in value)
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
