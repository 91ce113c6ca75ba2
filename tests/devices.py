"""The device that the tests of the engines and of whole runs compute on: the processor, unless a GPU is asked for.

``LIGHTNING_STIFFNESS_TEST_DEVICE=cuda python -m pytest tests/gram tests/callback`` takes a GPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

DEVICE = torch.device(os.environ.get("LIGHTNING_STIFFNESS_TEST_DEVICE", "cpu"))
ACCELERATOR = "gpu" if DEVICE.type == "cuda" else DEVICE.type
"""What Lightning calls it."""

if DEVICE.type == "cuda":  # runs with and without the callback are compared to the bit
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def any_algorithms() -> Iterator[None]:
    """Within, also those that are not deterministic: for calls whose deterministic ones raise an error."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
