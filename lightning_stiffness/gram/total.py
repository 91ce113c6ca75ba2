"""A Gram under construction: what is added to, strip by strip."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_stiffness.gram.devices import is_far
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

    A symmetric one is held strip by strip, each from its diagonal on: what is added to, and what travels between
    processes, then lies together.

    Args:
        n: examples of the rows.
        m: examples of the columns; None where they are the rows.
        device: where to add.
        share: the processes that divide the strips among them; None: all are worked out here.
    """

    def __init__(self, n: int, m: int | None, device: torch.device, share: Share | None = None):
        self.n, self.m, self.share = n, m, share
        parts = 5 if share is None else 5 * share.count
        whole = m is not None or (share is None and is_far(device))  # a GPU is the faster the more it has to do
        self._step = STRIP if whole else min(TILE * max(round(n / parts / TILE), 1), HALF)
        self._held: Tensor | None = None
        self.squares = torch.zeros(n + (m or 0), dtype=accumulation_dtype(device), device=device)

    @property
    def held(self) -> Tensor:
        """Inner products, strip after strip, room for which is taken when they are first asked for."""
        if self._held is None:
            self._held = self.squares.new_zeros(sum(rows * columns for rows, columns in self._shapes()))
        return self._held

    def __iadd__(self, other: "Total") -> "Total":
        """Add another, which is not to be used any more: the first one's numbers are taken over as they are."""
        if self._held is None:
            self._held, self._step = other.held, other._step
        elif self._step == other._step:
            self._held += other.held
        else:
            products = other.products().values
            for rows, columns, view in self._all_strips():
                view += products[rows, columns]
        self.squares += other.squares
        return self

    def products(self) -> Products:
        """The finished Gram; nothing is to be added any more."""
        if self.m is not None:
            return Products(self.held.view(self.n, self.m), self.squares[: self.n], self.squares[self.n :])
        values = self.squares.new_empty(self.n, self.n)
        for rows, columns, view in self._all_strips():
            width = rows.stop - rows.start
            values[rows, columns] = view
            square = values[rows, rows]  # only its upper triangle counts: the lower one may be empty, or rounded
            square.copy_(square.triu().add_(square.triu(1).T))
            values[rows.stop :, rows] = view[:, width:].T
        self._held = None
        return Products.symmetric(values)

    def paste(self, part: Products, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Put in the products of some rows with some columns, none of which comes before them; both as examples of
        the two sides together."""
        for own, beside, view in self._all_strips():
            low, high = max(own.start, rows[0]), min(own.stop, rows[1])
            left = max(beside.start, columns[0])
            if low < high:
                room = view[low - own.start : high - own.start, left - beside.start : columns[1] - beside.start]
                room.copy_(part.values[low - rows[0] : high - rows[0], left - columns[0] :])
        self.squares[slice(*rows)] = part.squares
        self.squares[slice(*columns)] = part.other_squares

    def add_pairs(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Add products of single pairs, as examples of the two sides together, no column before its row."""
        if self.m is None:
            strip = rows // self._step
            first = strip * self._step
            before = self._step * (strip * self.n - self._step * (strip * (strip - 1) // 2))
            places = before + (rows - first) * (self.n - first) + columns - first
        else:
            places = rows * self.m + columns - self.n
        self.held.index_put_((places,), values, accumulate=True)

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
        """Replace every process's sum by that of all of them; the answer is what each of them said."""
        return share.add([self.held] if self.m is None else [self.held, self.squares], said)

    def _shapes(self) -> Iterator[tuple[int, int]]:
        """Rows and columns of each strip."""
        for low in range(0, self.n, self._step):
            yield min(self._step, self.n - low), self.n - low if self.m is None else self.m

    def _all_strips(self) -> Iterator[tuple[slice, slice, Tensor]]:
        end = self.n + (self.m or 0)
        low = place = 0
        for rows, columns in self._shapes():
            view = self.held[place : place + rows * columns].view(rows, columns)
            yield slice(low, low + rows), slice(end - columns, end), view
            low, place = low + rows, place + rows * columns

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
