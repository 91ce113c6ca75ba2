"""The arguments and results of a call for many examples, beside those of the same call for one."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from lightning_stiffness.gram.axes import Layout, UndecidedAxis, decide, layouts
from lightning_stiffness.gram.uses import Operand, Pure


class Beside:
    """Finds where the examples lie in the tensors of calls.

    Args:
        pure: identity → parameters, and what is computed from them alone.
        n: number of examples.
        example: the position of the one example among them; None where it is not among them.
        known: layouts decided in an earlier pass, by call; extended here.
    """

    def __init__(
        self, pure: Mapping[int, Pure], n: int, example: int | None, known: dict[tuple[int, int], Layout]
    ) -> None:
        self.pure, self.n, self.example, self.known = pure, n, example, known

    def operands(
        self, one: Any, many: Any, place: int, slots: Iterator[int], hint: list[Layout], valueless: bool
    ) -> Any:
        """The arguments of one example's call, with :class:`Operand` for tensors; ``hint`` takes their layouts.

        A method and no function within a function: one that calls itself would keep itself, and with it the
        whole pass, alive until Python looks for cycles.
        """
        if isinstance(many, tuple | list):
            pairs = zip(one, many, strict=True)
            return type(many)([self.operands(a, b, place, slots, hint, valueless) for a, b in pairs])
        if not isinstance(many, Tensor):
            return one
        layout = self.layout((place, next(slots)), one, many, [])
        if layout is not None:
            hint.append(layout)
        value = None if valueless else many
        return Operand(value, tuple(one.shape), layout, self.pure.get(id(many)), self.n, many._version)

    def layout(self, key: tuple[int, int], one: Any, many: Tensor, hint: list[Layout]) -> Layout | None:
        """Where the examples lie in one tensor; None where all share it.

        Args:
            key: the call, and which of its tensors.
            one: the tensor for one example.
            many: for all.
            hint: layouts of the tensors that it was made of.

        Raises:
            UndecidedAxis: if that is open.
        """
        if not isinstance(one, Tensor):
            raise UndecidedAxis("it takes other arguments for a batch")
        if one.shape == many.shape:
            return None
        candidates = layouts(tuple(one.shape), tuple(many.shape), self.n)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        layout = self.known.get(key)
        if layout is None and self.example is not None:
            layout = decide(candidates, many.detach(), one.detach(), self.n, self.example)
        if layout is None:  # constant values tell nothing; rows of the output follow those of the input
            layout = next((c for c in candidates if c in hint), None)
        if layout is None:
            raise UndecidedAxis(f"the order of the examples within axis {candidates[0].axis} is open")
        self.known[key] = layout
        return layout
