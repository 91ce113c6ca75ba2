"""Every use of a parameter in a pass over many examples.

A call that takes a parameter, or a tensor computed from parameters alone, and whose output grows with the number
of examples is a *use*: its inputs and the gradient edge of its output are kept. Where the output does not grow, it
is one more tensor computed from parameters alone.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from lightning_stiffness.gram.axes import Layout, UndecidedAxis
from lightning_stiffness.gram.beside import Beside
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.edges import Edge, edge_of
from lightning_stiffness.gram.in_place import inplace, out_of_place, rewritten
from lightning_stiffness.gram.penalty import PENALISING, is_sum
from lightning_stiffness.gram.uses import Function, Pure, Use, apart, flat, is_transpose, lies_in, tensors_in


class _Candidate(NamedTuple):
    """A call that may be a use."""

    place: int
    """Which of all calls it is."""
    called: Function
    function: Function
    """What was called; its twin out of place, where it changes something in place."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[Tensor]
    """The tensors among them, as they were called."""
    outs: list[tuple[int, Tensor]]
    """Its results that have a gradient, and which of all they are."""
    taken: list[Pure]
    """What it takes that is computed from parameters alone."""
    roots: frozenset[str]
    sources: list[Node]
    foreign: bool
    """Whether it takes anything else that has a gradient."""
    apart: bool
    """Whether its results are handed on each by itself."""


