"""What every engine is given: the gradients wanted (module, loss, parameters) and the examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.bare import unhook
from lightning_stiffness.gram.batch import Batch, batch_size, detached, fresh, take
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.noise import Noise

LossFn = Callable[[nn.Module, Batch], Tensor]
"""``loss_fn(module, batch)``: per-example losses ``[n]``, or their mean or sum."""


class EngineRefusal(Exception):
    """An engine can't treat this module; another engine may. The message says what stood in the way."""


class LossError(ValueError):
    """The loss function did not return a loss."""


TOO_FEW = "more than 1 value per channel when training"
"""What torch says of a BatchNorm in training mode."""

ALONE = (
    "the loss of {} can't be computed for one example alone, which is what is measured: {}. Modules are measured "
    "in evaluation mode: leave out of the loss what puts a BatchNorm back in training mode, as module.train(), or "
    "keep its running statistics"
)

ENDING = [Tensor.numel, Tensor.is_floating_point, Tensor.reshape]
"""The calls by which the loss of one example is checked at the end."""


@dataclass(frozen=True)
class Problem:
    """The gradients wanted: of ``loss_fn(module, example)`` with respect to ``parameters``."""

    module: nn.Module
    loss_fn: LossFn
    parameters: dict[str, nn.Parameter]
    """Each trainable parameter once, under its first name."""
    share: Any = None
    """The processes that work together on the Gram (:class:`lightning_stiffness.gram.share.Share`)."""
    scale: Mapping[str, Tensor] | None = None
    """Parameter → what its gradients are multiplied with, of its shape or one number; None for nothing."""
    layers: Mapping[str, Sequence[str]] | None = None
    """Layer → its parameters, for a Gram of each; None for that of all parameters together."""
    noise: Noise = field(default_factory=Noise)
    """The random numbers that the loss draws, the same for every part of the problem."""
    module_kept: KeptModule | None = None
    """What keeps the module against its own forward pass; None to make one for each loss."""

    def given(self, batch: Batch) -> Batch:
        """A batch for a loss to do with as it likes: a copy, if losses write to theirs."""
        kept = self.module_kept
        return fresh(batch, copied=kept is not None and kept.writes_to_batch)

    @property
    def keeps_itself(self) -> bool:
        """Whether the loss function sees to it that each loss meets the same parameters, as the callback's does."""
        return bool(getattr(self.loss_fn, "keeps_parameters", False))

    @property
    def losses(self) -> list[LossFn]:
        """The loss function, if what it holds is to be kept as what the module holds is."""
        return [] if self.keeps_itself else [self.loss_fn]

    @cached_property
    def parts(self) -> list[nn.Module]:
        """The module and its submodules: to look for them takes longer than most of what is asked of them."""
        return [*self.module.modules()]

    @property
    def device(self) -> torch.device:
        """That of the first parameter."""
        return next(iter(self.parameters.values())).device

    def of(self, names: Iterable[str]) -> "Problem":
        """The same gradients with respect to some of the parameters, in this process alone."""
        return replace(self, parameters={n: self.parameters[n] for n in names}, share=None, layers=None)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """For the time of a loss and its gradients: at the end the module is what it was, so that each meets the
        same one.

        Raises:
            LossError: if the loss has changed a parameter in a way that can't be undone.
        """
        kept = self.module_kept or KeptModule(self.parts)
        try:
            yield
            changed = kept.unseen()
        finally:
            kept.put_back()
        if changed is not None and not self.keeps_itself:
            name = next(
                (name for name, one in self.module.named_parameters() if one is changed), "of another module"
            )
            raise LossError(
                f"the loss of {type(self.module).__name__} changes its parameter {name!r} in place, in a way that "
                "can't be seen, so that each example would meet another network: let it do so in training mode "
                "alone (if self.training), or outside of the loss. The parameter is as the loss has left it"
            )

    def watched(self) -> AbstractContextManager[Any]:
        """Inside, it is seen which parameters a loss is about to change."""
        return nullcontext() if self.module_kept is None else self.module_kept.watched()

    def unhook(self) -> None:
        """Leave out what a forward pass has hooked to its parameters' gradients."""
        for parameter in self.parameters.values():
            unhook(parameter)

    def by_layer(self) -> dict[str, list[str]]:
        """Layer → its parameters; all of them under ``""`` where no layers are asked for."""
        if self.layers is None:
            return {"": list(self.parameters)}
        return {layer: list(names) for layer, names in self.layers.items()}

    def example_loss(self, example: Batch, position: int | None = None) -> Tensor:
        """The loss of a batch of one example, as a scalar.

        Args:
            example: the batch.
            position: of the example among all, for its random numbers; None for whatever numbers come.

        Raises:
            LossError: if the loss is no real floating-point tensor of one element.
        """
        if position is not None:
            self.noise.seed(position)
        try:
            loss = self.loss_fn(self.module, example)
        except ValueError as error:
            if TOO_FEW in str(error):
                raise LossError(ALONE.format(type(self.module).__name__, error)) from error
            raise
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
            got = f"a {loss.dtype} tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise LossError(
                f"expected loss_fn to return a floating-point loss of shape [] or [1] for one example, got {got}. "
                "Return per-example losses [n], or their mean or sum"
            )
        return loss.reshape(())


