"""A batch on its way to the device, through the hooks that the run itself uses."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.batch import Batch, map_leaves

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def transfer_to_device(trainer: Any, module: nn.Module, batch: Batch) -> Batch:
    """The batch as ``training_step`` would receive it, on the module's device.

    Args:
        trainer: the trainer, for its data module.
        module: the module, or the copy measured on; its own hooks are used unless the data module has them.
        batch: what the collate function returned.

    Returns:
        The batch on the device, in full precision.
    """
    # A shallow copy of the data module: what its hooks count or keep stays away from the run.
    datamodule = copy.copy(trainer.datamodule)
    if datamodule is not None and module is not None:
        datamodule.trainer = getattr(module, "_trainer", datamodule.trainer)  # which validates: hooks add no noise
    owners = {name: _owner(datamodule, module, name) for name in _HOOKS}
    if str(trainer.precision) == "64-true":
        batch = trainer.precision_plugin.convert_input(batch)
    batch = owners["on_before_batch_transfer"].on_before_batch_transfer(batch, 0)
    batch = owners["transfer_batch_to_device"].transfer_batch_to_device(batch, module.device, 0)
    return map_leaves(_full_precision, owners["on_after_batch_transfer"].on_after_batch_transfer(batch, 0))


def _full_precision(leaf: Any) -> Any:
    """What comes in half precision is measured in float32, as the parameters are."""
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def _owner(datamodule: Any, module: nn.Module, name: str) -> Any:
    """Whoever overrides a hook: the data module goes first, as in Lightning."""
    if datamodule is None:
        return module
    overridden = getattr(type(datamodule), name).__module__.split(".")[0] not in ("lightning", "pytorch_lightning")
    return datamodule if overridden else module
