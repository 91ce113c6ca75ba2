import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_stiffness.functional import cosine_stiffness, sign_stiffness, valid_examples

seeds = st.integers(0, 2**31 - 1)


def gradients(seed: int, n: int = 6, p: int = 4) -> torch.Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(left, right):
    """Cosine and sign of every pair with plain Python numbers."""
    cosine, sign = [], []
    for a in left.tolist():
        dots = [sum(x * y for x, y in zip(a, b, strict=True)) for b in right.tolist()]
        norms = [math.hypot(*b) for b in right.tolist()]
        cosine.append([dot / (math.hypot(*a) * norm) for dot, norm in zip(dots, norms, strict=True)])
        sign.append([(dot > 0) - (dot < 0) for dot in dots])
    return torch.tensor(cosine, dtype=torch.float64), torch.tensor(sign, dtype=torch.float64)


def test_the_definitions_within_a_set_and_between_two():
    g, h = gradients(0), gradients(1, n=3)
    cosine, sign = by_hand(g, g)
    torch.testing.assert_close(cosine_stiffness(g @ g.T), cosine, atol=1e-14, rtol=0)
    assert torch.equal(sign_stiffness(g @ g.T), sign)
    cosine, sign = by_hand(g, h)
    norms = g.norm(dim=1), h.norm(dim=1)
    torch.testing.assert_close(cosine_stiffness(g @ h.T, *norms), cosine, atol=1e-14, rtol=0)
    assert torch.equal(sign_stiffness(g @ h.T, *norms), sign)


@given(seeds)
def test_bounded_symmetric_and_one_with_itself(seed):
    g = gradients(seed)
    cosine, sign = cosine_stiffness(g @ g.T), sign_stiffness(g @ g.T)
    assert float(cosine.abs().max()) <= 1
    assert set(sign.flatten().tolist()) <= {-1.0, 0.0, 1.0}
    torch.testing.assert_close(cosine, cosine.T, atol=1e-14, rtol=0)
    assert torch.equal(sign, sign.T)
    torch.testing.assert_close(cosine.diagonal(), torch.ones(6, dtype=torch.float64), atol=1e-14, rtol=0)
    assert torch.equal(sign, torch.sign(cosine))


@given(seeds, st.permutations(range(6)))
def test_permuting_examples_permutes_both(seed, order):
    g, order = gradients(seed), torch.tensor(order)
    h = g[order]
    torch.testing.assert_close(cosine_stiffness(h @ h.T), cosine_stiffness(g @ g.T)[order][:, order])
    assert torch.equal(sign_stiffness(h @ h.T), sign_stiffness(g @ g.T)[order][:, order])


@given(seeds, st.lists(st.integers(-60, 60), min_size=6, max_size=6))
def test_positive_rescaling_of_gradients_changes_neither(seed, exponents):
    g = gradients(seed)
    h = g * torch.tensor([10.0**e for e in exponents], dtype=torch.float64)[:, None]
    torch.testing.assert_close(cosine_stiffness(h @ h.T), cosine_stiffness(g @ g.T), atol=1e-12, rtol=0)
    assert torch.equal(sign_stiffness(h @ h.T), sign_stiffness(g @ g.T))


@pytest.mark.parametrize("measure", [cosine_stiffness, sign_stiffness])
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, -math.inf])
def test_an_example_without_a_direction_has_no_stiffness(measure, bad):
    g = gradients(2)
    g[3] = bad
    stiffness = measure(g @ g.T)
    others = torch.arange(6) != 3
    assert bool(torch.isnan(stiffness[3]).all())
    assert bool(torch.isnan(stiffness[:, 3]).all())
    # Not bit for bit: a matrix product of another size rounds otherwise.
    torch.testing.assert_close(stiffness[others][:, others], measure(g[others] @ g[others].T))
    # As a column of another set too.
    cross = measure(gradients(5) @ g.T, gradients(5).norm(dim=1), g.norm(dim=1))
    assert torch.isnan(cross).any(0).tolist() == [False, False, False, True, False, False]