@dataclass(frozen=True)
class Examples:
    """Examples in order, held as one or more collated batches."""

    batches: tuple[Batch, ...]
    sizes: tuple[int, ...]
    singles: Sequence[Batch] | None = None
    """Batches of one example each, where slicing the batches would not give them (graphs, padding)."""

    @classmethod
    def of(cls, *batches: Batch) -> "Examples":
        """The examples of these batches, one after the other.

        Raises:
            ValueError: if a batch has tensors of different lengths, or no example.
        """
        sizes = tuple(batch_size(batch) for batch in batches)
        if 0 in sizes:
            raise ValueError("expected a batch with at least one example, got an empty one")
        return cls(tuple(detached(batch) for batch in batches), sizes)

    @classmethod
    def joined(cls, parts: "Sequence[Examples]") -> "Examples":
        """The examples of several sets, one after the other."""
        singles = None
        if any(part.singles is not None for part in parts):
            singles = [part.one(i) for part in parts for i in range(len(part))]
        batches = tuple(batch for part in parts for batch in part.batches)
        return cls(batches, tuple(size for part in parts for size in part.sizes), singles)

    def __len__(self) -> int:
        return sum(self.sizes)

    def one(self, i: int) -> Batch:
        """Example ``i`` as a batch of one."""
        if self.singles is not None:
            return self.singles[i]
        for batch, size in zip(self.batches, self.sizes, strict=True):
            if i < size:
                return take(batch, slice(i, i + 1), size)
            i -= size
        raise IndexError(i)

    def pieces(self, most: int) -> Iterator[tuple[int, int, Batch]]:
        """Batches of at most ``most`` examples, each with the position of its first one and its size.

        A batch is divided evenly, so that no piece is much smaller than the others.
        """
        start = 0
        for batch, size in zip(self.batches, self.sizes, strict=True):
            count = -(-size // most)
            for low, high in ((i * size // count, (i + 1) * size // count) for i in range(count)):
                piece = batch if (low, high) == (0, size) else take(batch, slice(low, high), size)
                yield start + low, high - low, piece
            start += size

    def part(self, start: int, stop: int) -> "Examples":
        """The examples from ``start`` up to ``stop``."""
        batches, sizes, offset = [], [], 0
        for batch, size in zip(self.batches, self.sizes, strict=True):
            low, high = max(start - offset, 0), min(stop - offset, size)
            if low < high:
                batches.append(take(batch, slice(low, high), size))
                sizes.append(high - low)
            offset += size
        singles = None if self.singles is None else self.singles[start:stop]
        return Examples(tuple(batches), tuple(sizes), singles)
