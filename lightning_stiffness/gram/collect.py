"""One forward and backward pass over a batch of examples → per-example gradients of each parameter."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_stiffness.gram.axes import Layout, UndecidedAxis
from lightning_stiffness.gram.batch import Batch
from lightning_stiffness.gram.capture import COMPOSITE, Call, Recorder, Watcher
from lightning_stiffness.gram.contract import ROOM
from lightning_stiffness.gram.derived import pushed_back, resolved
from lightning_stiffness.gram.few import Few
from lightning_stiffness.gram.loop import by_name, example_gradient, has_reentrant_checkpoint
from lightning_stiffness.gram.parts import Dense, Part
from lightning_stiffness.gram.problem import EngineRefusal, Examples, LossError, Problem
from lightning_stiffness.gram.rules import is_factored, parts_of, valueless
from lightning_stiffness.gram.scaled import times
from lightning_stiffness.gram.state import kept_state
from lightning_stiffness.gram.uses import Pure, StaleOperand, Use, flat


@dataclass
class Collected:
    """Per-example gradients of some parameters for some examples, in the order of the examples."""

    parts: dict[str, list[list[Part]]]
    """Parameter → for each piece of the examples, the parts of the parameter's uses."""
    uses: dict[str, dict[str, int]]
    """Parameter → torch function → number of calls, in the first piece."""
    sizes: list[int] = field(default_factory=list)
    """Examples in each piece."""
    scalar: bool = False
    """Whether the loss of a batch is one number."""

    def copy(self) -> "Collected":
        """The same parts, to be emptied apart from these."""
        return Collected(dict(self.parts), self.uses, self.sizes, self.scalar)

    def compact(self) -> "Collected":
        """The same gradients, each in its smaller form."""
        parts = {name: [[part.compact() for part in one] for one in pieces] for name, pieces in self.parts.items()}
        return Collected(parts, self.uses, self.sizes, self.scalar)

    def beside(self, other: "Collected") -> "Collected":
        """The examples of both."""
        parts = {name: pieces + other.parts[name] for name, pieces in self.parts.items()}
        return Collected(parts, self.uses, self.sizes + other.sizes, self.scalar or other.scalar)

    def products(self, names: list[str], positions: list[int], device: torch.device, room: int = ROOM) -> Tensor:
        """Inner products ``[p, k, k]`` of some parameters' gradients for a few examples."""
        indices: list[Tensor | None] = []
        offset = 0
        for size in self.sizes:
            inside = [p - offset for p in positions if offset <= p < offset + size]
            indices.append(torch.tensor(inside, device=device) if inside else None)
            offset += size
        few = Few(indices, device, room)
        return torch.stack([few.products(self.parts[name]) for name in names])


@dataclass
class Reference:
    """One example alone: its calls, by which the examples' axis is told, and its gradients."""

    position: int
    """Which of all examples."""
    calls: list[Call]
    gradients: dict[str, Tensor]
    known: dict[tuple[int, int], Layout] = field(default_factory=dict)

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
    """Compiled modules run as they were written: a compiled graph shows no calls."""
    if hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def refer(problem: Problem, examples: Examples, position: int) -> Reference:
    """Trace one example alone.

    Raises:
        LossError: if the loss is none.
    """
    recorder = Recorder()
    piece = examples.part(position, position + 1).batches[0]
    parameters = list(problem.parameters.values())
    grads: tuple[Tensor | None, ...] = (None,) * len(parameters)
    alone = examples.singles is not None  # what is alone may be built otherwise than what is sliced
    with kept_state(problem.module), eager():
        with recorder:
            loss = problem.example_loss(piece)
        alone = alone or has_reentrant_checkpoint(loss)
        if loss.requires_grad and not alone:
            try:
                grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            except RuntimeError:  # the loop knows what to do, or what to say
                alone = True
    if alone:
        return Reference(position, recorder.calls, example_gradient(problem, examples.one(position)))
    return Reference(position, recorder.calls, by_name(problem, grads))


class Collector:
    """Collects parts of a problem's parameters, beside a reference.

    Args:
        problem: module and loss.
        reference: one example alone.
        room: bytes for gradients formed at a time.
    """

    def __init__(self, problem: Problem, reference: Reference, room: int = ROOM):
        self.problem, self.reference, self.room = problem, reference, room
        self.failures: dict[str, str] = {}

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
        for start, size, batch in pieces:
            if size == 1:
                gradients = example_gradient(self.problem, examples.one(start))
                found = {name: [_whole(gradients[name])] for name in names}
            else:
                at = self.reference.position - offset - start
                found = self._pass(out, names, batch, size, at if 0 <= at < size else None)
                if self.problem.scale is not None:
                    found = {n: [times(p, self.problem.scale[n]) for p in parts] for n, parts in found.items()}
            for name in names:
                parts = found.get(name, [])
                out.parts[name].append([p.compact() for p in parts] if len(pieces) > 1 else parts)
            out.sizes.append(size)
        return out

    def bytes_per_example(self, names: list[str], every: Examples) -> dict[str, int]:
        """Bytes that each parameter's gradients take for one example, in the form they are kept in."""
        low = self.reference.position - 1
        collected = self.collect(names, every.part(low, low + 2), low, 2)
        return {
            name: sum(min(part.bytes_per_example(), part.dense_bytes()) for part in collected.parts[name][0])
            for name in names
        }

    def _pass(
        self, out: Collected, names: list[str], batch: Batch, size: int, example: int | None
    ) -> dict[str, list[Part]]:
        chosen = set(names)
        parameters = {name: p for name, p in self.problem.parameters.items() if name in chosen}
        labels = {id(p): name for name, p in parameters.items()}
        pure = [
            Pure(p, frozenset({labels[id(p)]}) if id(p) in labels else frozenset(), labels.get(id(p), ""), None, 0)
            for p in self.problem.module.parameters()
            if p.requires_grad
        ]
        watcher = Watcher(pure, self.reference.calls, size, example, self.reference.known, valueless)
        with kept_state(self.problem.module), eager():
            try:
                with watcher:
                    loss = self.problem.loss_fn(self.problem.module, batch)
            except LossError:
                raise
            except Exception as error:
                raise EngineRefusal(f"it takes no batch of {size}: {type(error).__name__}: {error}") from error
            out.scalar |= checked_loss(loss, size)
            uses = watcher.uses
            if not loss.requires_grad:
                return {}
            edges = [edge for use in uses for edge in use.edges]
            try:
                grads = iter(torch.autograd.grad(loss.sum(), edges, allow_unused=True) if edges else ())
            except Exception as error:
                raise EngineRefusal(f"its backward pass failed: {type(error).__name__}: {error}") from error
            del loss
        for use in uses:
            use.gradients, use.room = [next(grads) for _ in use.edges], self.room
        first = not out.sizes
        found: dict[str, list[Part]] = {}
        with torch.no_grad():
            for use in uses:
                self._enter(use, found, parameters, out.uses if first else None)
                use.gradients = []
        for name, reason in watcher.failures.items():
            self.failures.setdefault(name, reason)
        return found

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