class Keeper:
    """Keeps the uses of parameters in a pass over ``n`` examples.

    Args:
        pure: the module's parameters.
        log: calls of the pass over one example.
        n: number of examples.
        example: the position of that one example among them; None where it is not among them.
        known: layouts decided in an earlier pass, by call; extended here.
        valueless: functions whose rules need no input values.

    Attributes:
        uses: those found, in order.
        failures: parameter → why its uses are none that the log explains.
    """

    def __init__(
        self,
        pure: list[Pure],
        log: list[Call],
        n: int,
        example: int | None,
        known: dict[tuple[int, int], Layout],
        valueless: Callable[[Any], bool],
    ) -> None:
        self.pure = {id(entry.tensor): entry for entry in pure}
        self.log, self.n, self.valueless = log, n, valueless
        self.beside = Beside(self.pure, n, example, known)
        self._pure_of_one = set(self.pure)
        """The same of the one example."""
        self._written: dict[int, frozenset[str]] = {}
        """Where values lie → the wanted parameters in what was written there."""
        self.uses: list[Use] = []
        self.failures: dict[str, str] = {}

    def is_pure(self, tensor: Any) -> bool:
        """Whether a tensor is a parameter, or computed from parameters alone."""
        return id(tensor) in self.pure

    def taken(self, given: list[Tensor]) -> list[Pure]:
        """Those of a call's tensors that are."""
        return [entry for one in given if (entry := self.pure.get(id(one))) is not None]

    def run(
        self,
        place: int,
        func: Function,
        called: tuple[Any, ...],
        named: dict[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        taken: list[Pure],
    ) -> Any:
        """Run a call that takes such tensors, and keep it if it is a use.

        Args:
            place: which of all calls it is.
            func: what is called.
            called: with which arguments.
            named: by name.
            args: the same, in their places.
            kwargs: those that are not by place.
            given: the tensors among them.
            taken: those that are computed from parameters alone.

        Returns:
            The result of the call.
        """
        for entry in taken:
            if entry.name is None and entry.version != entry.tensor._version:  # by a view of it, or what it views
                written = self._written.get(id(lies_in(entry.tensor)), frozenset())
                self._fail(entry.roots | written, "a tensor computed from it is changed in place")
        roots: frozenset[str] = frozenset().union(*(entry.roots for entry in taken))
        sources = self._sources(given) if roots else []  # before the call may change one in place
        twin: Any = func
        foreign = any(one.requires_grad and id(one) not in self.pure for one in given)
        if inplace(func):
            twin = out_of_place(func)
            if id(args[0]) in self.pure or twin is None:
                out = func(*called, **named)
                self._write(place, args[0], given, roots, func, foreign=foreign)
                return out
            before = args[0].detach().clone()
            out = func(*called, **named)
            sources += rewritten(args[0], sources)
            args = (before, *args[1:])
        else:
            out = func(*called, **named)
        made = apart(out, given) if len(taken) < len(given) else out
        outs = [(i, t) for i, t in enumerate(flat(made)) if isinstance(t, Tensor) and t.requires_grad]
        if outs:
            own = made is not out
            self._watch(
                _Candidate(place, func, twin, args, kwargs, given, outs, taken, roots, sources, foreign, own)
            )
        return made

    def _write(
        self, place: int, into: Tensor, given: list[Tensor], roots: frozenset[str], func: Function, *, foreign: bool
    ) -> None:
        """After a call that has changed a tensor computed from parameters alone, or written to another one: it is
        one then, where nothing of the examples goes into it. What was made of it before finds it changed."""
        entry = self.pure.get(id(into))
        call = self.log[place] if place < len(self.log) else None
        shared = call is not None and [one.shape for one in call.given] == [one.shape for one in given]
        if shared and not foreign and into.requires_grad and (entry is None or entry.name is None):
            storage = id(lies_in(into))
            self._written[storage] = roots | self._written.get(storage, frozenset())
            self.pure[id(into)] = Pure(into, self._written[storage], version=into._version)
        elif entry is not None:
            self._fail(roots, "a tensor computed from it is changed in place")
        elif into.requires_grad:
            self._fail(roots, f"it is written by {getattr(func, '__name__', func)} into another tensor")

    def _sources(self, given: list[Tensor]) -> list[Node]:
        """The graph's nodes behind the arguments, but for the parameters and what is computed from them alone."""
        return [node for one in given if id(one) not in self.pure and (node := one.grad_fn) is not None]

    def _fail(self, roots: frozenset[str], reason: str) -> None:
        for name in roots:
            self.failures.setdefault(name, reason)

    def _watch(self, found: "_Candidate") -> None:
        """Keep a call, or say why it can't be."""
        if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for _, t in found.outs):
            self._fail(found.roots, "it is used inside a function transform")
            return
        call = self.log[found.place] if found.place < len(self.log) else None
        if call is None or call.function != found.called:
            self._fail(found.roots, "the module makes other calls for a batch than for one example")
            return
        try:
            self._keep(call, found)
        except UndecidedAxis as undecided:
            self._fail(found.roots, f"{getattr(found.called, '__name__', found.called)}: {undecided}")

    def _keep(self, call: Call, found: "_Candidate") -> None:
        single_outs, outs = flat(call.out), found.outs
        try:
            singles = [single_outs[i] for i, _ in outs]
        except IndexError:
            raise UndecidedAxis("it gives another number of tensors for a batch") from None
        if all(t.shape == s.shape for (_, t), s in zip(outs, singles, strict=True)):
            share = self._share(call, found)
            if found.foreign and share is None:
                raise UndecidedAxis(f"its output {list(outs[0][1].shape)} does not grow with the examples")
            if share is not None:
                if found.roots:
                    self._enter(call, found, singles, share)
                return
            only = found.taken[0] if len(found.taken) == 1 else None
            self._pure_of_one.update(map(id, singles))
            for _, t in outs:
                if id(t) in self.pure:  # given back as it is, as of the type that it is of already
                    continue
                swapped = only is not None and is_transpose(found.function, only.tensor, t, found.args)
                self.pure[id(t)] = Pure(t, found.roots, None, only if swapped else None, t._version)
            return
        if found.roots:
            self._enter(call, found, singles)

    def _share(self, call: Call, found: "_Candidate") -> float | None:
        """What part each example has of a number computed from parameters alone, a penalty, that is added to one
        made of all examples: alone it has all of it, in their mean its part. None if this is no such sum."""
        numbers = [one for one in call.given if isinstance(one, Tensor)]
        if not found.foreign or found.function not in PENALISING or any(one.ndim for one in numbers):
            return None
        own = [one for one, many in zip(numbers, tensors_in(found.args), strict=True) if id(many) not in self.pure]
        if inplace(found.called):  # whose argument was copied before
            own = call.made
        before = self.log[: found.place]
        return 1.0 if any(is_sum(before, one, self._pure_of_one) for one in own) else 1 / self.n

    def _enter(self, call: Call, found: "_Candidate", singles: list[Any], share: float | None = None) -> None:
        outs, place = found.outs, found.place
        slots, hint = itertools.count(), list[Layout]()
        valueless = self.valueless(found.function)
        try:
            operands = self.beside.operands(call.args, found.args, place, slots, hint, valueless)
            keywords = {
                key: self.beside.operands(call.kwargs[key], value, place, slots, hint, valueless)
                for key, value in found.kwargs.items()
            }
        except (ValueError, KeyError) as error:
            raise UndecidedAxis("it takes other arguments for a batch") from error
        out_layouts = [
            self.beside.layout((place, -1 - i), s, t, hint) for (i, t), s in zip(outs, singles, strict=True)
        ]
        found_edges = [edge_of(t, found.given, changed=inplace(found.called)) for _, t in outs]
        edges = [edge or Edge(get_gradient_edge(t)) for edge, (_, t) in zip(found_edges, outs, strict=True)]
        self.uses.append(
            Use(
                found.function,
                operands,
                keywords,
                self.n,
                found.roots,
                edges,
                out_layouts,
                [tuple(s.shape) for s in singles],
                [i for i, _ in outs],
                place,
                found.sources,
                share=share,
                apart=found.apart,
            )
        )
