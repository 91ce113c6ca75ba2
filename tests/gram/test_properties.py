"""What is true of every Gram of gradients, and one that can be written down."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from lightning_stiffness.functional import cosine_stiffness, sign_stiffness
from lightning_stiffness.gram import ENGINES, gradient_gram

seeds = st.integers(0, 10_000)


def squared_error(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return ((module(batch[0])[:, 0] - batch[1]) ** 2) / 2


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=20)
@given(seed=seeds, n=st.integers(2, 9), m=st.integers(2, 5), width=st.integers(1, 6))
def test_linear_regression_in_closed_form(engine: str, seed: int, n: int, m: int, width: int) -> None:
    """With f(x) = w·x and half the squared error, g_i = r_i x_i and g_i·g_j = r_i r_j (x_i·x_j)."""
    torch.manual_seed(seed)
    net = nn.Linear(width, 1, bias=False).double()
    (x, y), (z, t) = ((torch.randn(k, width).double(), torch.randn(k).double()) for k in (n, m))
    r, q = (net(x)[:, 0] - y).detach(), (net(z)[:, 0] - t).detach()
    own = gradient_gram(net, (x, y), loss_fn=squared_error, engine=engine)
    torch.testing.assert_close(own.values, r[:, None] * r[None, :] * (x @ x.T), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(own.norms, r.abs() * x.norm(dim=1), rtol=1e-10, atol=1e-10)
    cross = gradient_gram(net, (x, y), (z, t), loss_fn=squared_error, engine=engine)
    torch.testing.assert_close(cross.values, r[:, None] * q[None, :] * (x @ z.T), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(cross.other_norms, q.abs() * z.norm(dim=1), rtol=1e-10, atol=1e-10)


def network(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return net, torch.randn(8, 5).double(), torch.randint(0, 3, (8,))


def cross_entropy(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    losses = nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")
    return losses * batch[2] if len(batch) > 2 else losses


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15)
@given(seed=seeds)
def test_symmetric_positive_and_bounded(engine: str, seed: int) -> None:
    net, x, y = network(seed)
    gram = gradient_gram(net, (x, y), loss_fn=cross_entropy, engine=engine)
    assert torch.equal(gram.values, gram.values.T)
    eigenvalues = torch.linalg.eigvalsh(gram.values)
    assert eigenvalues.min() >= -1e-12 * eigenvalues.max()
    cosine = cosine_stiffness(gram.values, gram.norms)
    assert cosine.abs().max() <= 1
    torch.testing.assert_close(cosine.diagonal(), torch.ones(8).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15)
@given(seed=seeds)
def test_examples_in_another_order_give_the_gram_in_that_order(engine: str, seed: int) -> None:
    net, x, y = network(seed)
    order = torch.randperm(8)
    gram = gradient_gram(net, (x, y), loss_fn=cross_entropy, engine=engine).values
    permuted = gradient_gram(net, (x[order], y[order]), loss_fn=cross_entropy, engine=engine).values
    torch.testing.assert_close(permuted, gram[order][:, order], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15)
@given(seed=seeds, factors=st.lists(st.floats(1e-6, 1e6), min_size=8, max_size=8))
def test_a_loss_times_a_positive_number_leaves_stiffness(engine: str, seed: int, factors: list[float]) -> None:
    net, x, y = network(seed)
    scale = torch.tensor(factors, dtype=torch.float64)
    plain = gradient_gram(net, (x, y), loss_fn=cross_entropy, engine=engine)
    scaled = gradient_gram(net, (x, y, scale), loss_fn=cross_entropy, engine=engine)
    for measure in (cosine_stiffness, sign_stiffness):
        one, two = (measure(g.values, g.norms) for g in (plain, scaled))
        sure = (cosine_stiffness(plain.values, plain.norms).abs() > 1e-9) | (measure is cosine_stiffness)
        torch.testing.assert_close(one[sure], two[sure], rtol=0, atol=1e-9)
