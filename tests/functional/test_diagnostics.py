import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_stiffness.functional import (
    cosine_stiffness,
    effective_rank,
    gradient_coherence,
    gradient_confusion,
    gradient_diversity,
)

ALL = [gradient_coherence, gradient_diversity, gradient_confusion, effective_rank]
seeds = st.integers(0, 2**31 - 1)


def gradients(seed: int, n: int = 6, p: int = 4) -> torch.Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(g: np.ndarray) -> list[float]:
    """From the gradients themselves, not from their Gram."""
    n = len(g)
    squares = sum(float(v @ v) for v in g)
    total = sum(g[i] for i in range(n))
    worst = min(float(g[i] @ g[j]) for i in range(n) for j in range(n) if i != j)
    p = np.linalg.svd(g, compute_uv=False) ** 2
    p = p[p > 0] / p.sum()
    return [
        float(total @ total) / squares,
        squares / float(total @ total),
        max(0.0, -worst),
        math.exp(-float((p * np.log(p)).sum())),
    ]


@given(seeds)
def test_from_the_gradients_themselves(seed):
    g = gradients(seed)
    assert [measure(g @ g.T) for measure in ALL] == pytest.approx(by_hand(g.numpy()), rel=1e-8)


@given(seeds, st.permutations(range(6)), st.floats(1e-3, 1e3))
def test_order_and_scale_of_the_loss(seed, order, scale):
    g = gradients(seed)
    h = g[torch.tensor(order)] * scale
    expected = [measure(g @ g.T) for measure in ALL]
    expected[2] *= scale**2  # the confusion is in the units of the Gram
    assert [measure(h @ h.T) for measure in ALL] == pytest.approx(expected, rel=1e-8)


@given(seeds)
def test_bounds(seed):
    g = gradients(seed)
    coherence, diversity, confusion, rank = (measure(g @ g.T) for measure in ALL)
    assert 0 <= coherence <= 6
    assert diversity >= 1 / 6 - 1e-12
    assert confusion >= 0
    assert 1 <= rank <= 4 + 1e-9  # no more than the parameters


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [0, 1]], [1.0, 1.0, 0.0, 2.0]),
        ([[1, 2], [1, 2], [1, 2]], [3.0, 1 / 3, 0.0, 1.0]),
        ([[1, 0], [-1, 0]], [0.0, math.inf, 1.0, 1.0]),
        ([[2, 0], [-1, 0]], [0.2, 5.0, 2.0, 1.0]),
        # Eigenvalues 1 and 3: the entropy of (1/4, 3/4) is ln 4 - 3/4 ln 3.
        ([[1, 0], [0, math.sqrt(3)]], [1.0, 1.0, 0.0, 4 / 3**0.75]),
    ],
)
def test_closed_forms(rows, expected):
    g = torch.tensor(rows, dtype=torch.float64)
    assert [measure(g @ g.T) for measure in ALL] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_examples_without_a_direction_are_left_out(measure, bad):
    g = gradients(1)
    others = g[torch.arange(6) != 3]
    g[3] = bad
    assert measure(g @ g.T) == pytest.approx(measure(others @ others.T))
    assert measure(cosine_stiffness(g @ g.T)) == pytest.approx(measure(cosine_stiffness(others @ others.T)))


def test_few_examples():
    none, one = torch.zeros(2, 2), torch.full((1, 1), 4.0)
    assert all(math.isnan(measure(none)) for measure in ALL)
    assert all(math.isnan(measure(torch.zeros(0, 0))) for measure in ALL)
    assert [measure(one) for measure in (gradient_coherence, gradient_diversity, effective_rank)] == [1.0] * 3
    assert math.isnan(gradient_confusion(one))  # there is no pair to disagree


@pytest.mark.parametrize("scale", [1e-75, 1e75])
def test_very_small_and_large_gradients(scale):
    g = gradients(2)
    h = g * scale
    for measure in (gradient_coherence, gradient_diversity, effective_rank):
        assert measure(h @ h.T) == pytest.approx(measure(g @ g.T))


@pytest.mark.parametrize("measure", ALL)
def test_errors(measure, unchecked):
    with pytest.raises(
        ValueError, match=r"square Gram \[n, n\] of one set of examples, got \[2, 3\]: measure each"
    ):
        measure(torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"finite inner products between finite gradients, got NaN or infinity: form"
    ):
        measure(torch.tensor([[1.0, math.inf], [math.inf, 1.0]]))
