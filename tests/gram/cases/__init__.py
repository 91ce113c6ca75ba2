"""The cases on which every engine is compared with the loop; a new rule brings a new one."""

from . import (  # noqa: F401
    attention,
    bare,
    control,
    coupling,
    derived,
    layers,
    losses,
    networks,
    recurrent,
    transformers_models,
)
from .registry import CASES, Case, halves

__all__ = ["CASES", "Case", "halves"]
