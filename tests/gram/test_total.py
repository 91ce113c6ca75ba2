"""A Gram under construction, held strip by strip, is the Gram."""

import pytest
import torch

from lightning_stiffness.gram.product import Products
from lightning_stiffness.gram.share import Share
from lightning_stiffness.gram.total import HALF, STRIP, Total

CPU = torch.device("cpu")
SIZES = [1, 5, 31, 130, 300, 3 * HALF + 7]


def gram(n: int) -> torch.Tensor:
    g = torch.randn(n, 3, dtype=torch.float64)
    return g @ g.T


def filled(total: Total, values: torch.Tensor) -> Total:
    """With the products in its strips, and what is not to count below the diagonal."""
    for rows, columns, view in total.strips():
        view += values[rows, columns]
        if total.m is None:
            width = rows.stop - rows.start
            view[:, :width] += torch.full((width, width), 1e9, dtype=view.dtype).tril(-1)
    return total


@pytest.mark.parametrize("n", SIZES)
def test_strips_of_a_symmetric_gram_lie_together_each_from_its_diagonal_on(n):
    total = Total(n, None, CPU)
    strips = list(total.strips())
    assert [rows.start for rows, _, _ in strips] == [0, *(rows.stop for rows, _, _ in strips[:-1])]
    assert strips[-1][0].stop == n
    assert all((columns.start, columns.stop) == (rows.start, n) for rows, columns, _ in strips)
    assert all(view.is_contiguous() for _, _, view in strips)
    assert sum(view.numel() for _, _, view in strips) == total.held.numel() == total.pairs()
    values = gram(n)
    products = filled(total, values).products()
    assert torch.equal(products.values, values.triu() + values.triu(1).T)
    assert torch.equal(products.squares, values.diagonal())


@pytest.mark.parametrize(("n", "m"), [(3, 4), (STRIP + 3, 5)])
def test_strips_of_two_sides(n, m):
    values, total = gram(n + m), Total(n, m, CPU)
    assert torch.equal(filled(total, values).products().values, values[:n, n:])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_totals_of_other_strips_add_up(n, count):
    one, two = gram(n), gram(n)
    total = Total(n, None, CPU)
    total += filled(Total(n, None, CPU), one)  # its numbers are taken over
    other = Total(n, None, CPU)
    other._step = Total(n, None, CPU, Share(0, count, CPU))._step
    for rows, columns, view in other._all_strips():
        view += two[rows, columns]
    total += other
    assert torch.allclose(total.products().values, one + two)


@pytest.mark.parametrize("n", SIZES)
def test_single_pairs(n):
    values, total = gram(n), Total(n, None, CPU)
    i, j = torch.triu_indices(n, n)
    total.add_pairs(i, j, values[i, j])
    total.add_pairs(i[::2], j[::2], values[i, j][::2])
    twice = torch.ones(n, n, dtype=torch.float64)
    twice[i[::2], j[::2]] = 2
    expected = (values * twice).triu()
    assert torch.allclose(total.products().values, expected + expected.triu(1).T)


def test_single_pairs_of_two_sides():
    values, total = gram(9), Total(4, 5, CPU)
    i, j = (side.flatten() for side in torch.meshgrid(torch.arange(4), torch.arange(4, 9), indexing="ij"))
    total.add_pairs(i, j, values[i, j])
    assert torch.equal(total.products().values, values[:4, 4:])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [None, 40])
@pytest.mark.parametrize("length", [1, 50, 200])
def test_pasted_blocks(n, m, length):
    size = n + (m or 0)
    values, total = gram(size), Total(n, m, CPU)
    spans = [(low, min(low + length, n)) for low in range(0, n, length)]
    beside = spans if m is None else [(n, size)]
    for rows in spans:
        for columns in beside:
            if columns >= rows:
                block = values[slice(*rows), slice(*columns)]
                squares = values.diagonal()[slice(*rows)], values.diagonal()[slice(*columns)]
                total.paste(Products(block, *squares), rows, columns)
    found = total.products()
    assert torch.allclose(found.values, values if m is None else values[:n, n:])
    assert torch.equal(found.squares, values.diagonal()[:n])
    assert torch.equal(found.other_squares, values.diagonal()[n:] if m else found.squares)
