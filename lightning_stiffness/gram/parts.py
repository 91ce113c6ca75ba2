r"""Per-example gradients of one parameter, held in the form that is smallest, and their inner products.

A part stands for gradients :math:`G_i`, one for each of ``n`` examples, of a parameter seen as a matrix
``[R, C]``. It gives them densely, some rows ``R`` at a time, and may know shorter ways to inner products.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.devices import ROOM, is_far
from lightning_stiffness.gram.patches import from_patches, patches_of


class Part(ABC):
    """Gradients of a parameter ``[R, C]`` for ``n`` examples."""

    n: int
    rows: int
    columns: int
    formula: str
    """Name of the form, for the plan."""

    @abstractmethod
    def dense(self, low: int, high: int) -> Tensor:
        """Rows ``low`` to ``high`` of the gradients: ``[n, (high − low)·C]``."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors it holds, each ``[n, …]``."""

    @abstractmethod
    def with_tensors(self, tensors: Sequence[Tensor]) -> "Part":
        """The same part with other tensors, for other examples."""

    def take(self, index: slice | Tensor) -> "Part":
        """The part for some of the examples."""
        return self.with_tensors([t[index] for t in self.tensors()])

    def bytes_per_example(self) -> int:
        """Bytes that it holds for each example."""
        return sum(t[0].numel() * t.element_size() for t in self.tensors()) if self.n else 0

    def dense_bytes(self) -> int:
        """Bytes of one example's gradient."""
        return self.rows * self.columns * self.tensors()[0].element_size()

    def compact(self) -> "Part":
        """The form to keep when the graph is dropped: whichever is smaller, itself or the dense gradients."""
        if self.bytes_per_example() > self.dense_bytes():
            return Dense(self.dense(0, self.rows), self.rows)
        return self.with_tensors([_own(t) for t in self.tensors()])


def _own(tensor: Tensor) -> Tensor:
    # A view would keep all of its base alive.
    return tensor if tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size() else tensor.clone()


class Dense(Part):
    """The gradients themselves, ``[n, R·C]``.

    Args:
        gradient: ``[n, …]``, flattened.
        rows: ``R``.
    """

    formula = "G Gᵀ"

    def __init__(self, gradient: Tensor, rows: int = 1):
        self.gradient = gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None]
        self.n, width = self.gradient.shape
        self.rows = rows
        self.columns = width // rows if rows else 0

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients."""
        return self.gradient[:, low * self.columns : high * self.columns]

    def tensors(self) -> tuple[Tensor, ...]:
        """The gradients."""
        return (self.gradient,)

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Dense":
        """Other gradients of the same parameter."""
        return Dense(tensors[0], self.rows)


class Outer(Part):
    r"""Sums of outer products :math:`G_i = \sum_t l_{it} r_{it}^\top`, as of every linear map.

    Args:
        left: ``[n, T, R]``.
        right: ``[n, T, C]``.
    """

    formula = "(L Lᵀ) ∘ (R Rᵀ)"

    def __init__(self, left: Tensor, right: Tensor):
        self.left, self.right = left, right
        self.n, self.positions, self.rows = left.shape
        self.columns = right.shape[2]

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients."""
        left = self.left[:, :, low:high]
        if self.positions == 1:
            return (left[:, 0, :, None] * self.right[:, 0, None, :]).flatten(1)
        return torch.bmm(left.transpose(1, 2), self.right).flatten(1)

    def tensors(self) -> tuple[Tensor, ...]:
        """Both factors."""
        return self.left, self.right

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Outer":
        """Other factors of the same parameter."""
        return Outer(*tensors)

    def transposed(self) -> "Outer":
        """The gradients with respect to the transposed parameter."""
        return Outer(self.right, self.left)


