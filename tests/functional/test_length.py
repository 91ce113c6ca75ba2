"""The critical length class by class, and from the binned curve."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lightning_stiffness.functional import class_critical_lengths, critical_length, curve_crossing, distance_curve

seeds = st.integers(0, 2**31 - 1)


def block(seed, n=30, m=24):
    generator = torch.Generator().manual_seed(seed)
    d = torch.rand(n, m, generator=generator, dtype=torch.float64)
    S = 0.4 - d + 0.1 * torch.randn(n, m, generator=generator, dtype=torch.float64)
    return S, d, torch.randint(0, 3, (n,), generator=generator), torch.randint(0, 3, (m,), generator=generator)


@given(seeds)
def test_each_class_by_itself(seed):
    S, d, y, z = block(seed)
    S[0], d[1, 2] = math.nan, math.inf
    pairs = y[:, None] == z[None]
    lengths = class_critical_lengths(S, d, pairs, y, num_classes=5)
    assert len(lengths) == 5
    for a, length in enumerate(lengths):
        rows = y == a
        expected = critical_length(S[rows], d[rows], pairs[rows])
        assert (length.pairs, length.reason) == (expected.pairs, expected.reason)
        for name in ("value", "slope", "intercept"):
            assert getattr(length, name) == pytest.approx(getattr(expected, name), nan_ok=True)
    assert lengths[4].reason == "0 pairs of the same class, at least 10 needed"


@given(seeds, st.permutations(range(3)))
def test_renaming_classes_renames_their_lengths(seed, names):
    S, d, y, z = block(seed)
    pairs, names = y[:, None] == z[None], torch.tensor(names)
    lengths = class_critical_lengths(S, d, pairs, y, num_classes=3)
    renamed = class_critical_lengths(S, d, pairs, names[y], num_classes=3)
    for a, length in enumerate(lengths):
        assert renamed[names[a]].value == pytest.approx(length.value, nan_ok=True)


@given(st.lists(st.floats(-1, 1) | st.just(math.nan), min_size=1, max_size=8))
@example([1e-13, math.nan, math.nan, 0.0])
def test_crossing_by_a_fine_grid(means):
    centers = [0.5 + k for k in range(len(means))]
    known = [(x, y) for x, y in zip(centers, means, strict=True) if not math.isnan(y)]
    crossing = curve_crossing(centers, means)
    if not any(a[1] > 0 >= b[1] for a, b in itertools.pairwise(known)):
        assert math.isnan(crossing)
        return
    x, y = map(list, zip(*known, strict=True))
    assert x[0] <= crossing <= x[-1]
    # The polyline is zero there, or as near as its steepest part lets rounding take it; and never before.
    assert float(np.interp(crossing, x, y)) == pytest.approx(0, abs=1e-9)
    positive = next(k for k, v in enumerate(y) if v > 0)
    before = np.linspace(x[positive], crossing, 50)
    assert (np.interp(before, x, y) >= -1e-9).all()


def test_the_crossing_of_a_straight_line_is_its_critical_length():
    d = torch.linspace(0, 1, 400, dtype=torch.float64)[None]
    every = torch.ones_like(d, dtype=torch.bool)
    S = 0.37 - d
    curve = distance_curve(S, d, every, bins=20)
    assert curve_crossing(curve.centers, curve.mean) == pytest.approx(critical_length(S, d, every).value, abs=2e-3)


def test_no_crossing():
    for means in ([-0.1, 0.2, 0.3], [0.1, 0.2], [-0.1, -0.2], [math.nan, math.nan], []):
        assert math.isnan(curve_crossing([0.5 + k for k in range(len(means))], means))
    assert curve_crossing([0.5, 1.5], [0.2, 0.0]) == 1.5
    assert curve_crossing([0.5, 1.5, 2.5], [0.1, math.nan, -0.1]) == pytest.approx(1.5)


@pytest.mark.usefixtures("unchecked")
def test_errors():
    S, d, y, z = block(0)
    with pytest.raises(ValueError, match=r"expected labels of shape \[30\], one for each row, got \[24\]"):
        class_critical_lengths(S, d, y[:, None] == z[None], z)
    with pytest.raises(ValueError, match=r"distance of shape \[30, 24\] as stiffness has, got \[24, 30\]"):
        class_critical_lengths(S, d.T, S > 0, y)
