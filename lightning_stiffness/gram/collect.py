"""One forward and backward pass over a batch of examples → per-example gradients of each parameter."""

from collections.abc import Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import UndecidedAxis
from lightning_stiffness.gram.backward import HIDDEN_HOOKS, gradients, grow
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.calls import refuse_operators
from lightning_stiffness.gram.capture import Watcher
from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.derived import pushed_back, resolved
from lightning_stiffness.gram.devices import ROOM
from lightning_stiffness.gram.keeper import Keeper
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.order import ELSEWHERE, out_of_order, weights_of
from lightning_stiffness.gram.parts import Dense, Part
from lightning_stiffness.gram.paths import HIDDEN, hidden
from lightning_stiffness.gram.problem import EngineRefusal, Examples, LossError, Problem
from lightning_stiffness.gram.reference import Reference, eager
from lightning_stiffness.gram.references import Piece, References
from lightning_stiffness.gram.rules import parts_of, valueless
from lightning_stiffness.gram.scaled import times
from lightning_stiffness.gram.shown import Shown
from lightning_stiffness.gram.sure import Sure
from lightning_stiffness.gram.tail import Tail
from lightning_stiffness.gram.uses import Pure, StaleOperand, Use
from lightning_stiffness.gram.values import agree
from lightning_stiffness.gram.wiring import Wiring


