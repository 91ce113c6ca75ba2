r"""Exact Grams from one forward and backward pass per batch, without per-example gradients of the module.

A ``TorchFunctionMode`` sees every call that takes a parameter. From such a call's input and the gradient of
its output follow the per-example gradients of the parameter, or their inner products directly: for a linear
layer :math:`g_i \cdot g_j = (a_i \cdot a_j)(d_i \cdot d_j)`. The parameters' parts of the Gram are added up.
Before it is trusted, everything is held against a few examples taken alone; parameters that differ, or whose
calls no rule covers, go through ``torch.func`` or the loop by themselves.
"""

from dataclasses import replace

from lightning_stiffness.gram.again import batches_have_a_gradient, some_have_a_gradient
from lightning_stiffness.gram.check import BETWEEN, CoupledExamples
from lightning_stiffness.gram.measurement import Measurement
from lightning_stiffness.gram.partition import BudgetError
from lightning_stiffness.gram.plan import Plan
from lightning_stiffness.gram.problem import EngineRefusal, Examples, LossError, Problem
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.share import Abandoned
from lightning_stiffness.gram.together import Together, enough_for_all


def planned(
    problem: Problem, rows: Examples, columns: Examples | None, memory_budget: int | None
) -> tuple[dict[str, Products], Plan]:
    r"""Gram :math:`g_i \cdot g_j` use by use of each parameter, and how it was computed.

    Args:
        problem: what to differentiate.
        rows: the examples ``i``.
        columns: the examples ``j``; None where they are the rows.
        memory_budget: bytes beside the module, the batch and the Gram; None for 2 GiB, or what
            :func:`lightning_stiffness.gram.devices.default_budget` says of a GPU.

    Returns:
        Layer → inner products ``[n, m]`` in float64, which add up to the Gram; and the plan.

    Raises:
        CoupledExamples: if an example alone has no gradient, but it has one in a batch.
        LossError: if the loss has the wrong shape.
        BudgetError: if the budget is too small; the message says the least that would do.
    """
    every = rows if columns is None else Examples.joined([rows, columns])
    if problem.share is not None and not enough_for_all(every, problem.share):
        problem = replace(problem, share=None)  # few examples are soon done by each process alone
    kind = Measurement if problem.share is None else Together
    measurement = kind(problem, rows, columns, every, memory_budget)
    try:
        return measurement.run()
    except (LossError, BudgetError, Abandoned):
        raise  # for the caller to mend: no other engine would do
    except CoupledExamples as coupled:
        if not some_have_a_gradient(problem, every):
            raise
        reason = str(coupled)
    except EngineRefusal as refusal:
        reason = str(refusal)
    except Exception as error:  # whatever it was that a rule did not foresee, the other engines decide
        reason = f"{type(error).__name__}: {error}"
    products, plan = measurement.all_fall_back(reason)
    nothing = not any(bool(one.squares.any()) or bool(one.other_squares.any()) for one in products.values())
    if nothing and batches_have_a_gradient(problem, every) and not some_have_a_gradient(problem, every):
        raise CoupledExamples(BETWEEN)
    return products, plan
