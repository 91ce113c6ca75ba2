"""Products of gradients, ordinary or tiny, huge, zero or lost, as they are or scaled: equal to those in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lightning_stiffness.gram.contract import add_dense, add_layers
from lightning_stiffness.gram.devices import ROOM
from lightning_stiffness.gram.parts import Outer
from lightning_stiffness.gram.total import Total


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def vectors(n: int, p: int, sizes: tuple[float, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(n + p)
    scale = torch.tensor(sizes, dtype=torch.float64).repeat(n)[:n, None]
    return (torch.randn(n, p, dtype=torch.float64) * scale).to(dtype)


SIZES = {
    "ordinary": (1.0, 1e-3),
    "tiny": (1.0, 1e-25, 1e-14),
    "huge": (1.0, 1e25),
    "zero": (0.0, 1.0, 1.0),
    "all zero": (0.0,),
    "zero and tiny": (0.0, 1e-30),
}


def close(got: Tensor, wanted: Tensor) -> None:
    """As close as the norms allow: an inner product may be far smaller than they are."""
    norms = wanted.diagonal().sqrt()
    room = 1e-5 * norms[:, None] * norms[None, :]
    assert bool(((got - wanted).abs() <= room).all())


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize(("n", "p"), [(3, 7), (64, 600), (130, 50), (300, 40)])
def test_dense(n: int, p: int, sizes: tuple[float, ...], threads: int) -> None:
    g = vectors(n, p, sizes)
    total = Total(n, None, g.device)
    add_dense(total, g)
    add_dense(total, g)  # what is added to is not replaced
    close(total.products().values, 2 * g.double() @ g.double().T)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_dense_of_two_sides(sizes: tuple[float, ...]) -> None:
    g, n = vectors(21, 90, sizes), 9
    total = Total(n, 21 - n, g.device)
    add_dense(total, g)
    wanted = g.double() @ g.double().T
    found = total.products()
    rows = torch.cat([torch.diag(found.squares), found.values], 1)
    columns = torch.cat([found.values.T, torch.diag(found.other_squares)], 1)
    mask = torch.block_diag(torch.ones(n, n), torch.ones(21 - n, 21 - n)).bool() & ~torch.eye(21).bool()
    close(torch.cat([rows, columns]), wanted.masked_fill(mask, 0.0))


def test_a_lost_gradient_loses_its_own_products_alone(threads: int) -> None:
    g = vectors(64, 600, (1.0, 1e-25))
    g[5, 3], g[7, 0] = torch.nan, torch.inf
    total = Total(64, None, g.device)
    add_dense(total, g)
    values = total.products().values
    kept = [i for i in range(64) if i not in (5, 7)]
    close(values[kept][:, kept], g[kept].double() @ g[kept].double().T)
    assert bool(values[5].isnan().all())
    assert not bool(values[7].isfinite().any())


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_room_for_all_products(sizes: tuple[float, ...], dtype: torch.dtype) -> None:
    g = vectors(40, 30, sizes, dtype)
    totals = [Total(40, None, g.device) for _ in range(2)]
    for total, room in zip(totals, (1, ROOM), strict=True):
        add_dense(total, g, room)
        close(total.products().values, g.double() @ g.double().T)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_layers(sizes: tuple[float, ...]) -> None:
    n = 130
    parts = [
        (Outer(vectors(n, 5, sizes)[:, None], vectors(n, 9, (1.0, 10.0))[:, None]), ones) for ones in (True, False)
    ]
    total = Total(n, None, torch.device("cpu"))
    add_layers(total, parts)
    wanted = torch.zeros(n, n, dtype=torch.float64)
    for part, ones in parts:
        left, right = part.left[:, 0].double(), part.right[:, 0].double()
        wanted += (left @ left.T) * (right @ right.T + float(ones))
    close(total.products().values, wanted)