class Collector:
    """Collects parts of a problem's parameters, beside a reference.

    Args:
        problem: module and loss.
        reference: one example alone.
        room: bytes for gradients formed at a time.
    """

    def __init__(self, problem: Problem, reference: Reference, room: int = ROOM):
        self.problem, self.reference, self.room = problem, reference, room
        self.references = References(problem, reference)
        self.failures: dict[str, str] = {}
        self.derived = False
        """Whether some gradients were pushed back through tensors computed from parameters."""
        self.companions: list[Reference] = []
        """Examples alone with whose values those in a batch are compared."""
        self.met: set[int] = set()
        """The positions of those that were found to be the same in what was collected last."""
        self.form = "each"
        """What is known of the loss of a batch: one for each example, or their mean or sum."""
        self.sure: Sure | None = None
        """The same where it is known for sure, with the weights of examples."""
        self.ties = False
        """Whether their gradients may differ where choices between equals fall otherwise."""
        self.first = False
        """Whether it is their first time: then each gradient has to tell something."""
        self.tied: set[str] = set()
        """The parameters whose gradients do."""
        self.shown = Shown()
        """What the passes over the pieces have shown."""

    def collect(self, names: list[str], examples: Examples, offset: int, most: int) -> Collected:
        """Parts of the parameters ``names`` for some examples.

        Args:
            names: which parameters.
            examples: some of the reference's examples.
            offset: position of the first of them among those.
            most: examples in a pass.

        Raises:
            EngineRefusal: if the module cannot take a batch.
            LossError: if the loss of a batch has the wrong shape.
        """
        out = Collected({name: [] for name in names}, {name: {} for name in names})
        pieces = list(examples.pieces(most))
        self.met.clear()
        for start, size, batch in pieces:
            if size == 1:
                gradients = example_gradient(self.problem, examples.one(start), offset + start)
                found = {name: [_whole(gradients[name])] for name in names}
            else:
                found = self._pass(out, names, Piece(examples, offset, start, size, batch))
                if self.problem.scale is not None:
                    found = {n: [times(p, self.problem.scale[n]) for p in parts] for n, parts in found.items()}
            for name in names:
                parts = found.get(name, [])
                out.parts[name].append([p.compact() for p in parts] if len(pieces) > 1 else parts)
            out.sizes.append(size)
        return out

    def bytes_per_example(self, names: list[str], every: Examples) -> dict[str, int]:
        """Bytes that each parameter's gradients take for one example, in the form they are kept in."""
        place = self.reference.position
        low = place if place in accumulate(every.sizes, initial=0) else place - 1
        collected = self.collect(names, every.part(low, low + 2), low, 2)
        self.shown = Shown()  # these two are no batch of the measurement
        return {
            name: sum(min(part.bytes_per_example(), part.dense_bytes()) for part in collected.parts[name][0])
            for name in names
        }

    def _pass(self, out: Collected, names: list[str], piece: Piece) -> dict[str, list[Part]]:
        parameters = {name: self.problem.parameters[name] for name in names}
        reference: Reference | None = self.references.of(piece)
        again = False
        while reference is not None:
            given = self.problem.given(piece.batch)
            watcher = self._watcher(parameters, piece, reference, given)
            self.problem.noise.seed(piece.offset + piece.start, 1)  # the same numbers in every pass over the piece
            with self.problem.kept(), eager():
                loss = self._forward(watcher, given, piece.size)
                refuse_operators(watcher.functions)
                if watcher.hidden:
                    raise EngineRefusal(HIDDEN_HOOKS)
                strange = bool(watcher.keeper.failures) and not again
                reference = self.references.better(piece, watcher.functions, reference) if strange else None
                again = True
                if reference is None:
                    out.scalar |= checked_loss(loss, piece.size)
                    if not loss.requires_grad:
                        return {}
                    uses = watcher.keeper.uses
                    self.shown.note(piece, watcher, loss, self.reference)
                    for name, reason in watcher.keeper.failures.items():
                        self.failures.setdefault(name, reason)
                    self._fail(hidden(loss, uses, parameters), HIDDEN)
                    grads = iter(self._taken_back(watcher, loss, piece.size))
                    for use in uses:
                        use.gradients, use.room = [next(grads) for _ in use.edges], self.room
                    if watcher.scrambled:
                        self._look_at_order(piece, watcher, loss)
                    losses = loss.detach()
                    self._compare(piece, watcher.functions, uses, losses)
            del loss
        first = not out.sizes
        found: dict[str, list[Part]] = {}
        with torch.no_grad():
            for use in uses:
                self._enter(use, found, parameters, out.uses if first else None)
                use.gradients = []
        if self.failures:  # what is not understood of some parameters may be what examples do to each other
            self.shown.doubt(piece, losses)
        return found

    def _taken_back(self, watcher: Watcher, loss: Tensor, size: int) -> tuple[Tensor | None, ...]:
        """The gradients of the uses' outputs."""
        uses, by_own = watcher.keeper.uses, watcher.hooked or self.reference.strange
        by_own = by_own and loss.numel() < size
        hooked = watcher.hooked
        found = gradients(loss.sum(), uses, keep=watcher.scrambled or by_own, hooked=hooked)
        if by_own:
            factor = 1 << (size - 1).bit_length()  # a power of two, so that nothing is rounded
            larger = gradients(factor * loss.sum(), uses, keep=watcher.scrambled, hooked=hooked)
            self.shown.by_size |= not grow(found, larger, factor)
        return found

    def _look_at_order(self, piece: Piece, watcher: Watcher, loss: Tensor) -> None:
        """After calls that may mix examples up: parameters fall back where a row is not its own example's."""
        uses, uneven, hooked = watcher.keeper.uses, watcher.uneven, watcher.hooked
        if loss.numel() < piece.size:  # of a sum there is no telling: a few are looked at by themselves
            for use in uses:
                if uneven is not None and use.place > uneven:
                    self._fail(use.roots, ELSEWHERE)
            self.shown.moved |= {piece.offset + piece.start + k * piece.size // 3 for k in range(3)}
            return
        weights = weights_of(loss.detach())
        grads = iter(gradients((weights * loss).sum(), uses, keep=True, hooked=hooked))
        for use in uses:
            larger = partial(_of_multiple, loss, use, hooked)
            if out_of_order(use, [next(grads) for _ in use.edges], weights, larger):
                self._fail(use.roots, ELSEWHERE)

    def _compare(self, piece: Piece, functions: list[Any], uses: list[Use], losses: Tensor) -> None:
        """Hold the companions that are in a piece against themselves."""
        places = [(alone, piece.place(alone.position)) for alone in self.companions]
        inside = [(alone, place) for alone, place in places if place is not None]
        each = losses.numel() == piece.size
        if not inside or each != (self.form == "each"):
            return
        sure = self.sure or Sure(self.form)
        factors = [sure.factor(piece.offset + piece.start, piece.size, place) for _, place in inside]
        losses_of = losses if each else None
        tied = agree(inside, functions, uses, losses_of, self.ties, factors, each_tells=self.first)
        if tied is not None:
            self.met |= {alone.position for alone, _ in inside}
            self.tied |= tied

    def _watcher(
        self, parameters: Mapping[str, Tensor], piece: Piece, reference: Reference, given: Batch
    ) -> Watcher:
        labels = {id(p): name for name, p in parameters.items()}
        pure = [
            Pure(p, frozenset({labels[id(p)]}) if id(p) in labels else frozenset(), labels.get(id(p), ""), None, 0)
            for part in self.problem.parts
            for p in part._parameters.values()
            if p is not None and p.requires_grad
        ]
        among = piece.place(reference.position)
        wiring = Wiring(self.problem.module, reference.batch, given)
        kept = self.problem.module_kept
        keeper = Keeper(pure, reference.calls, piece.size, among, reference.known, valueless)
        watcher = Watcher(keeper, wiring, kept)
        if reference.is_number and self.sure is None:
            watcher.tail = Tail(piece.size)
        return watcher

    def _forward(self, watcher: Watcher, given: Batch, size: int) -> Tensor:
        """The loss of a batch, its uses seen."""
        try:
            with watcher:
                return self.problem.loss_fn(self.problem.module, given)
        except LossError:
            raise
        except Exception as error:
            raise EngineRefusal(f"it takes no batch of {size}: {type(error).__name__}: {error}") from error

    def _enter(
        self,
        use: Use,
        found: dict[str, list[Part]],
        parameters: dict[str, torch.nn.Parameter],
        counts: dict[str, dict[str, int]] | None,
    ) -> None:
        """Add the parts of one use."""
        roots = use.roots & parameters.keys()
        title = getattr(use.function, "__name__", str(use.function)).strip("_")
        if counts is not None:
            for name in roots:
                counts[name][title] = counts[name].get(title, 0) + 1
        try:
            for operand, part in parts_of(use):
                assert operand.pure is not None
                pure, part = resolved(operand.pure, part)
                if pure.name:
                    found.setdefault(pure.name, []).append(part)
                elif pure.roots:
                    self.derived = True
                    for name, pushed in pushed_back(pure, part, parameters, use.room).items():
                        found.setdefault(name, []).append(pushed)
        except (StaleOperand, UndecidedAxis) as error:
            self._fail(roots, f"{title}: {error}")
        except (RuntimeError, TypeError, ValueError) as error:
            # a rule that meets what it does not know must not stop the others
            self._fail(roots, f"{title}: {type(error).__name__}: {str(error).splitlines()[0]}")

    def _fail(self, names: frozenset[str], reason: str) -> None:
        for name in names:
            self.failures.setdefault(name, reason)


def _of_multiple(loss: Tensor, use: Use, hooked: bool, times: float) -> tuple[Tensor | None, ...]:
    """The gradients of a use for so many times the loss."""
    return gradients(times * loss.sum(), [use], keep=True, hooked=hooked)


def _whole(gradient: Tensor) -> Part:
    return Dense(gradient.reshape(1, -1), gradient.shape[0] if gradient.ndim else 1)


def checked_loss(loss: object, size: int) -> bool:
    """Whether the loss of a batch is one number (a mean or a sum), and not one for each example.

    Raises:
        LossError: if it is neither.
    """
    if isinstance(loss, Tensor) and loss.is_floating_point():
        if loss.numel() == 1 and size > 1:
            return True
        if loss.numel() == size and loss.ndim and loss.shape[0] == size:
            return False
    got = f"a {loss.dtype} tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise LossError(
        f"expected loss_fn to return per-example losses [{size}], or their mean or sum, for {size} examples, got "
        f"{got}. Reduce over everything but the examples, as with .flatten(1).mean(1)"
    )
