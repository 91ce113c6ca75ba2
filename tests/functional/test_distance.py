import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_stiffness.functional import (
    block_intervals,
    critical_length,
    distance_curve,
    pairwise_distance,
    standardise,
)
from lightning_stiffness.functional.distance import find_distance

seeds = st.integers(0, 2**31 - 1)


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_pairs(S):
    return torch.ones_like(S, dtype=torch.bool)


@given(seeds)
def test_standardise_by_loops(seed):
    x, reference = numbers(seed, 5, 2, 3), numbers(seed + 1, 7, 2, 3) * 3 + 1
    rows = reference.flatten(1).tolist()
    means = [math.fsum(r[f] for r in rows) / 7 for f in range(6)]
    deviations = [math.sqrt(math.fsum((r[f] - means[f]) ** 2 for r in rows) / 7) for f in range(6)]
    expected = [[(v - m) / s for v, m, s in zip(r, means, deviations, strict=True)] for r in x.flatten(1).tolist()]
    torch.testing.assert_close(standardise(x, reference=reference), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.1, -0.42421296, 1 / 3, 1e9 + 0.1])
def test_a_feature_that_never_varies_says_nothing_although_its_mean_is_rounded(value):
    # The mean of many copies of 0.1 is not 0.1; divided by the deviation left, noise would become ±1, and
    # another value in the validation probe 1e16.
    x = torch.cat([numbers(0, 487, 1), torch.full((487, 1), value, dtype=torch.float64)], 1)
    other = torch.tensor([[0.5, value + 1.0]], dtype=torch.float64)
    assert standardise(x)[:, 1].abs().max() == 0
    assert float(standardise(other, reference=x)[0, 1]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_input_does_not_take_the_distances_of_the_others(bad):
    x = numbers(0, 6, 3)
    x[2, 1] = bad
    others = torch.arange(6) != 2
    z = standardise(x)
    torch.testing.assert_close(z[others], standardise(x[others]))
    for name in ("cosine", "euclidean"):
        d = pairwise_distance(z, distance=name)
        assert bool(torch.isnan(d[2]).all())
        assert bool(torch.isnan(d[:, 2]).all())
        torch.testing.assert_close(d[others][:, others], pairwise_distance(standardise(x[others]), distance=name))


def test_standardise_takes_numbers_of_any_kind_and_shape():
    assert standardise(torch.tensor([0, 2], dtype=torch.uint8)).tolist() == [[-1.0], [1.0]]
    assert standardise(torch.tensor([False, True])).tolist() == [[-1.0], [1.0]]
    assert standardise(torch.zeros(0, 2, 3)).shape == (0, 6)


@given(seeds)
def test_cosine_and_euclidean_by_loops(seed):
    x, y = numbers(seed, 4, 3), numbers(seed + 1, 5, 3)
    cosine, euclidean = pairwise_distance(x, y), pairwise_distance(x, y, distance="euclidean")
    for i, a in enumerate(x.tolist()):
        for j, b in enumerate(y.tolist()):
            dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
            assert cosine[i, j].item() == pytest.approx(1 - dot / math.hypot(*a) / math.hypot(*b), abs=1e-12)
            assert euclidean[i, j].item() == pytest.approx(math.dist(a, b), abs=1e-12)
    assert 0 <= float(cosine.min()) <= float(cosine.max()) <= 2
    torch.testing.assert_close(pairwise_distance(x), pairwise_distance(x, x))


@pytest.mark.parametrize("scale", [1e-37, 1e-22, 1.0, 1e22, 1e37])
def test_cosine_distance_of_very_small_and_large_float32_inputs(scale):
    x = numbers(3, 4, 3)
    scaled = (x * scale).float()
    expected = pairwise_distance(scaled.double() / scale)
    torch.testing.assert_close(pairwise_distance(scaled).double(), expected, atol=1e-6, rtol=0)


def test_an_input_of_zeros_has_no_direction():
    d = pairwise_distance(torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    assert torch.isnan(d).tolist() == [[True, True, True], [True, False, False], [True, False, False]]
    assert d[1].tolist()[1:] == [0.0, 2.0]


@pytest.mark.usefixtures("unchecked")
def test_a_function_as_distance_and_its_errors():
    x = numbers(0, 3, 2)
    manhattan = pairwise_distance(x, distance=lambda a, b: (a[:, None] - b[None]).abs().sum(2))
    assert manhattan[0, 1].item() == pytest.approx(float((x[0] - x[1]).abs().sum()))
    with pytest.raises(ValueError, match=r"distance function to return a tensor \[3, 3\], got \[3\]"):
        pairwise_distance(x, distance=lambda a, b: a[:, 0])
    with pytest.raises(ValueError, match=r"distance function to return a tensor \[3, 3\], got 1.0"):
        pairwise_distance(x, distance=lambda a, b: 1.0)
    with pytest.raises(
        ValueError, match=r"unknown distance 'manhatan': expected one of \['cosine', 'euclidean'\] or a f"
    ):
        find_distance("manhatan")
    with pytest.raises(ValueError, match=r"inputs of one shape, got \[2\] and \[3\]: pass a function"):
        standardise(x, reference=numbers(0, 3, 3))


def curve_by_hand(S, d, taken, edges):
    bins = [[] for _ in edges[1:]]
    for i, row in enumerate(S.tolist()):
        for j, value in enumerate(row):
            at = d[i, j].item()
            if not taken[i, j] or math.isnan(value) or not math.isfinite(at):
                continue
            for k in range(len(bins)):
                last = k == len(bins) - 1
                if edges[k] <= at < edges[k + 1] or (last and at == edges[-1]):
                    bins[k].append(value)
    return bins


@given(seeds, st.integers(1, 7), st.booleans())
def test_curve_by_loops(seed, bins, fixed):
    S, d = torch.tanh(numbers(seed, 6, 7)), numbers(seed + 1, 6, 7).abs()
    taken = numbers(seed + 2, 6, 7) > -0.5
    S[1], d[2, 3], d[2, 4] = math.nan, math.nan, math.inf
    curve = distance_curve(S, d, taken, bins=bins, limits=(0.25, 1.5) if fixed else None)
    edges = curve.edges.tolist()
    if not fixed:
        there = d[taken & ~torch.isnan(S) & torch.isfinite(d)]
        assert (edges[0], edges[-1]) == (float(there.min()), float(there.max()))
    np.testing.assert_allclose(np.diff(edges), (edges[-1] - edges[0]) / bins)
    expected = curve_by_hand(S, d, taken, edges)
    assert curve.count.tolist() == [len(b) for b in expected]
    for k, values in enumerate(expected):
        if values:
            assert curve.mean[k].item() == pytest.approx(np.mean(values), abs=1e-12)
        else:
            assert math.isnan(curve.mean[k])
        if len(values) > 1:
            assert curve.stderr[k].item() == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5, abs=1e-12)
        else:
            assert math.isnan(curve.stderr[k])


def test_borders_belong_to_the_bin_above_and_the_last_bin_is_closed():
    d = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    curve = distance_curve(d / 4, d, all_pairs(d), bins=2)
    assert curve.count.tolist() == [2, 3]
    assert curve.centers.tolist() == [1.0, 3.0]


def test_curve_of_one_distance_and_of_no_pair():
    d = torch.full((1, 3), 2.0)
    curve = distance_curve(torch.tensor([[0.1, 0.2, 0.3]]), d, all_pairs(d), bins=3)
    assert curve.count.tolist() == [3, 0, 0]
    assert curve.edges.tolist()[0] == 2.0
    nothing = distance_curve(d, d, torch.zeros(1, 3, dtype=torch.bool), bins=2)
    assert nothing.count.tolist() == [0, 0]
    assert bool(torch.isnan(nothing.mean).all())
    outside = distance_curve(d, d, all_pairs(d), bins=2, limits=(5.0, 6.0))
    assert outside.count.tolist() == [0, 0]


@pytest.mark.usefixtures("unchecked")
def test_curve_errors():
    S = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="expected bins of at least 1, got 0"):
        distance_curve(S, S, all_pairs(S), bins=0)
    for limits in ((1.0, 0.0), (math.nan, 1.0), (0.0, math.inf)):
        with pytest.raises(
            ValueError, match=r"expected limits to be \(low, high\), finite and with low <= high, got \("
        ):
            distance_curve(S, S, all_pairs(S), limits=limits)
    for function in (distance_curve, critical_length):
        with pytest.raises(ValueError, match=r"distance of shape \[2, 2\] as stiffness has, got \[2, 3\]"):
            function(S, torch.zeros(2, 3), all_pairs(S))


