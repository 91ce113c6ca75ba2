"""What the layerwise engine leaves to the other engines."""

import re

from lightning_stiffness.gram.check import check_against_loop
from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.plan import Step
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.vmap import vmap_gram


def by_other_engines(
    problem: Problem, rows: Examples, columns: Examples | None, budget: int | None, *, draws: bool = False
) -> tuple[Products, str]:
    """The Gram by ``torch.func``, or where that fails or the gradients depend on draws by the loop; and the
    engine's name."""
    # numbers that seemed to play no part may be why something fell back
    found = None if draws or problem.noise.drawn else _by_vmap(problem, rows, columns, budget)
    if found is not None:
        return found, "vmap(grad)"
    # Not where torch.func's error is caught: an error of the loop is the user's own, to be read by itself
    return loop_gram(problem, rows, columns, memory_budget=budget), "loop"


def _by_vmap(problem: Problem, rows: Examples, columns: Examples | None, budget: int | None) -> Products | None:
    try:
        found = vmap_gram(problem, rows, columns, memory_budget=budget)
        check_against_loop(problem, found, rows, columns)
        return found
    except EngineRefusal:
        return None


def steps_of(problem: Problem, found: Products, engine: str, reasons: dict[str, str]) -> list[Step]:
    """The plan's lines for parameters that another engine treated."""
    return [
        Step((name,), "", engine, str(list(p.shape)), 2.0 * found.values.numel() * p.numel(), 0, reasons[name])
        for name, p in problem.parameters.items()
    ]


def slowly(problem: Problem, engine: str, reasons: dict[str, str]) -> str:
    """What the user is warned of."""
    how = "one backward pass per example" if engine == "loop" else "torch.func"
    some, every = len(reasons), len(problem.parameters)
    which = f"{some} of its {every} parameters {'is' if some == 1 else 'are'}" if every > 1 else "its parameter is"
    return (
        f"stiffness of {type(problem.module).__name__}: {which} measured by {how}, exact but slow: "
        f"{_FIGURES.sub('', told(reasons))}"
    )


_FIGURES = re.compile(r" \((?:by|those of) [^()]*\)")
"""What is another in each measurement: without it Python warns of the same reason once."""


def told(reasons: dict[str, str]) -> str:
    """Parameters and reasons, those with the same reason together."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(
        f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''} ({reason})" for reason, names in groups.items()
    )
