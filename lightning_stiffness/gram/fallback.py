"""What the layerwise engine leaves to the other engines."""

from lightning_stiffness.gram.check import check_against_loop
from lightning_stiffness.gram.loop import loop_gram
from lightning_stiffness.gram.problem import EngineRefusal, Examples, Problem
from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.vmap import vmap_gram


def by_other_engines(
    problem: Problem, rows: Examples, columns: Examples | None, budget: int | None
) -> tuple[Products, str]:
    """The Gram by ``torch.func``, or where that fails by the loop; and the engine's name."""
    found = _by_vmap(problem, rows, columns, budget)
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


def told(reasons: dict[str, str]) -> str:
    """Parameters and reasons, those with the same reason together."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(
        f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''} ({reason})" for reason, names in groups.items()
    )
