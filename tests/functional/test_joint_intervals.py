"""Intervals of several measures at once, and the sums over pairs behind them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_stiffness.functional import (
    block_intervals,
    class_stiffness_matrix,
    cosine_stiffness,
    joint_intervals,
    sign_stiffness,
)
from lightning_stiffness.functional import resampling as resampling_module
from lightning_stiffness.functional.jackknife import means_without, without_each
from lightning_stiffness.functional.resampling import (
    Block,
    Weights,
    cell_sums,
    draw_weights,
    weighted_cells,
    weighted_counts,
)

seeds = st.integers(0, 2**31 - 1)
EDGES = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)


def case(seed, n=18, m=None, bad=(4,)):
    """Cosine and sign stiffness of gradients, some without a direction, with labels, distances and pairs."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(n, 4, generator=generator, dtype=torch.float64) + 0.3
    h = g if m is None else torch.randn(m, 4, generator=generator, dtype=torch.float64) + 0.3
    for i in bad:
        g[i] = 0.0
    y = torch.arange(n) % 3
    z = y if m is None else torch.arange(m) % 3
    norms = g.norm(dim=1), h.norm(dim=1)
    gram = g @ h.T
    S = [cosine_stiffness(gram, *norms), sign_stiffness(gram, *norms)]
    return S, y, (None if m is None else z), torch.cdist(g[:, :2], h[:, :2]), y[:, None] == z[None]


def intervals(one):
    """All ends, in a list."""
    ends = [end for name in sorted(one.summary) for end in one.summary[name]]
    return [*ends, *one.curve.flatten().tolist(), *one.critical_length]


@pytest.mark.parametrize("m", [None, 15])
def test_several_measures_are_each_as_if_alone(m):
    S, y, z, d, pairs = case(0, m=m)
    options = {
        "symmetric": m is None,
        "distance": d,
        "pairs": pairs,
        "edges": EDGES,
        "superclasses": [[0, 0, 1]] * 2,
    }
    together = joint_intervals(S, y, z, **options)
    for one, stiffness in zip(together, S, strict=True):
        alone = block_intervals(stiffness, y, z, **options)
        assert intervals(one) == pytest.approx(intervals(alone), abs=1e-12, nan_ok=True)
        assert one.summary["within_superclass_2"] == one.summary["within_superclass"]
    with pytest.raises(ValueError, match="measures of one Gram, but different pairs of them are NaN"):
        joint_intervals([S[0], S[1].nan_to_num()], y, z, **options)


@settings(max_examples=10)
@given(seeds, st.permutations(range(3)))
def test_renaming_classes_changes_no_interval(seed, names):
    S, y, _, d, pairs = case(seed)
    options = {"symmetric": True, "distance": d, "pairs": pairs, "edges": EDGES, "resamples": 20}
    groups = torch.tensor([0, 0, 1])
    before = block_intervals(S[0], y, superclasses=groups, **options)
    names = torch.tensor(names)
    renamed = torch.empty_like(groups)
    renamed[names] = groups
    after = block_intervals(S[0], names[y], superclasses=renamed, **options)
    assert intervals(after) == pytest.approx(intervals(before), abs=1e-9, nan_ok=True)


@settings(max_examples=10)
@given(seeds, st.permutations(range(18)))
def test_the_order_of_examples_changes_intervals_no_more_than_another_seed(seed, order):
    S, y, _, _, _ = case(seed)
    order = torch.tensor(order)
    one = block_intervals(S[0], y, symmetric=True, resamples=400).summary
    other = block_intervals(S[0][order][:, order], y[order], symmetric=True, resamples=400).summary
    for name, (low, high) in one.items():
        assert other[name].low == pytest.approx(low, abs=0.35 * (high - low))
        assert other[name].high == pytest.approx(high, abs=0.35 * (high - low))


