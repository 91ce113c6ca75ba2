"""A pass over many examples, seen by a ``TorchFunctionMode`` beside the log of one example alone."""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram.calls import COMPOSITE, HOOKING, NODE, VIEWS, Call, is_typing, opened, unhooked
from lightning_stiffness.gram.coupling import Coupling
from lightning_stiffness.gram.drawing import DRAWING, draws
from lightning_stiffness.gram.keeper import Keeper
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.mixing import along_examples, mixes
from lightning_stiffness.gram.moves import INDEXING, moved, scrambles, turned, uneven, writes
from lightning_stiffness.gram.placed import Placed
from lightning_stiffness.gram.placing import by_place
from lightning_stiffness.gram.tail import Tail
from lightning_stiffness.gram.told import plain
from lightning_stiffness.gram.uses import rebuilt, tensors_in
from lightning_stiffness.gram.wiring import Wiring


class Watcher(TorchFunctionMode):
    """Collects the uses in a forward pass over ``n`` examples, beside the log of one example.

    Args:
        keeper: keeps the uses of parameters.
        wiring: sees whether the calls take their tensors from where those of one example do.
        kept: to be told of calls that may write to parameters.

    ``functions`` is afterwards what was called, in order; ``moved`` places of examples that calls may have put
    elsewhere, ``scrambled`` whether others may have, ``mixed`` how many calls made numbers of all together,
    ``unlike`` whether calls or their settings are others than those of one example, ``astray`` whether calls are,
    from some one on.
    """

    def __init__(self, keeper: Keeper, wiring: Wiring, kept: KeptModule | None = None) -> None:
        super().__init__()
        self.keeper, self.wiring, self.kept = keeper, wiring, kept
        self.log, self.n = keeper.log, keeper.n
        self.functions: list[Any] = []
        self.moved: set[int] = set()
        self.scrambled = self.unlike = self.astray = False
        self.uneven: int | None = None
        """The first call that picks more entries of some examples than of others."""
        self.mixed = 0
        self.written = False
        """Whether some of them write to rows by an index."""
        self.coupling = Coupling(self.n)
        """Follows what is made of all examples back to single ones."""
        self.along: set[str] = set()
        """Functions that make values of neighbours along the axis of the examples."""
        self.placed = Placed(self.n, self.coupling.asking.lent)
        """Follows what examples have by their place alone."""
        self.hooked = self.hidden = False
        """Whether functions are hooked to gradients; and whether they may be where no call shows it."""
        self.drew = False
        """Whether some call drew random numbers, otherwise than for one example."""
        self.tail: Tail | None = None
        """Follows what is made of all examples, where that is wanted."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a call and keep it if it is a use."""
        if func in HOOKING and unhooked(func, sys._getframe(1)):
            return func(*args)
        called, named = args, kwargs or {}  # as it is called; the rest looks for inputs in their places
        args, kwargs = by_place(func, args, named) if named else (args, named)
        if self.coupling.asking.told:
            args, kwargs = rebuilt(args, plain), rebuilt(kwargs, plain)
        place = len(self.functions)
        self.functions.append(func)
        call = self.log[place] if place < len(self.log) else None
        self.astray = self.astray or call is None or call.function != func
        if not self.unlike:
            self.unlike = call is None or not call.is_like(func, args, kwargs)
        given = tensors_in((args, kwargs) if kwargs else args)
        if call is not None and call.function == func and not self.wiring.differs:
            self.wiring.takes(call, given)
            if self.wiring.strangers:
                self.placed.hold(self.wiring.strangers)
        if func in HOOKING:
            self.hooked = True
            # torch's own hooks of modules ask for nodes too, and show themselves among them
            self.hidden |= func == NODE and sys._getframe(1).f_globals.get("__name__") != "torch.utils.hooks"
        full = args, kwargs
        if is_typing(func, args):
            args, kwargs = () if func is Tensor.new_tensor else args[:1], {}
            given = tensors_in(args)
        if func in COMPOSITE:
            with self:
                return opened(func)(*args, **kwargs)
        if self.kept is not None:
            self.kept.about_to_call(func, args, kwargs)
        if func in INDEXING:
            self.moved.update(moved(func, args, kwargs, self.n))
            self.scrambled = self.scrambled or scrambles(func, args, self.n, self.keeper.is_pure)
            if self.uneven is None and uneven(func, args, self.n):
                self.uneven = place
        taken = self.keeper.taken(given)
        seen, mixing = None if self.astray else call, False
        if taken:
            out = self.keeper.run(place, func, called, named, *full, given, taken)
        else:
            out = func(*called, **named)
            mixing = mixes(call, func, args, kwargs, out, self.n)
            self.mixed += mixing
            self.written = self.written or (mixing and writes(func, args))
        out = self.coupling.see(seen, func, given, out, mixing=mixing and not self.astray)
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


def _is_same(one: Any, many: Tensor) -> bool:
    """Whether all examples share what one has."""
    if torch._C._functorch.is_functorch_wrapped_tensor(many) or not isinstance(one, Tensor):
        return False
    return one.shape == many.shape and torch.equal(one.detach(), many.detach())
