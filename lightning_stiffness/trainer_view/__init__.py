"""What a module copied for a measurement sees of its trainer: values, and nothing to act on."""

from lightning_stiffness.trainer_view.silent import Silent
from lightning_stiffness.trainer_view.trainer import TrainerView

__all__ = ["Silent", "TrainerView"]
