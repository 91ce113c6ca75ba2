"""How far the training was, in words; a checkpoint may not tell how many epochs it was trained."""

from lightning_stiffness.result import StiffnessResult

NO_EPOCH = "the checkpoint does not say how many epochs it was trained, so its epoch stands as 0"
"""Note of a result whose epoch nobody knows."""


def epoch_of(result: StiffnessResult) -> int | None:
    """The epochs trained at a result; None where nobody knows."""
    return None if NO_EPOCH in result.notes else result.epoch


def moment(result: StiffnessResult) -> str:
    """How far the training was, in words.

    Example:
        >>> moment(StiffnessResult(step=1200, epoch=3)), moment(StiffnessResult(7, 0, notes=[NO_EPOCH]))
        ('step 1,200, epoch 3', 'step 7')
    """
    epoch = epoch_of(result)
    return f"step {result.step:,}" + ("" if epoch is None else f", epoch {epoch:,}")