def test_one_bad_entry_of_a_gradient_is_enough():
    g = gradients(2)
    g[1, 2] = math.nan
    assert valid_examples(g.norm(dim=1)).tolist() == [True, False, True, True, True, True]
    assert torch.isnan(sign_stiffness(g @ g.T)).sum() == 11


def test_an_inner_product_that_overflowed_is_not_a_sign():
    gram = torch.tensor([[1.0, math.inf], [math.nan, 1.0]])
    norms = torch.ones(2)
    assert torch.isnan(sign_stiffness(gram, norms)).tolist() == [[False, True], [True, False]]
    assert torch.isnan(cosine_stiffness(gram, norms)).tolist() == [[False, True], [True, False]]


def test_orthogonal_gradients_have_sign_zero():
    assert sign_stiffness(torch.eye(2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_clamped_against_rounding():
    gram = torch.tensor([[1.0, 1.0 + 1e-6], [-1.0 - 1e-6, 1.0]])
    assert cosine_stiffness(gram, torch.ones(2)).tolist() == [[1.0, 1.0], [-1.0, 1.0]]


def test_tiny_float32_gradients_in_a_float64_gram():
    g = (gradients(3) * 1e-22).float()
    big = g.double() * 1e22
    gram, norms = g.double() @ g.double().T, g.double().norm(dim=1)
    torch.testing.assert_close(cosine_stiffness(gram), by_hand(big, big)[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(
        cosine_stiffness(gram, norms.float(), norms.float()), by_hand(big, big)[0], atol=1e-6, rtol=0
    )
    assert torch.equal(sign_stiffness(gram), by_hand(big, big)[1])


@pytest.mark.parametrize("norm", [1e-19, 1e-20, 1e-22, 1e-25])
def test_a_float32_gram_that_underflowed_gives_no_stiffness_rather_than_a_wrong_one(norm):
    g = gradients(3).float()
    g = g / g.norm(dim=1, keepdim=True) * norm  # products below 1.2e-38 are rounded, then 0
    gram, norms = g @ g.T, g.double().norm(dim=1).float()
    right_cosine, right_sign = by_hand(g.double() * 1e19, g.double() * 1e19)
    for measure, right, tolerance in ((cosine_stiffness, right_cosine, 1e-5), (sign_stiffness, right_sign, 0.0)):
        for stiffness in (measure(gram), measure(gram, norms)):
            there = ~torch.isnan(stiffness)
            torch.testing.assert_close(stiffness.double()[there], right[there], atol=tolerance, rtol=0)
            assert not there.any()  # none of these products is a normal float32 number


def test_a_tiny_gradient_beside_ordinary_ones_keeps_its_stiffness_in_float32():
    g = gradients(4).float()
    g[0] *= 1e-22
    exact = g.double()
    stiffness = cosine_stiffness(g @ g.T, exact.norm(dim=1).float())
    expected = cosine_stiffness(exact @ exact.T)
    assert torch.isnan(stiffness).nonzero().tolist() == [[0, 0]]
    torch.testing.assert_close(stiffness[0, 1:].double(), expected[0, 1:], atol=1e-5, rtol=0)


def test_large_norms_do_not_overflow():
    g = gradients(4) * 1e150
    torch.testing.assert_close(cosine_stiffness(g @ g.T), cosine_stiffness(gradients(4) @ gradients(4).T))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("measure", [cosine_stiffness, sign_stiffness])
def test_errors(measure):
    with pytest.raises(ValueError, match=r"expected gram of shape \[n, m\], got \[3\]"):
        measure(torch.ones(3))
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch.int64: call .double\(\) on it"):
        measure(torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\[2, 3\] does not hold the gradient norms: pass norms=\[n\] and other"):
        measure(torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"norms of shape \[2\] and other_norms of shape \[3\] .* got \[2\] and \[2\]"
    ):
        measure(torch.ones(2, 3), torch.ones(2))