@given(seeds, st.lists(st.integers(0, 3), min_size=9, max_size=9), st.floats(0, 1))
@pytest.mark.parametrize("few", [0, 8])
def test_weighted_counts_by_loops(few, seed, labels, share):
    generator = torch.Generator().manual_seed(seed)
    counted = torch.rand(9, 7, generator=generator) < share
    rows, columns = torch.tensor(sorted(labels)), torch.tensor(sorted(labels[:7]))  # stratum by stratum
    block = Block(counted, rows, columns, False)
    weights = draw_weights(block.sides, 2, seed)
    before = resampling_module._FEW
    try:
        resampling_module._FEW = few  # 0: all pairs one by one, as where many are missing
        found = weighted_counts(block, weights, 4)
    finally:
        resampling_module._FEW = before
    expected = torch.zeros(4, 4, 2, dtype=torch.float64)
    for i in range(9):
        for j in range(7):
            if counted[i, j]:
                expected[rows[i], columns[j]] += weights.rows[i] * weights.columns[j]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    values = torch.randn(2, 9, 7, generator=generator, dtype=torch.float64) * counted
    cells = weighted_cells(values, block, weights, 4)
    by_hand = torch.zeros(2, 4, 4, 2, dtype=torch.float64)
    for i in range(9):
        for j in range(7):
            by_hand[:, rows[i], columns[j]] += values[:, i, j, None] * weights.rows[i] * weights.columns[j]
    torch.testing.assert_close(cells, by_hand, atol=1e-12, rtol=0)
    ones = Weights(torch.ones_like(weights.rows), torch.ones_like(weights.columns))
    plain = weighted_cells(values, block, ones, 4)[..., 0]
    torch.testing.assert_close(cell_sums(values, block, 4), plain, atol=1e-12, rtol=0)


@settings(max_examples=25)
@given(seeds, st.lists(st.integers(0, 2), min_size=8, max_size=8), st.booleans())
def test_means_without_each_example_by_leaving_it_out(seed, labels, symmetric):
    S, *_ = case(seed, n=8, m=None if symmetric else 6, bad=())
    y = torch.tensor(labels)
    z = y if symmetric else y[:6]
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64)
    counted = torch.ones_like(S[0], dtype=torch.bool)
    if symmetric:
        counted &= ~torch.eye(8, dtype=torch.bool)
    every = torch.stack([*S, counted]) * counted
    block = Block(counted, y, z, symmetric)
    for side in range(1 if symmetric else 2):
        without = without_each(every, block, 3)[side]
        found = means_without(without, share.mT if side == 1 else share)
        for i in range(len(y if side == 0 else z)):
            rows = torch.arange(8) != i if side == 0 else torch.ones(8, dtype=torch.bool)
            columns = torch.arange(len(z)) != i if symmetric or side == 1 else torch.ones(len(z), dtype=torch.bool)
            for k, stiffness in enumerate(S):
                C = class_stiffness_matrix(
                    stiffness[rows][:, columns],
                    y[rows],
                    None if symmetric else z[columns],
                    num_classes=3,
                )
                there = ~torch.isnan(C)
                for q in range(2):
                    lower = float((share[q] * there).sum())
                    expected = float((share[q] * C.nan_to_num()).sum()) / lower if lower else math.nan
                    assert found[k, q, i].item() == pytest.approx(expected, abs=1e-10, nan_ok=True)


def test_a_pair_of_one_example_with_itself_is_named_in_either_order():
    S, y, _, d, pairs = case(3)
    once = torch.rand(18, 18, generator=torch.Generator().manual_seed(3)) < 0.1
    options = {"symmetric": True, "distance": d, "pairs": pairs, "edges": EDGES}
    for measure in S:
        one = intervals(block_intervals(measure, y, same_example=once, **options))
        both = intervals(block_intervals(measure, y, same_example=once | once.T, **options))
        assert one == pytest.approx(both, nan_ok=True)
        assert one != pytest.approx(intervals(block_intervals(measure, y, **options)), nan_ok=True)
        C = [class_stiffness_matrix(measure, y, same_example=mask) for mask in (once, once | once.T)]
        torch.testing.assert_close(*C, equal_nan=True)


def test_copies_of_every_example_narrow_no_interval_to_nothing():
    S, y, _, _, _ = case(1, bad=())
    twice = block_intervals(S[0].repeat(2, 2), y.repeat(2), symmetric=True).summary
    for low, high in twice.values():
        assert high - low > 1e-3
    same = block_intervals(torch.ones(6, 6), torch.tensor([0, 0, 0, 1, 1, 1]), symmetric=True).summary
    assert [tuple(ends) for ends in same.values()] == [(1.0, 1.0)] * 3


def test_classes_without_examples_have_no_interval():
    S, y, _, _, _ = case(2)
    keep = y != 1
    result = block_intervals(S[0][keep][:, keep], y[keep], symmetric=True, superclasses=[0, 0, 1, 1])
    assert all(map(math.isnan, result.summary["within_superclass"]))
    assert result.summary["between_class"].low <= result.summary["between_superclass"].high
