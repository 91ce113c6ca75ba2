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
    try:
        found = vmap_gram(problem, rows, columns, memory_budget=budget)
        check_against_loop(problem, found, rows, columns)
        return found, "vmap(grad)"
    except EngineRefusal:
        return loop_gram(problem, rows, columns, memory_budget=budget), "loop"


def told(reasons: dict[str, str]) -> str:
    """Parameters and reasons, those with the same reason together."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(
        f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''} ({reason})" for reason, names in groups.items()
    )