@given(seeds, st.floats(-1, -0.01), st.floats(-3, 3))
def test_critical_length_by_polyfit(seed, slope, offset):
    d = numbers(seed, 5, 6).abs() + offset
    S = 0.3 + slope * d + 0.01 * numbers(seed + 1, 5, 6)
    S[0, 0], d[1, 1] = math.nan, math.nan
    taken = numbers(seed + 2, 5, 6) > -1.5
    used = taken & ~torch.isnan(S) & ~torch.isnan(d)
    beta, alpha = np.polyfit(d[used].numpy(), S[used].numpy(), 1)
    result = critical_length(S, d, taken)
    assert result.pairs == int(used.sum())
    assert (result.slope, result.intercept) == pytest.approx((beta, alpha), abs=1e-9)
    if beta < 0:
        assert result.value == pytest.approx(-alpha / beta, rel=1e-7, abs=1e-9)
        inside = float(d[used].min()) <= result.value <= float(d[used].max())
        assert result.extrapolated is not inside
        assert result.reason == ""
    else:
        assert math.isnan(result.value)


def test_critical_length_scales_with_the_unit_of_distance():
    d = numbers(0, 4, 5).abs()
    S = 0.5 - d + 0.1 * numbers(1, 4, 5)
    one, thousand = critical_length(S, d, all_pairs(d)), critical_length(S, d * 1000, all_pairs(d))
    assert thousand.value == pytest.approx(1000 * one.value)