class Lookup(Part):
    r"""Sums of rows at indices :math:`G_i = \sum_t e_{k_{it}} \delta_{it}^\top`, as of an embedding.

    Args:
        index: ``[n, T]``, which row.
        delta: ``[n, T, C]``, what is added to it.
        rows: ``R``.
    """

    formula = "Σ [k = k′] δ·δ′"

    def __init__(self, index: Tensor, delta: Tensor, rows: int):
        self.index, self.delta, self.rows = index, delta, rows
        self.n, self.positions, self.columns = delta.shape

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients."""
        out = self.delta.new_zeros(self.n * (high - low) + 1, self.columns)  # the last row takes the others
        inside = (self.index >= low) & (self.index < high)
        place = torch.arange(self.n, device=out.device)[:, None] * (high - low) + self.index - low
        place = torch.where(inside, place, torch.full_like(place, len(out) - 1))
        out.index_add_(0, place.flatten(), self.delta.flatten(0, 1))
        return out[:-1].view(self.n, -1)

    def tensors(self) -> tuple[Tensor, ...]:
        """Indices and rows."""
        return self.index, self.delta

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Lookup":
        """Other indices and rows of the same parameter."""
        return Lookup(tensors[0], tensors[1], self.rows)

    def dense_bytes(self) -> int:
        """Bytes of one example's gradient."""
        return self.rows * self.columns * self.delta.element_size()


class Convolution(Part):
    """Weight gradients of a convolution, from its input and output gradient.

    Args:
        inputs: ``[n, k, C_in, *space]``, ``k`` images an example.
        gradient: ``[n, k, C_out, *space′]``.
        weight: shape of the weight, ``(C_out, C_in/groups, *kernel)``.
        stride: one for each axis of space.
        padding: likewise.
        dilation: likewise.
        groups: groups of channels.
        room: bytes for patches formed at a time.
    """

    formula = "conv G, G Gᵀ"

    def __init__(
        self,
        inputs: Tensor,
        gradient: Tensor,
        weight: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        room: int = ROOM,
    ):
        self.inputs, self.gradient = inputs, gradient
        self.weight, self.groups, self.room = weight, groups, room
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.n, self.rows = len(inputs), weight[0]
        self.columns = 1
        for length in weight[1:]:
            self.columns *= length
        self.positions = gradient[0, :, 0].numel() if self.n else 0

    def dense(self, low: int, high: int) -> Tensor:
        """Rows of the gradients, by one grouped convolution over all examples; on a GPU by products."""
        n, images = self.inputs.shape[:2]
        space = self.inputs.shape[3:]
        inside = self.weight[1]  # channels of a group
        outside = self.weight[0] // self.groups
        whole = (low, high) == (0, self.rows)
        if self.groups > 1 and not whole:  # groups are worked on as a whole
            first, last = low // outside, -(-high // outside)
            part = self._groups(first, last).dense(0, (last - first) * outside)
            return part.view(n, -1, self.columns)[:, low - first * outside : high - first * outside].flatten(1)
        gradient = self.gradient[:, :, low:high]
        if is_far(gradient.device):
            sight = self.weight[2:], self.stride, self.padding, self.dilation
            return from_patches(self.inputs, gradient, *sight, self.groups, self.room)
        count = high - low
        x = self.inputs.transpose(0, 1).reshape(images, n * self.inputs.shape[2], *space)
        d = gradient.transpose(0, 1).reshape(images, n * count, *gradient.shape[3:])
        out: Tensor
        _, out, _ = torch.ops.aten.convolution_backward(
            d,
            x,
            x.new_empty(1).expand(n * count, inside, *self.weight[2:]),
            None,
            list(self.stride),
            list(self.padding),
            list(self.dilation),
            False,
            [0] * len(space),
            n * self.groups,
            [False, True, False],
        )
        return out.reshape(n, -1)

    def _groups(self, first: int, last: int) -> "Convolution":
        inside, outside = self.weight[1], self.weight[0] // self.groups
        return Convolution(
            self.inputs[:, :, first * inside : last * inside],
            self.gradient[:, :, first * outside : last * outside],
            ((last - first) * outside, *self.weight[1:]),
            self.stride,
            self.padding,
            self.dilation,
            last - first,
            self.room,
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Input and output gradient."""
        return self.inputs, self.gradient

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Convolution":
        """Other examples of the same convolution."""
        sight = self.weight, self.stride, self.padding, self.dilation
        return Convolution(tensors[0], tensors[1], *sight, self.groups, self.room)

    def unfolded(self) -> Outer:
        """The same gradients from the input's patches: ``left [n, T, C_out]``, ``right [n, T, C_in·kernel]``."""
        space = self.gradient.shape[3:]
        patches = patches_of(
            self.inputs.flatten(0, 1), self.weight[2:], self.stride, self.padding, self.dilation, space
        )
        left = self.gradient.flatten(3).transpose(2, 3).reshape(self.n, self.positions, -1)
        return Outer(left, patches.reshape(self.n, self.positions, -1))
