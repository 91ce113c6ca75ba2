"""One example alone: its calls, by which those of a batch are understood."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from lightning_stiffness.gram.axes import Layout
from lightning_stiffness.gram.backward import at_edges
from lightning_stiffness.gram.batch import Batch, leaves
from lightning_stiffness.gram.calls import COMPOSITE, HOOKING, Call, Recorder
from lightning_stiffness.gram.edges import Edge
from lightning_stiffness.gram.loop import REENTRANT, by_name, example_gradient, nodes_behind
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.rules import is_factored
from lightning_stiffness.gram.uses import flat


class Wanted(Enum):
    """What is wanted of an example alone, beside its calls."""

    TWO = auto()
    """Its gradients, and those of another example."""
    ONE = auto()
    """Its loss, the gradients of its calls, and those of some parameters, to be held against those in a batch as
    they are."""
    VALUES = auto()
    """Its loss, and the gradients of its calls instead of the parameters'."""
    VECTORS = auto()
    """Its loss and the gradients of some parameters, where its calls leave nothing open."""
    CALLS = auto()
    """Its calls and its loss alone, where they do."""


@dataclass
class Reference:
    """One example alone: its calls, by which the examples' axis is told, and its gradients."""

    position: int
    """Which of all examples."""
    calls: list[Call]
    gradients: dict[str, Tensor]
    batch: Batch = None
    """The example, as a batch of one."""
    known: dict[tuple[int, int], Layout] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    """Names of the nodes of its graph."""
    strange: bool = False
    """Whether its loss passes through something that calls do not tell everything about."""
    saved_as_usual: bool = False
    """Whether what it saved for its backward pass went through no function of the user's own."""
    changed_unseen: bool = False
    """Whether something changed a tensor that calls take, and no call that is seen."""
    loss: Tensor | None = None
    """Its loss, where values are compared instead of gradients."""
    wanted: Wanted = Wanted.TWO
    """What was wanted of it."""
    some: tuple[str, ...] = ()
    """The parameters whose gradients are wanted beside those of its calls."""

    @property
    def is_number(self) -> bool:
        """Whether its loss has no axis, not even for the one example: that of a batch is likely to be a mean."""
        loss = self.calls[-1].args[0] if self.calls and self.calls[-1].args else None
        return isinstance(loss, Tensor) and loss.ndim == 0

    def explains(self, functions: list[Any]) -> bool:
        """Whether these are the functions called for it, in order, but for those that check its loss at the end."""
        return [call.function for call in self.calls[: len(functions)]] == functions

    def is_reduced(self) -> bool:
        """Whether some of it is computed in half precision."""
        outs = (leaf for call in self.calls for leaf in call.made)
        return any(leaf.dtype in (torch.float16, torch.bfloat16) for leaf in outs)

    def activation_bytes(self) -> int:
        """Bytes of all tensors that the forward pass made, each storage once."""
        seen: dict[int, int] = {}
        for call in self.calls:
            for leaf in call.out if isinstance(call.out, tuple | list) else (call.out,):
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    storage = leaf.untyped_storage()
                    seen[storage.data_ptr()] = storage.nbytes()
        return sum(seen.values())

    def dense_bytes(self, parameters: Mapping[str, Tensor]) -> int:
        """Bytes of the parameters' gradients, without those that are likely to be held as factors."""
        names = {id(p): name for name, p in parameters.items()}
        dense: set[str] = set()
        for call in self.calls:
            if call.function not in COMPOSITE:
                factored = is_factored(call.function)
                for leaf in flat((call.args, call.kwargs)):
                    if id(leaf) in names and not (factored and leaf.ndim > 1):
                        dense.add(names[id(leaf)])
        return sum(parameters[name].numel() * parameters[name].element_size() for name in dense)


@contextmanager
def eager() -> Iterator[None]:
    """Compiled modules run as they were written: a compiled graph shows no calls.

    Where the compiler was not imported yet, nothing is compiled; to import it takes longer than most measurements.
    """
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def refer(
    problem: Problem, examples: Examples, position: int, wanted: Callable[[Reference], Wanted] | None = None
) -> Reference:
    """Trace one example alone.

    Args:
        problem: module and loss.
        examples: all of them.
        position: which one.
        wanted: what is wanted of an example that calls tell everything about; by default its gradients for one of
            two.

    Raises:
        LossError: if the loss is none.
    """
    parameters = list(problem.parameters.values())
    grads: tuple[Tensor | None, ...] = (None,) * len(parameters)
    with problem.kept(), eager():
        reference, loss = _traced_back(problem, examples, position, wanted)
        if reference.wanted is not Wanted.TWO:
            return reference
        alone = _is_built_alone(examples, reference)
        if loss.requires_grad and not alone:
            found = _gradients(loss, (), parameters)
            grads, alone = found or grads, found is None
    reference.gradients = (
        example_gradient(problem, examples.one(position), position) if alone else by_name(problem, grads)
    )
    return reference


