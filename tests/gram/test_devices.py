"""The ways of a GPU, on the processor: the same Gram, the same values put back, other divisions."""

import pytest
import torch
from torch import nn

from lightning_stiffness.gram import contract, devices, gradient_gram, measurement, parts, snapshot, total
from lightning_stiffness.gram.snapshot import Snapshot
from lightning_stiffness.gram.total import Total

from .cases import CASES
from .test_engines import assert_same, measured, reference


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Small pieces, so that there are several; the tensors whose products were taken in long ones."""
    for module in (contract, devices, parts, snapshot, total):
        monkeypatch.setattr(module, "is_far", lambda device: device.type != "meta")
    monkeypatch.setattr(contract, "SLAB", 3)
    monkeypatch.setattr(contract, "FAR_SLAB", 3)
    monkeypatch.setattr(devices, "GPU_ROOM", 4096)
    seen: list[torch.Tensor] = []
    product = contract._long_product
    monkeypatch.setattr(
        contract, "_long_product", lambda vectors, *rest: (seen.append(vectors), product(vectors, *rest))[1]
    )
    return seen


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_engine_equals_the_loop(name: str, cross: bool, as_on_a_gpu: list[torch.Tensor]) -> None:
    case = CASES[name]
    got = measured(case, "layerwise", cross)
    if got is not None:
        assert_same(got, reference(case, cross), case)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 12, 13, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [None, 5])
def test_long_vectors(length: int, dtype: torch.dtype, m: int | None, as_on_a_gpu: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(40 + (m or 0), length, dtype=dtype) * torch.logspace(-25, 15, 40 + (m or 0))[:, None]
    vectors[3] = 0.0
    vectors = vectors.to(dtype)
    found = Total(40, m, vectors.device)
    contract.add_dense(found, vectors, 4 * len(vectors) * vectors.element_size() * 6 * contract.SLAB)
    products = found.products()
    exact = vectors.double() @ vectors.double().T
    norms = exact.diagonal().sqrt()
    expected = exact if m is None else exact[:40, 40:]
    room = norms[:40, None] * (norms if m is None else norms[40:])[None, :]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert bool(((products.values - expected).abs() <= tolerance * room).all())
    torch.testing.assert_close(products.squares, norms[:40] ** 2, rtol=1e-6, atol=0)
    widest = max(taken.shape[1] for taken in as_on_a_gpu)
    assert widest == min(length, 6 * contract.SLAB)


def test_what_a_gpu_holds_is_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: list[torch.Tensor]
) -> None:
    asked = []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda a, b: (asked.append(a), equal(a, b))[1])
    means = [torch.randn(3), torch.randn(2, 2), torch.full((2,), torch.nan), torch.ones(()), torch.ones(0)]
    counts = [torch.arange(3), torch.tensor(4)]
    versions = [tensor._version for tensor in (*means, *counts)]
    snapshot = Snapshot([*means, *counts, means[0]])
    snapshot.put_back()
    assert len(asked) == 2
    assert [tensor._version for tensor in (*means, *counts)] == versions
    before = [tensor.clone() for tensor in means]
    means[1].add_(1)
    means[2][0] = 3.0
    counts[1].add_(1)
    snapshot.put_back()
    for tensor, value in zip(means, before, strict=True):
        torch.testing.assert_close(tensor, value, rtol=0, atol=0, equal_nan=True)
    assert counts[1].item() == 4
    assert means[0]._version == versions[0]


def test_a_tensor_that_is_resized_is_put_back(as_on_a_gpu: list[torch.Tensor]) -> None:
    queue, mean = torch.randn(3), torch.randn(2)
    expected = queue.clone(), mean.clone()
    snapshot = Snapshot([queue, mean])
    queue.resize_(5)
    mean.mul_(2)
    snapshot.put_back()
    assert torch.equal(queue, expected[0])
    assert torch.equal(mean, expected[1])


def test_without_a_budget_the_least_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large network is no error for somebody who asked for no limit."""
    net = nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 3)).double()
    batch = torch.randn(20, 40).double(), torch.arange(20) % 3

    def loss_fn(module: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

    expected = gradient_gram(net, batch, loss_fn=loss_fn).values
    monkeypatch.setattr(measurement, "default_budget", lambda _: 1000)
    values = gradient_gram(net, batch, loss_fn=loss_fn).values
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)


def test_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert devices.default_budget(cpu) == 2 << 30
    stats = {"reserved_bytes": {"all": {"current": 6 << 30}}, "allocated_bytes": {"all": {"current": 2 << 30}}}
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda _: stats)
    for free, expected in ((60 << 30, 16 << 30), (50 << 30, 8 << 30), (1 << 30, 2 << 30)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 80 << 30))
        assert devices.default_budget(gpu) == expected
    assert devices.room_of(cpu) < devices.room_of(gpu)
