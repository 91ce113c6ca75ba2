"""Which axis of a tensor holds the examples, told from one example and many."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


class UndecidedAxis(Exception):
    """No axis, or more than one, can be the examples' axis; the message holds the shapes."""


@dataclass(frozen=True)
class Layout:
    """Where the examples lie in a tensor.

    Example:
        >>> Layout(axis=1, inner=1, major=True).canonical(torch.zeros(5, 7, 4), 7).shape
        torch.Size([7, 5, 1, 4])
    """

    axis: int
    """The axis that grows with the number of examples."""
    inner: int
    """Its length for one example: more than 1 where positions are folded into the axis."""
    major: bool
    """Whether the examples change slower along it than the positions."""

    def canonical(self, tensor: Tensor, n: int) -> Tensor:
        """``tensor`` as ``[n, *shape for one example]``, without a copy."""
        if self.inner == 1:
            return tensor.movedim(self.axis, 0).unsqueeze(self.axis + 1)
        if self.major:
            return torch.unflatten(tensor, self.axis, (n, self.inner)).movedim(self.axis, 0)
        return torch.unflatten(tensor, self.axis, (self.inner, n)).movedim(self.axis + 1, 0)

    def of(self, tensor: Tensor, n: int, place: int) -> Tensor:
        """One example's part of ``tensor``, as it is for the example alone.

        Example:
            >>> Layout(axis=1, inner=1, major=True).of(torch.zeros(5, 7, 4), 7, 2).shape
            torch.Size([5, 1, 4])
        """
        return tensor.narrow(self.axis, place, 1) if self.inner == 1 else self.canonical(tensor, n)[place]


def grown_axis(single: Sequence[int], full: Sequence[int], n: int) -> int | None:
    """The one axis that is ``n`` times as long for ``n`` examples as for one; None if it is not one alone."""
    if len(single) != len(full):
        return None
    grown = [axis for axis, one in enumerate(single) if one != full[axis]]
    return grown[0] if len(grown) == 1 and full[grown[0]] == n * single[grown[0]] else None


@lru_cache(maxsize=1024)
def layouts(single: tuple[int, ...], full: tuple[int, ...], n: int) -> tuple[Layout, ...]:
    """Layouts that explain a tensor's shape for ``n`` examples by its shape for one.

    Args:
        single: shape for one example.
        full: shape for ``n`` examples, ``n`` at least 2.
        n: number of examples.

    Returns:
        None at all where the shapes are equal; two where the order of a folded axis is open.

    Raises:
        UndecidedAxis: if the shapes differ otherwise than by a factor ``n`` along one axis.

    Example:
        >>> [layout.axis for layout in layouts((5, 1, 4), (5, 7, 4), 7)]
        [1]
    """
    if single == full:
        return ()
    axis = grown_axis(single, full, n)
    if axis is None:
        raise UndecidedAxis(
            f"no axis tells the examples apart: shape {list(single)} for one example, {list(full)} for {n}"
        )
    inner = single[axis]
    return (Layout(axis, inner, True),) if inner == 1 else (Layout(axis, inner, True), Layout(axis, inner, False))


def decide(candidates: Sequence[Layout], full: Tensor, single: Tensor, n: int, example: int) -> Layout | None:
    """The layout in which the values of one example stand in the tensor of all.

    Args:
        candidates: the two orders of a folded axis.
        full: tensor for ``n`` examples.
        single: the same tensor for example number ``example`` alone.
        n: number of examples.
        example: which one.

    Returns:
        The layout; None where the values fit both or neither.
    """
    if full.is_complex():
        full, single = torch.view_as_real(full.resolve_conj()), torch.view_as_real(single.resolve_conj())
    fits = [_agree(layout.canonical(full, n)[example], single) for layout in candidates]
    return candidates[fits.index(True)] if sum(fits) == 1 else None


def _agree(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    size = float(other.abs().nan_to_num(posinf=0.0).amax()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4 * size, equal_nan=True)
