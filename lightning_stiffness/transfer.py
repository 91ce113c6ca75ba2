"""A batch on its way to the device, through the hooks that the run itself uses."""

from typing import Any

from torch import nn

from lightning_stiffness.gram.batch import Batch

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
    owners = {name: _owner(trainer.datamodule, module, name) for name in _HOOKS}
    batch = owners["on_before_batch_transfer"].on_before_batch_transfer(batch, 0)
    batch = owners["transfer_batch_to_device"].transfer_batch_to_device(batch, module.device, 0)
    return owners["on_after_batch_transfer"].on_after_batch_transfer(batch, 0)


def _owner(datamodule: Any, module: nn.Module, name: str) -> Any:
    """Whoever overrides a hook: the data module goes first, as in Lightning."""
    if datamodule is None:
        return module
    overridden = getattr(type(datamodule), name).__module__.split(".")[0] not in ("lightning", "pytorch_lightning")
    return datamodule if overridden else module
