"""What a pass over many examples keeps: the calls that bring parameters and examples together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.axes import Layout, UndecidedAxis
from lightning_stiffness.gram.edges import Edge

Function = Callable[..., Any]


@dataclass(eq=False)
class Pure:
    """A parameter, or a tensor computed from parameters alone."""

    tensor: Tensor
    roots: frozenset[str]
    """The wanted parameters in it."""
    name: str | None = None
    """Of a parameter; None for a computed tensor."""
    base: "Pure | None" = None
    """What it is the plain transpose of."""
    version: int = 0


@dataclass(eq=False)
class Operand:
    """A tensor argument of a use."""

    value: Tensor | None
    """None where the rule does without."""
    shape: tuple[int, ...]
    """For one example."""
    layout: Layout | None
    """None where all examples share the tensor."""
    pure: Pure | None
    n: int
    version: int

    @property
    def wanted(self) -> bool:
        """Whether gradients with respect to it are asked for."""
        return self.pure is not None and bool(self.pure.roots)

    def shared(self) -> Tensor:
        """The tensor as all examples see it."""
        assert self.value is not None
        if self.value._version != self.version:
            raise StaleOperand("an input of the call is changed in place afterwards")
        return self.value.detach()

    def canonical(self) -> Tensor:
        """The tensor as ``[n, *shape for one example]``."""
        value = self.shared()
        return value.expand(self.n, *value.shape) if self.layout is None else self.layout.canonical(value, self.n)


class StaleOperand(Exception):
    """A captured tensor no longer holds what the call saw."""


@dataclass(eq=False)
class Use:
    """A call that brings parameters and examples together."""

    function: Function
    args: tuple[Any, ...]
    """As for one example, with :class:`Operand` in the place of tensors."""
    kwargs: dict[str, Any]
    n: int
    roots: frozenset[str]
    edges: list[Edge]
    output_layouts: list[Layout | None]
    output_shapes: list[tuple[int, ...]]
    """For one example, of the outputs that have a gradient."""
    output_places: list[int]
    """Which of all output tensors those are."""
    place: int
    """Which of all calls it is."""
    sources: list[Node]
    """The graph's nodes behind its inputs, but for the parameters and what is computed from them alone."""
    gradients: list[Tensor | None] = field(default_factory=list)
    share: float | None = None
    """What part of the gradient each example has, where an output is one number for all of them."""
    apart: bool = False
    """Whether its outputs were handed on each by itself."""
    room: int = 1 << 28
    """Bytes for what its rule forms at a time."""

    def operands(self) -> Iterator[Operand]:
        """All tensor arguments."""
        return (leaf for leaf in flat((self.args, self.kwargs)) if isinstance(leaf, Operand))

    def gradient(self, output: int = 0) -> Tensor | None:
        """Gradient with respect to an output, ``[n, *shape for one example]``; None for zero."""
        gradient, layout = self.gradients[output], self.output_layouts[output]
        if gradient is None:
            return None
        if layout is None and self.share is not None:
            return (gradient * self.share).expand(self.n, *gradient.shape)
        if layout is None:
            raise UndecidedAxis(f"an output of shape {list(self.output_shapes[output])} is shared by all examples")
        return layout.canonical(gradient, self.n)


def flat(node: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts."""
    found: list[Any] = []
    _gather((node,), found)
    return found


def tensors_in(node: Any) -> list[Tensor]:
    """Those of them that are tensors."""
    found: list[Tensor] = []
    _gather_tensors((node,), found)
    return found


def _gather(items: Iterable[Any], found: list[Any]) -> None:
    # every call is asked for its leaves, several times: generators take twice as long
    for item in items:
        if isinstance(item, NESTED):
            _gather(item.values() if isinstance(item, dict) else item, found)
        else:
            found.append(item)


def _gather_tensors(items: Iterable[Any], found: list[Tensor]) -> None:
    for item in items:
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, NESTED):
            _gather_tensors(item.values() if isinstance(item, dict) else item, found)


NESTED = (tuple, list, dict)
"""What holds arguments and results. A tuple, as ``tuple | list`` is made anew each time that it is asked for."""


def rebuilt(node: Any, function: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with ``function`` applied to the leaves."""
    if isinstance(node, tuple | list):
        items = [rebuilt(item, function) for item in node]
        return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
    if isinstance(node, dict):
        return {key: rebuilt(item, function) for key, item in node.items()}
    return function(node)


def lies_in(tensor: Tensor) -> Tensor:
    """What a tensor is a view of, or itself."""
    return tensor if tensor._base is None else tensor._base


def apart(out: Any, given: Iterable[Tensor]) -> Any:
    """What a call gave, each tensor by itself.

    So the gradient that reaches one is none that passed through another, as an LSTM's output is made of its state.
    As it is where one is a view of another, or of what the call took: to change one in place is to change both.
    """
    if isinstance(out, Tensor):
        return out
    made = tensors_in(out)
    if len({one.grad_fn for one in made if one.requires_grad}) < 2:
        return out
    lying = [id(lies_in(one)) for one in made]
    if len({*lying}) < len(lying) or not {*lying}.isdisjoint(id(lies_in(one)) for one in given):
        return out
    return rebuilt(out, lambda one: one.clone() if isinstance(one, Tensor) and one.requires_grad else one)


def is_transpose(function: Any, before: Tensor, after: Tensor, args: tuple[Any, ...]) -> bool:
    """Whether a call swapped the two axes of a matrix and did nothing else."""
    return (
        before.ndim == 2
        and after.ndim == 2
        and after._is_view()
        and after.data_ptr() == before.data_ptr()
        and tuple(after.shape) == tuple(before.shape)[::-1]
        and after.stride() == before.stride()[::-1]
        and not after.is_conj()
        and getattr(function, "__name__", "") in ("t", "transpose", "permute", "swapaxes", "__get__", "numpy_T")
    )