@pytest.mark.parametrize("value", [1.0, 0.1, -1 / 3])
def test_a_stiffness_that_never_varies_has_no_length_although_its_mean_is_rounded(value):
    d = numbers(0, 30, 30).abs()
    S = torch.full_like(d, value)
    length = critical_length(S, d, all_pairs(d))
    assert math.isnan(length.value)
    assert length.reason.startswith("stiffness does not fall with distance (slope")
    edges = torch.tensor([0.0, 4.0], dtype=torch.float64)
    around = block_intervals(S, symmetric=False, distance=d, pairs=all_pairs(d), edges=edges, resamples=2)
    assert all(map(math.isnan, around.critical_length))


def test_reasons_for_no_critical_length():
    d = torch.linspace(0, 1, 20)[None]
    rising = critical_length(d - 0.5, d, all_pairs(d))
    assert math.isnan(rising.value)
    assert rising.reason == "stiffness does not fall with distance (slope +1)"
    assert (rising.slope, rising.intercept) == pytest.approx((1.0, -0.5))
    few = critical_length(-d, d, d < 0.2)
    assert few.reason == "4 pairs of the same class, at least 10 needed"
    assert (few.pairs, math.isnan(few.value)) == (4, True)
    flat = critical_length(d, torch.full_like(d, 0.7), all_pairs(d))
    assert (flat.reason, math.isnan(flat.value)) == ("all pairs lie at one distance", True)
    far = critical_length(1 - 0.1 * d, d, all_pairs(d))
    assert far.value == pytest.approx(10.0, rel=1e-5)
    assert far.extrapolated
