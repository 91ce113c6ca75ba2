"""Errors that the user has to settle: raised at the start of a run even where measuring errors only warn."""

from lightning_stiffness.gram.check import CoupledExamples
from lightning_stiffness.gram.partition import BudgetError
from lightning_stiffness.gram.problem import LossError
from lightning_stiffness.gram.steps import StepError


class Refusal(Exception):
    """Mixed into an error that says what a module or a setting must be like to be measured."""


class UnusableStep(Refusal, TypeError):
    """``training_step`` gives no loss to measure by."""


class UnusableTrainer(Refusal, AttributeError):
    """``training_step`` acts on its trainer."""


class ReachesTraining(Refusal, RuntimeError):
    """The loss of the copy depends on, or changes, the module in training."""


class NotCopyable(Refusal, TypeError):
    """The module has an attribute that cannot be copied."""


REFUSALS = (Refusal, LossError, CoupledExamples, BudgetError, StepError)
"""Every error that says what the user has to settle."""
