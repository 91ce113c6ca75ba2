"""A Gram under construction: what is added to, strip by strip."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.product import Products, accumulation_dtype
from lightning_stiffness.gram.share import Share

STRIP = 256
"""Most rows of the Gram worked on together."""

HALF = 128
"""The same in a symmetric Gram: lower strips from the diagonal on hold fewer products that are not needed."""

TILE = 32
"""Rows of a strip, but for the last, are a multiple of it: so matrix products are a tenth faster on processors."""

BAND = 1 << 20
"""Most inner products summed in the gradients' own precision before they go to the float64 sum."""


class Total:
    """A Gram under construction.

    Args:
        n: examples of the rows.
        m: examples of the columns; None where they are the rows.
        device: where to add.
        share: the processes that divide the strips among them; None: all are worked out here.
    """

    def __init__(self, n: int, m: int | None, device: torch.device, share: Share | None = None):
        self.n, self.m, self.share = n, m, share
        self._values: Tensor | None = None
        self.squares = torch.zeros(n + (m or 0), dtype=accumulation_dtype(device), device=device)

    @property
    def values(self) -> Tensor:
        """Inner products ``[n, m]``, room for which is taken when they are first asked for."""
        if self._values is None:
            self._values = self.squares.new_zeros(self.n, self.n if self.m is None else self.m)
        return self._values

    def __iadd__(self, other: "Total") -> "Total":
        """Add another, which is not to be used any more: the first one's numbers are taken over as they are."""
        if self._values is None:
            self._values = other.values
        else:
            self._values += other.values
        self.squares += other.squares
        return self

    def products(self) -> Products:
        """The finished Gram."""
        if self.m is None:
            for rows, _, view in self._all_strips():
                width = rows.stop - rows.start
                square = view[:, :width]  # only its upper triangle counts: the lower one may be empty, or rounded
                square.copy_(square.triu().add_(square.triu(1).T))
                self.values[rows.stop :, rows] = view[:, width:].T
            return Products.symmetric(self.values)
        return Products(self.values, self.squares[: self.n], self.squares[self.n :])

    def paste(self, part: Products, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Put in the products of some rows with some columns, both as examples of the two sides together."""
        first = 0 if self.m is None else self.n
        self.values[slice(*rows), columns[0] - first : columns[1] - first] = part.values
        self.squares[slice(*rows)] = part.squares
        self.squares[slice(*columns)] = part.other_squares

    def strips(self, share: Share | None = None) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns (both as examples of the two sides together), and the view of the Gram to add to; those of
        this process, or of the one that is given."""
        share = share or self.share
        for place, strip in enumerate(self._all_strips()):
            if share is None or share.mine(place):
                yield strip

    def gather(self, share: Share, said: Any) -> list[Any]:
        """Take over the strips that the other processes have worked out; the answer is what each of them said."""
        told = share.gather(([view for _, _, view in self.strips(share)], said), about="strips")
        for rank, (found, _) in enumerate(told):
            if rank != share.rank:
                for (_, _, view), values in zip(self.strips(replace(share, rank=rank)), found, strict=True):
                    view.copy_(values)
        return [of_rank for _, of_rank in told]

    def add_up(self, share: Share, said: Any) -> list[Any]:
        """Replace every process's sum by that of all of them; the answer is what each of them said.

        Of a symmetric Gram only the strips travel, which are about half of it, a band at a time.
        """

        def sums() -> Iterator[Tensor]:
            if self.m is not None:
                yield self.values
                yield self.squares
                return
            for band in self.bands():
                views = [view for _, _, view in band]
                joined = torch.cat([view.flatten() for view in views])
                yield joined
                sizes = [view.numel() for view in views]
                for view, values in zip(views, joined.split_with_sizes(sizes), strict=True):
                    view.copy_(values.view_as(view))

        return share.add(sums(), said)

    def _all_strips(self) -> Iterator[tuple[slice, slice, Tensor]]:
        parts = 5 if self.share is None else 5 * self.share.count
        step = STRIP if self.m is not None else min(TILE * max(round(self.n / parts / TILE), 1), HALF)
        for low in range(0, self.n, step):
            high = min(low + step, self.n)
            if self.m is None:
                yield slice(low, high), slice(low, self.n), self.values[low:high, low:]
            else:
                yield slice(low, high), slice(self.n, self.n + self.m), self.values[low:high]

    def bands(self, most: int = BAND) -> Iterator[list[tuple[slice, slice, Tensor]]]:
        """The strips, in lists of at most ``most`` inner products (or of one strip)."""
        band: list[tuple[slice, slice, Tensor]] = []
        for strip in self.strips():
            if band and sum(view.numel() for _, _, view in band) + strip[2].numel() > most:
                yield band
                band = []
            band.append(strip)
        yield band

    @staticmethod
    def pairs_of(n: int, m: int | None) -> int:
        """Number of inner products of a whole Gram: about half of a square one."""
        return n * n // 2 if m is None else n * m

    def pairs(self) -> int:
        """Number of inner products worked out."""
        return sum(view.numel() for _, _, view in self.strips())

    def add_squares(self, squares: Tensor, scale: Tensor | None) -> None:
        """Add squared norms of vectors, which were divided by ``scale``; only where the sides are different."""
        squares = squares.to(self.squares.dtype)
        self.squares += squares if scale is None else squares * scale**2


def add(view: Tensor, product: Tensor, scale: Tensor | None, rows: slice, columns: slice) -> None:
    """Add inner products of vectors, which were divided by ``scale``, to a view of the Gram."""
    if scale is None:
        view += product
    else:
        view += product.to(view.dtype) * scale[rows, None] * scale[None, columns]