def refer_if_familiar(
    problem: Problem, examples: Examples, position: int, wanted: Callable[[Reference], Wanted]
) -> Reference | None:
    """The same of an example that is not wanted as one of two; None where it is, or it can't be taken alone."""
    if examples.singles is not None:
        return None
    try:
        with problem.kept(), eager():
            reference, _ = _traced_back(problem, examples, position, wanted)
            return None if reference.wanted is Wanted.TWO else reference
    except Exception:  # as an empty sequence that no batch is padded for: the usual example is there for that
        return None


def _traced_back(
    problem: Problem, examples: Examples, position: int, wanted: Callable[[Reference], Wanted] | None
) -> tuple[Reference, Tensor]:
    """The calls of one example, and its loss; its values where these are wanted."""
    reference, loss = traced(problem, examples, position)
    _look_behind(reference, loss)
    usual = loss.requires_grad and not reference.strange and not _is_built_alone(examples, reference)
    if wanted is not None and usual:
        reference.wanted = wanted(reference)
    if reference.wanted is Wanted.CALLS:
        reference.loss = loss.detach()
    elif reference.wanted is not Wanted.TWO:
        values = reference.wanted is not Wanted.VECTORS
        _trace_back(reference, loss, problem.of(reference.some) if reference.some else None, values=values)
    return reference, loss


def _is_built_alone(examples: Examples, reference: Reference) -> bool:
    """Whether an example alone is to be left to the loop: it may be built otherwise than what is sliced, or has a
    checkpoint that is gone through anew."""
    return examples.singles is not None or REENTRANT in reference.nodes


def _gradients(
    loss: Tensor, edges: Sequence[Edge], further: Sequence[Tensor], *, hooked: bool = False
) -> tuple[Tensor | None, ...] | None:
    """Of an example alone; None where the loop knows better what to do, or what to say."""
    try:
        return at_edges(loss, edges, further, hooked=hooked)
    except RuntimeError:
        return None


def _look_behind(reference: Reference, loss: Tensor) -> None:
    """Enter what the graph behind a loss is made of."""
    nodes = nodes_behind(loss)
    reference.nodes = tuple(node.name() for node in nodes)
    # functions of the user's own with a gradient of their own, or gradients of gradients
    reference.strange = any(isinstance(node, BackwardCFunction) for node in nodes) or any(
        name.count("Backward") > 1 for name in reference.nodes
    )


def companion(problem: Problem, examples: Examples, position: int) -> Reference | None:
    """An example alone with its loss and the gradients of its calls; None where it can't be taken alone."""
    try:
        with problem.kept(), eager():
            found, loss = traced(problem, examples, position)
            _trace_back(found, loss)
    except Exception:  # as an empty sequence that no batch is padded for
        return None
    return found


def _trace_back(reference: Reference, loss: Tensor, problem: Problem | None = None, *, values: bool = True) -> None:
    """Enter its loss, the gradients of all its calls if values are wanted, as which of them are uses is known
    beside a batch, and those of a problem's parameters that it depends on."""
    calls = reference.calls if values else ()
    outputs = [(call, i, edge) for call in calls for i, edge in enumerate(call.edges) if edge is not None]
    edges, further = [edge for _, _, edge in outputs], [*problem.parameters.values()] if problem else []
    hooked = any(call.function in HOOKING for call in reference.calls)
    gradients = _gradients(loss, edges, further, hooked=hooked) if loss.requires_grad else None
    if gradients is not None:
        for (call, i, edge), found in zip(outputs, gradients[: len(outputs)], strict=True):
            gradient = edge.seen(found)
            if gradient is not None:
                call.gradients = {**(call.gradients or {}), i: gradient}
        if problem:
            own = dict(zip(problem.parameters, gradients[len(outputs) :], strict=True))
            used = [name for name, gradient in own.items() if gradient is not None]
            reference.gradients = by_name(problem.of(used), [own[name] for name in used])
    reference.loss = loss.detach()


def traced(problem: Problem, examples: Examples, position: int, among: int = 0) -> tuple[Reference, Tensor]:
    """The calls of one example, and its loss."""
    kept = problem.module_kept
    recorder, known = Recorder(kept), kept is None or kept.writes_to_batch
    piece = problem.given(examples.part(position, position + 1).batches[0])
    problem.noise.seed(among + position)
    recorder.note(leaf for _, leaf in leaves(piece) if isinstance(leaf, Tensor))
    recorder.note(one for part in problem.parts for one in part._buffers.values() if one is not None)
    with recorder:
        loss = problem.example_loss(piece)
    problem.unhook()
    if kept is not None and kept.writes_to_batch and not known:
        kept.put_back()
        return traced(problem, examples, position, among)  # once more, of a copy: what was given is as it was
    usual, unseen = recorder.saved_as_usual, recorder.changed_unseen
    found = Reference(among + position, recorder.calls, {}, piece, saved_as_usual=usual, changed_unseen=unseen)
    return found, loss
