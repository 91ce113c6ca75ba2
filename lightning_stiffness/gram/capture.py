"""Every use of a parameter in a forward pass, seen by a ``TorchFunctionMode``.

One example alone gives the log of calls; the pass over many examples is watched beside it. A call that takes
a parameter, or a tensor computed from parameters alone, and whose output grows with the number of examples is
a *use*: its inputs and the gradient edge of its output are kept. Where the output does not grow, it is one
more tensor computed from parameters alone.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.axes import Layout, UndecidedAxis, decide, layouts
from lightning_stiffness.gram.calls import COMPOSITE, VIEWS, Call, opened
from lightning_stiffness.gram.coupling import Coupling
from lightning_stiffness.gram.drawing import DRAWING, draws
from lightning_stiffness.gram.in_place import inplace, out_of_place, rewritten
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.mixing import along_examples, mixes
from lightning_stiffness.gram.moves import INDEXING, moved, scrambles, turned, uneven
from lightning_stiffness.gram.placed import Placed
from lightning_stiffness.gram.placing import by_place
from lightning_stiffness.gram.tail import Tail
from lightning_stiffness.gram.uses import Function, Operand, Pure, Use, flat, is_transpose, tensors_in
from lightning_stiffness.gram.wiring import Wiring


class Watcher(TorchFunctionMode):
    """Collects the uses in a forward pass over ``n`` examples, beside the log of one example.

    Args:
        pure: the module's parameters.
        log: calls of the pass over one example.
        n: number of examples, at least 2.
        example: the position of that one example among them; None where it is not among them.
        known: layouts decided in an earlier pass, by call; extended here.
        valueless: functions whose rules need no input values.
        wiring: sees whether the calls take their tensors from where those of one example do.
        kept: to be told of calls that may write to parameters.

    ``functions`` is afterwards what was called, in order; ``failures`` says which parameters' uses are none that
    the log explains, and why; ``moved`` places of examples that calls may have put elsewhere,
    ``scrambled`` whether others may have, ``mixed`` how many calls made numbers of all examples together,
    ``unlike`` whether calls or their settings are others than those of one example, ``astray`` whether calls are,
    from some one on.
    """

    def __init__(
        self,
        pure: list[Pure],
        log: list[Call],
        n: int,
        example: int | None,
        known: dict[tuple[int, int], Layout],
        valueless: Callable[[Any], bool],
        wiring: Wiring,
        kept: KeptModule | None = None,
    ) -> None:
        super().__init__()
        self.kept = kept
        self.pure = {id(entry.tensor): entry for entry in pure}
        self.log, self.n, self.example, self.known, self.valueless = log, n, example, known, valueless
        self.wiring = wiring
        self.functions: list[Any] = []
        self.uses: list[Use] = []
        self.failures: dict[str, str] = {}
        self.moved: set[int] = set()
        self.scrambled = self.unlike = self.astray = False
        self.uneven: int | None = None
        """The first call that picks more entries of some examples than of others."""
        self.mixed = 0
        self.coupling = Coupling(n)
        """Follows what is made of all examples back to single ones."""
        self.along: set[str] = set()
        """Functions that make values of neighbours along the axis of the examples."""
        self.placed = Placed(n)
        """Follows what examples have by their place alone."""
        self.drew = False
        """Whether some call drew random numbers, otherwise than for one example."""
        self.tail: Tail | None = None
        """Follows what is made of all examples, where that is wanted."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a call and keep it if it is a use."""
        called, named = args, kwargs or {}  # as it is called; the rest looks for inputs in their places
        args, kwargs = by_place(func, args, named) if named else (args, named)
        place = len(self.functions)
        self.functions.append(func)
        call = self.log[place] if place < len(self.log) else None
        self.astray = self.astray or call is None or call.function != func
        if not self.unlike:
            self.unlike = call is None or not call.is_like(func, args, kwargs)
        given = tensors_in((args, kwargs) if kwargs else args)
        if call is not None and call.function == func and not self.wiring.differs:
            self.wiring.takes(call, given)
        if func in COMPOSITE:
            with self:
                return opened(func)(*args, **kwargs)
        if self.kept is not None:
            self.kept.about_to_call(func, args, kwargs)
        if func in INDEXING:
            self.moved.update(moved(func, args, kwargs, self.n))
            self.scrambled = self.scrambled or scrambles(func, args, self.n, self._is_pure)
            if self.uneven is None and uneven(func, args, self.n):
                self.uneven = place
        taken = [entry for one in given if (entry := self.pure.get(id(one))) is not None]
        if not taken:
            out = func(*called, **named)
            mixing = mixes(call, func, args, kwargs, out, self.n)
            self.mixed += mixing
            self.coupling.see(None if self.astray else call, func, given, out, mixing=mixing and not self.astray)
            return self._followed(call, func, args, kwargs, given, out)
        roots = frozenset().union(*(entry.roots for entry in taken))
        sources = self._sources(given) if roots else []  # before the call may change one in place
        twin: Any = func
        # what is changed in place has a copy in its stead, without a gradient
        foreign = any(one.requires_grad and id(one) not in self.pure for one in given[int(inplace(func)) :])
        if inplace(func):
            if id(args[0]) in self.pure:
                out = func(*called, **named)
                if isinstance(out, Tensor) and out.requires_grad:
                    self._fail(roots, "a tensor computed from it is changed in place")
                return self._followed(call, func, args, kwargs, given, out)
            twin = out_of_place(func)
            before = args[0].detach().clone() if twin is not None else None
            out = func(*called, **named)
            sources += rewritten(args[0], sources)
            args = (before, *args[1:])
        else:
            out = func(*called, **named)
        outs = [(i, t) for i, t in enumerate(flat(out)) if isinstance(t, Tensor) and t.requires_grad]
        if outs or (inplace(func) and out is None):
            if twin is None:
                self._fail(roots, f"it is written by {getattr(func, '__name__', func)} into another tensor")
            else:
                self._watch(place, twin, func, args, kwargs, outs, taken, roots, sources, foreign)
        self.coupling.see(None if self.astray else call, func, given, out, mixing=False)
        return self._followed(call, func, args, kwargs, given, out)

    def _followed(self, call: Call | None, func: Any, args: Any, kwargs: Any, given: list[Tensor], out: Any) -> Any:
        outs = tensors_in(out)
        if call is not None and call.function == func and not self.wiring.differs:
            self.wiring.gives(call, outs)
        self.placed.see(None if self.astray else call, func, given, outs)
        if func in DRAWING and not self.drew and draws(func, args, kwargs, out):
            self.drew = self.astray or call is None or not _is_same(call.out, out)
        if func in VIEWS and not self.unlike and call is not None and turned(call, outs):
            self.unlike = True
        if along_examples(call, func, args, kwargs, self.n):
            self.mixed += 1
            if any(one.requires_grad for one in outs):
                self.along.add(func.__name__)
        if self.tail is not None:
            self.tail.see(call, func, args, kwargs, out)
        return out

    def _is_pure(self, tensor: Any) -> bool:
        return id(tensor) in self.pure

    def _sources(self, given: list[Tensor]) -> list[Node]:
        """The graph's nodes behind the arguments, but for the parameters and what is computed from them alone."""
        return [node for one in given if id(one) not in self.pure and (node := one.grad_fn) is not None]

    def _fail(self, roots: frozenset[str], reason: str) -> None:
        for name in roots:
            self.failures.setdefault(name, reason)

    def _watch(
        self,
        place: int,
        twin: Function,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outs: list[tuple[int, Tensor]],
        taken: list[Pure],
        roots: frozenset[str],
        sources: list[Node],
        foreign: bool,
    ) -> None:
        if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for _, t in outs):
            self._fail(roots, "it is used inside a function transform")
            return
        call = self.log[place] if place < len(self.log) else None
        if call is None or call.function != func:
            self._fail(roots, "the module makes other calls for a batch than for one example")
            return
        try:
            self._keep(place, call, twin, args, kwargs, outs, taken, roots, sources, foreign)
        except UndecidedAxis as undecided:
            self._fail(roots, f"{getattr(func, '__name__', func)}: {undecided}")

    def _keep(
        self,
        place: int,
        call: Call,
        twin: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outs: list[tuple[int, Tensor]],
        taken: list[Pure],
        roots: frozenset[str],
        sources: list[Node],
        foreign: bool,
    ) -> None:
        single_outs = flat(call.out)
        try:
            singles = [single_outs[i] for i, _ in outs]
        except IndexError:
            raise UndecidedAxis("it gives another number of tensors for a batch") from None
        if all(t.shape == s.shape for (_, t), s in zip(outs, singles, strict=True)):
            if foreign:
                raise UndecidedAxis(f"its output {list(outs[0][1].shape)} does not grow with the examples")
            for _, t in outs:
                base = taken[0] if len(taken) == 1 and is_transpose(twin, taken[0].tensor, t, args) else None
                self.pure[id(t)] = Pure(t, roots, None, base, t._version)
            return
        if not roots:
            return
        slots, hint = itertools.count(), list[Layout]()
        valueless = self.valueless(twin)
        try:
            operands = self._operands(call.args, args, place, slots, hint, valueless)
            keywords = {
                key: self._operands(call.kwargs[key], value, place, slots, hint, valueless)
                for key, value in kwargs.items()
            }
        except (ValueError, KeyError) as error:
            raise UndecidedAxis("it takes other arguments for a batch") from error
        out_layouts = [self._layout((place, -1 - i), s, t, hint) for (i, t), s in zip(outs, singles, strict=True)]
        self.uses.append(
            Use(
                twin,
                operands,
                keywords,
                self.n,
                roots,
                [get_gradient_edge(t) for _, t in outs],
                out_layouts,
                [tuple(s.shape) for s in singles],
                [i for i, _ in outs],
                place,
                sources,
            )
        )

    def _operands(
        self, one: Any, many: Any, place: int, slots: Iterator[int], hint: list[Layout], valueless: bool
    ) -> Any:
        """The arguments for one example, with :class:`Operand` for tensors; ``hint`` takes their layouts.

        A method and no function within a function: one that calls itself would keep itself, and with it the
        whole pass, alive until Python looks for cycles.
        """
        if isinstance(many, tuple | list):
            pairs = zip(one, many, strict=True)
            return type(many)([self._operands(a, b, place, slots, hint, valueless) for a, b in pairs])
        if not isinstance(many, Tensor):
            return one
        layout = self._layout((place, next(slots)), one, many, [])
        if layout is not None:
            hint.append(layout)
        value = None if valueless else many
        return Operand(value, tuple(one.shape), layout, self.pure.get(id(many)), self.n, many._version)

    def _layout(self, key: tuple[int, int], one: Any, many: Tensor, hint: list[Layout]) -> Layout | None:
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


def _is_same(one: Any, many: Tensor) -> bool:
    """Whether all examples share what one has."""
    if torch._C._functorch.is_functorch_wrapped_tensor(many) or not isinstance(one, Tensor):
        return False
    return one.shape == many.shape and torch.equal(one.detach(), many.detach())
