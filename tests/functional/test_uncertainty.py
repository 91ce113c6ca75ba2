import math

import numpy as np
import pytest
import torch

from lightning_stiffness.functional import (
    block_intervals,
    bootstrap_interval,
    class_stiffness_matrix,
    class_summary,
    critical_length,
    distance_curve,
    overall_stiffness,
    superclass_summary,
)
from lightning_stiffness.functional import intervals as intervals_module
from lightning_stiffness.functional import resampling as resampling_module
from lightning_stiffness.functional.jackknife import jackknife_variance
from lightning_stiffness.functional.resampling import Block, draw_weights, weighted_cells

EDGES = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
GROUPS = [0, 0, 1]


class Population:
    """Gradients: class mean + a part that follows the input + noise. Inputs: class centre + noise."""

    def __init__(self, classes, parameters, mean, follows, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.classes, self.draw = classes, torch.Generator().manual_seed(seed + 1)
        self.mean = torch.randn(classes, parameters, generator=generator, dtype=torch.float64) * mean
        self.map = torch.randn(3, parameters, generator=generator, dtype=torch.float64) * follows

    def sample(self, labels):
        x = torch.randn(len(labels), 3, generator=self.draw, dtype=torch.float64)
        g = self.mean[labels] + x @ self.map
        g = g + torch.randn(*g.shape, generator=self.draw, dtype=torch.float64)
        return torch.nn.functional.normalize(g, dim=1), x

    def truth(self, k=100_000):
        """From independent pairs, each example in one only, and from the means of very many examples."""
        S, d, means = [], [], []
        for a in range(self.classes):
            label = torch.full((k,), a)
            (g, x), (h, y) = self.sample(label), self.sample(label)
            S.append((g * h).sum(1))
            d.append((x - y).norm(dim=1))
            means.append(torch.cat([g, h]).mean(0))
        between = torch.stack(means) @ torch.stack(means).T
        off = ~torch.eye(self.classes, dtype=torch.bool)
        S, d = torch.cat(S)[None], torch.cat(d)[None]
        taken = torch.ones_like(S, dtype=torch.bool)
        curve = distance_curve(S, d, taken, bins=3, limits=(0.0, 3.0))
        return {
            "within_class": float(S.mean()),
            "between_class": float(between[off].mean()),
            "cell (0, 1)": float(between[0, 1]),
            "cell (2, 2)": float(between[2, 2]) if self.classes > 2 else math.nan,
            **{f"bin {k}": v for k, v in enumerate(curve.mean.tolist())},
            "critical_length": critical_length(S, d, taken).value,
        }


def labels_of(classes, size):
    return torch.arange(classes).repeat_interleave(size)


def block(population, size, *, symmetric):
    y = labels_of(population.classes, size)
    g, x = population.sample(y)
    h, z = (g, x) if symmetric else population.sample(y)
    return g @ h.T, y, torch.cdist(x, z), y[:, None] == y[None]


def measured(S, y, d, pairs, *, symmetric, **options):
    return block_intervals(
        S,
        y,
        None if symmetric else y,
        symmetric=symmetric,
        superclasses=GROUPS if int(y.max()) == 2 else None,
        distance=d,
        pairs=pairs,
        edges=EDGES,
        **options,
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_coverage(symmetric):
    """300 trials: the 95% intervals hold the truth in 90-99% of them."""
    population = Population(classes=3, parameters=10, mean=0.5, follows=0.5)
    truth = population.truth()
    hits = dict.fromkeys(truth, 0)
    for trial in range(300):
        S, y, d, pairs = block(population, 30, symmetric=symmetric)
        result = measured(S, y, d, pairs, symmetric=symmetric, seed=trial)
        ends = dict(result.summary)
        ends["critical_length"] = result.critical_length
        ends |= {f"cell ({a}, {b})": tuple(result.cells[a, b].tolist()) for a, b in ((0, 1), (2, 2))}
        ends |= {f"bin {k}": tuple(v) for k, v in enumerate(result.curve.tolist())}
        for name, value in truth.items():
            hits[name] += ends[name][0] <= value <= ends[name][1]
    assert {name: hit for name, hit in hits.items() if not 270 <= hit <= 297} == {}


@pytest.mark.parametrize("symmetric", [True, False])
def test_coverage_where_pairs_have_only_their_own_noise(symmetric):
    """No class means, nothing that follows the input: plain percentile intervals would hold 0 in 99-100%."""
    population = Population(classes=4, parameters=50, mean=0.0, follows=0.0)
    hits = dict.fromkeys(["within_class", "between_class", "overall", "bin 1", "cell (0, 1)", "cell (2, 2)"], 0)
    for trial in range(300):
        S, y, d, pairs = block(population, 20, symmetric=symmetric)
        result = measured(S, y, d, pairs, symmetric=symmetric, seed=trial)
        for name in hits:
            low, high = (
                result.summary.get(name)
                or {
                    "bin 1": result.curve[1],
                    "cell (0, 1)": result.cells[0, 1],
                    "cell (2, 2)": result.cells[2, 2],
                }[name].tolist()
            )
            hits[name] += low <= 0 <= high
    assert {name: hit for name, hit in hits.items() if not 270 <= hit <= 297} == {}


def test_coverage_of_a_mean_known_in_closed_form():
    """Gradients of one parameter: S_sign(i, j) = s_i s_j, and the within-class mean is (2p - 1)²."""
    generator = torch.Generator().manual_seed(0)
    positive = torch.tensor([0.5, 0.6, 0.8, 0.9])
    y = labels_of(4, 40)
    truth = float(((2 * positive - 1) ** 2).mean())
    hits = 0
    for trial in range(300):
        s = torch.where(torch.rand(160, generator=generator) < positive[y], 1.0, -1.0)
        low, high = block_intervals(s[:, None] * s, y, symmetric=True, seed=trial).summary["within_class"]
        hits += low <= truth <= high
    assert 270 <= hits <= 297


# --- every number against loops ----------------------------------------------------------------------------


def statistics(S, y, d, pairs, w, v, *, symmetric, shares=None):
    """All weighted means, pair by pair. ``shares``: each class pair's part in 'overall'."""
    n, m = S.shape
    cell, weight, bins = {}, {}, {}
    for i in range(n):
        for j in range(m):
            if (symmetric and i == j) or math.isnan(S[i, j]):
                continue
            at, pair_weight = (int(y[i]), int(y[j])), float(w[i] * v[j])
            cell[at] = cell.get(at, 0.0) + pair_weight * float(S[i, j])
            weight[at] = weight.get(at, 0.0) + pair_weight
            if not pairs[i, j] or (symmetric and j < i):
                continue
            x, value = float(d[i, j]), float(S[i, j])
            for k in range(3):
                if EDGES[k] <= x < EDGES[k + 1]:
                    total = bins.setdefault(k, np.zeros(2))
                    total += pair_weight * np.array([1, value])
    C = {at: cell[at] / weight[at] for at in cell if weight[at] > 0}
    shares = shares or weight
    mean = lambda keep: np.mean([C[at] for at in C if keep(*at)])  # noqa: E731
    result = {
        "within_class": mean(lambda a, b: a == b),
        "between_class": mean(lambda a, b: a != b),
        "within_superclass": mean(lambda a, b: a != b and GROUPS[a] == GROUPS[b]),
        "between_superclass": mean(lambda a, b: GROUPS[a] != GROUPS[b]),
        "overall": sum(shares[at] * C[at] for at in C) / sum(shares[at] for at in C),
    }
    result["cells"] = [C.get((a, b), math.nan) for a in range(3) for b in range(3)]
    return result, {k: t[1] / t[0] for k, t in bins.items() if t[0] > 0}, weight


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_resampled_statistics_by_loops(symmetric, monkeypatch):
    S, y, d, pairs = block(Population(3, 4, 0.5, 0.5), 5, symmetric=symmetric)
    seen, original = [], intervals_module._scaled

    def spy(estimate, drawn, jackknife, independent, level):
        seen.append((estimate, drawn, jackknife, independent))
        return original(estimate, drawn, jackknife, independent, level)

    monkeypatch.setattr(intervals_module, "_scaled", spy)
    measured(S, y, d, pairs, symmetric=symmetric, resamples=3, seed=5)
    weights = draw_weights([y] if symmetric else [y, y], 3, seed=5)
    ones = torch.ones(15)
    names = ["within_class", "between_class", "within_superclass", "between_superclass", "overall"]
    summary, bins, shares = statistics(S, y, d, pairs, ones, ones, symmetric=symmetric)
    assert seen[0][0].tolist() == pytest.approx([summary[k] for k in names])
    assert seen[1][0].tolist() == pytest.approx(summary["cells"])
    assert seen[2][0].tolist() == pytest.approx([bins[k] for k in range(3)])
    for r in range(3):
        some = weights.rows[:, r], weights.columns[:, r]
        summary, bins, _ = statistics(S, y, d, pairs, *some, symmetric=symmetric, shares=shares)
        assert seen[0][1][:, r].tolist() == pytest.approx([summary[k] for k in names])
        assert seen[1][1][:, r].tolist() == pytest.approx(summary["cells"])
        assert seen[2][1][:, r].tolist() == pytest.approx([bins[k] for k in range(3)])

    # One example left out at a time, for the class means and the cells: 4/5 of the squares in each class of 5.
    expected = np.zeros(14)
    for side in range(1 if symmetric else 2):
        deleted = []
        for i in range(15):
            without = [ones.clone(), ones.clone()]
            without[side][i] = 0
            if symmetric:
                without[1][i] = 0
            values = statistics(S, y, d, pairs, *without, symmetric=symmetric, shares=shares)[0]
            deleted.append([*(values[k] for k in names), *values["cells"]])
        per_class = np.array(deleted).reshape(3, 5, 14)
        expected += 4 / 5 * ((per_class - per_class.mean(1, keepdims=True)) ** 2).sum((0, 1))
    assert [*seen[0][2].tolist(), *seen[1][2].tolist()] == pytest.approx(expected.tolist())

    # If pairs were independent: squared deviations from the cell's mean, each pair once.
    C = class_stiffness_matrix(S, y, None if symmetric else y)
    cells = []
    for a, b in ((a, b) for a in range(3) for b in range(3)):
        values = [
            float(S[i, j])
            for i in range(15)
            for j in range(15)
            if y[i] == a and y[j] == b and (i < j or a != b or not symmetric)
        ]
        cells.append(sum((v - float(C[a, b])) ** 2 for v in values) / len(values) ** 2)
    assert seen[1][3].tolist() == pytest.approx(cells)
    assert seen[0][3][0].item() == pytest.approx((cells[0] + cells[4] + cells[8]) / 9)


@pytest.mark.parametrize("symmetric", [True, False])
def test_cells_of_classes_of_one_example_and_of_none(symmetric):
    y = torch.tensor([0, 0, 0, 0, 1, 3, 3])
    g = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    result = block_intervals(g @ g.T, y, None if symmetric else y, symmetric=symmetric)
    known = ~torch.isnan(result.cells).any(-1)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 0] = expected[0, 3] = expected[3, 0] = True
    expected[3, 3] = not symmetric  # one pair alone has no spread
    assert torch.equal(known, expected)
    if symmetric:
        torch.testing.assert_close(result.cells, result.cells.transpose(0, 1), equal_nan=True)


@pytest.mark.parametrize("symmetric", [True, False])
def test_many_classes_take_another_way_to_the_same_sums(symmetric, monkeypatch):
    S, y, d, pairs = block(Population(3, 4, 0.5, 0.5), 6, symmetric=symmetric)
    y = torch.where(y == 2, 5, y)  # classes 2 to 4 have no example
    kwargs = {"symmetric": symmetric, "distance": d, "pairs": pairs, "edges": EDGES}
    few = block_intervals(S.requires_grad_(), y, None if symmetric else y, **kwargs)
    monkeypatch.setattr(resampling_module, "_CALLS", 0)
    many = block_intervals(S, y, None if symmetric else y, **kwargs)
    torch.testing.assert_close(few.cells, many.cells, equal_nan=True)
    for name, ends in few.summary.items():
        assert many.summary[name] == pytest.approx(ends)


def test_too_many_cells_have_no_intervals(monkeypatch):
    monkeypatch.setattr(intervals_module, "_MOST_CELLS", 1799)
    S, y, d, pairs = block(Population(3, 4, 0.5, 0.5), 5, symmetric=True)
    result = measured(S, y, d, pairs, symmetric=True)  # 9 cells, 200 resamples
    assert result.cells is None
    assert result.summary["within_class"].low < result.summary["within_class"].high


def test_the_variance_of_a_u_statistic_is_unbiased():
    """Known in closed form: S(i, j) = a_i + a_j + e_ij has variance 4 var(a) / n + 2 var(e) / (n (n - 1))."""
    generator = torch.Generator().manual_seed(0)
    n, found, own = 20, [], []
    for _ in range(400):
        a = torch.randn(n, generator=generator, dtype=torch.float64) * 0.1
        e = torch.randn(n, n, generator=generator, dtype=torch.float64).triu(1) * 0.5
        S = a[:, None] + a + e + e.T
        counted = ~torch.eye(n, dtype=torch.bool)
        there = Block(counted, torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), True)
        total = (S * counted).sum()
        deleted = (total - 2 * (S * counted).sum(1)) / ((n - 1) * (n - 2))
        mean = total / (n * (n - 1))
        independent = 2 * (((S - mean) * counted) ** 2).sum() / (n * (n - 1)) ** 2
        found.append(float(jackknife_variance(deleted[None], there.rows) - independent))
        own.append(float(mean))
    exact = 4 * 0.01 / n + 2 * 0.25 / (n * (n - 1))
    assert np.mean(found) == pytest.approx(exact, rel=0.1)
    assert np.var(own) == pytest.approx(exact, rel=0.2)


# --- what callers rely on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_estimates_lie_inside(symmetric):
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=symmetric)
    result = measured(S, y, d, pairs, symmetric=symmetric)
    C = class_stiffness_matrix(S, y, None if symmetric else y)
    values = class_summary(C) | superclass_summary(C, GROUPS)
    values["overall"] = overall_stiffness(S, symmetric=symmetric)
    assert set(result.summary) == set(values)
    assert all(result.summary[k].low < v < result.summary[k].high for k, v in values.items())
    once = pairs.triu(1) if symmetric else pairs
    curve = distance_curve(S, d, once, bins=3, limits=(0.0, 3.0))
    assert bool(((result.curve[:, 0] < curve.mean) & (curve.mean < result.curve[:, 1])).all())
    assert result.critical_length.low < critical_length(S, d, once).value < result.critical_length.high


def test_same_seed_same_intervals_and_no_global_random_state():
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=True)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two, other = (measured(S, y, d, pairs, symmetric=True, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert (one.summary, one.critical_length) == (two.summary, two.critical_length)
    assert torch.equal(one.curve, two.curve)
    assert one.summary != other.summary


def test_either_or_both_triangles_are_the_same_pairs():
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=True)
    one, both, lower = (measured(S, y, d, p, symmetric=True) for p in (pairs.triu(1), pairs, pairs.tril(-1)))
    assert torch.equal(one.curve, both.curve)
    assert torch.equal(one.curve, lower.curve)
    assert one.critical_length == both.critical_length == lower.critical_length


def test_a_copy_is_no_pair_with_itself():
    # The diagonal, here 1 against 0 elsewhere, would show in every resample that drew an example twice.
    intervals = block_intervals(torch.eye(12), labels_of(3, 4), symmetric=True)
    assert all(tuple(i) == (0.0, 0.0) for i in intervals.summary.values())


@pytest.mark.parametrize("symmetric", [True, False])
def test_excluded_examples_are_as_if_they_were_not_there(symmetric):
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 10, symmetric=symmetric)
    S = S.clone()
    S[4] = math.nan
    if symmetric:
        S[:, 4] = math.nan
    keep = torch.arange(30) != 4
    other = keep if symmetric else torch.ones(30, dtype=torch.bool)
    rest = [x[keep][:, other] for x in (S, d, pairs)]
    with_them = measured(S, y, d, pairs, symmetric=symmetric)
    without = block_intervals(
        rest[0],
        y[keep],
        None if symmetric else y,
        symmetric=symmetric,
        superclasses=GROUPS,
        distance=rest[1],
        pairs=rest[2],
        edges=EDGES,
    )
    assert with_them.summary == without.summary
    assert with_them.critical_length == without.critical_length
    assert torch.equal(with_them.curve, without.curve)


def test_classes_of_one_or_none():
    S, _, _, _ = block(Population(3, 10, 0.5, 0.5), 4, symmetric=True)
    y = torch.tensor([0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 2, 7])  # classes 2 and 7 of one example; 1, 3, 4, 6 of none
    summary = block_intervals(S, y, symmetric=True).summary
    assert all(math.isfinite(end) for interval in summary.values() for end in interval)
    alone = block_intervals(S[:4, :4], torch.arange(4), symmetric=True).summary
    assert all(math.isnan(end) for end in alone["within_class"])
    one = block_intervals(S[:5, :5], torch.zeros(5, dtype=torch.long), symmetric=True).summary
    assert all(math.isnan(end) for end in one["between_class"])
    assert tuple(one["within_class"]) == pytest.approx(tuple(one["overall"]), abs=1e-12)


def test_pairs_that_leave_the_interval_open():
    S = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    single = torch.zeros(3, 3, dtype=torch.bool)
    single[0, 1] = True
    star = single.clone()
    star[0, 2] = True  # both pairs hang on example 0
    for pairs in (single, star, torch.zeros_like(single)):
        assert all(math.isnan(end) for end in bootstrap_interval(S, pairs, symmetric=True))
    empty = block_intervals(torch.full((3, 3), math.nan), torch.arange(3), symmetric=True)
    assert all(math.isnan(end) for interval in empty.summary.values() for end in interval)
    nothing = block_intervals(torch.zeros(0, 0), symmetric=True)
    assert all(math.isnan(end) for end in nothing.summary["overall"])


def test_no_critical_length_no_interval_and_an_open_end():
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=True)
    rising = measured(-S, y, d, pairs, symmetric=True).critical_length
    assert all(math.isnan(end) for end in rising)
    few = measured(S, y, d, pairs, symmetric=True, min_pairs=10_000).critical_length
    assert all(math.isnan(end) for end in few)
    for rounding in (0.0, 1e-16):  # which falls with stiffness
        one_distance = measured(S, y, 0.3 - rounding * torch.sign(S), pairs, symmetric=True).critical_length
        assert all(math.isnan(end) for end in one_distance)
    # A slope that is not told from zero, at positive stiffness: ξ may be as large as you like.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 20, generator=generator, dtype=torch.float64).triu(1)
    x = torch.rand(20, 20, generator=generator, dtype=torch.float64).triu(1)
    flat, far = 0.5 + 0.1 * (noise + noise.T), x + x.T
    line = critical_length(flat, far, torch.ones(20, 20, dtype=torch.bool).triu(1))
    flat = flat - (line.slope + 1e-3) * far
    open_end = measured(
        flat, torch.zeros(20, dtype=torch.long), far, torch.ones(20, 20, dtype=torch.bool), symmetric=True
    ).critical_length
    assert open_end.high == math.inf
    assert open_end.low > 1


def test_units_of_distance_scale_the_critical_length():
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=True)
    one = measured(S, y, d, pairs, symmetric=True).critical_length
    shifted = measured(S, y, d * 1000 + 1e5, pairs, symmetric=True).critical_length
    assert tuple(shifted) == pytest.approx([1000 * end + 1e5 for end in one])


def test_wider_at_a_higher_level_and_narrower_with_more_examples():
    population = Population(3, 10, 0.5, 0.5)
    small, large = (block(population, size, symmetric=True) for size in (10, 40))
    at = {
        level: block_intervals(*small[:2], symmetric=True, level=level).summary["overall"] for level in (0.5, 0.95)
    }
    assert at[0.95].low < at[0.5].low < at[0.5].high < at[0.95].high
    more = block_intervals(*large[:2], symmetric=True).summary["overall"]
    assert more.high - more.low < at[0.95].high - at[0.95].low


def test_one_interval_agrees_with_the_block():
    S, y, d, pairs = block(Population(3, 10, 0.5, 0.5), 20, symmetric=True)
    low, high = bootstrap_interval(S, (d >= 1) & (d < 2) & pairs, symmetric=True, labels=y)
    assert low < float(distance_curve(S, d, pairs.triu(1), bins=3, limits=(0.0, 3.0)).mean[1]) < high
    whole = bootstrap_interval(S, symmetric=True)
    assert tuple(whole) == pytest.approx(tuple(block_intervals(S, symmetric=True).summary["overall"]), rel=0.15)


def test_chunks_change_nothing(monkeypatch):
    S, y, _, _ = block(Population(3, 10, 0.5, 0.5), 20, symmetric=False)
    whole = block_intervals(S, y, y, symmetric=False)
    monkeypatch.setattr(intervals_module, "_CELLS_AT_A_TIME", 7 * 9)
    parts = block_intervals(S, y, y, symmetric=False)
    for name, interval in whole.summary.items():
        assert tuple(parts.summary[name]) == pytest.approx(tuple(interval), abs=1e-12)


def test_weighted_cells_of_one_are_the_class_sums():
    S, y, _, _ = block(Population(3, 10, 0.5, 0.5), 4, symmetric=False)
    there = Block(torch.ones_like(S, dtype=torch.bool), y, y, False)
    weights = draw_weights(there.sides, 2, seed=0)
    assert not torch.equal(weights.rows, weights.columns)  # each side its own
    for w in (weights.rows, weights.columns):
        assert w.reshape(3, 4, 2).mean(1).flatten().tolist() == pytest.approx([1.0] * 6)
    cells = weighted_cells(S[None], there, weights, 3)[0]
    by_hand = (weights.rows[:4, 0, None] * S[:4, 4:8] * weights.columns[4:8, 0]).sum()
    assert cells[0, 1, 0].item() == pytest.approx(float(by_hand))


def test_errors(unchecked):
    S, y = torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])
    mask, edges = torch.ones(4, 3, dtype=torch.bool), EDGES
    with pytest.raises(ValueError, match="expected resamples of at least 2, got 1"):
        block_intervals(S, symmetric=False, resamples=1)
    for level in (0.0, 95):
        with pytest.raises(ValueError, match=r"level to be a number between 0 and 1, such as 0.95, got "):
            block_intervals(S, symmetric=False, level=level)
    with pytest.raises(ValueError, match=r"expected labels=\[n\] with superclasses=\[c\]"):
        block_intervals(S, symmetric=False, superclasses=[0, 1])
    with pytest.raises(ValueError, match=r"expected labels=\[n\] and other_labels=\[m\] together, got only one"):
        block_intervals(S, y, symmetric=False)
    with pytest.raises(ValueError, match=r"expected distance=.*, pairs=.* and edges=.* together, or none of them"):
        block_intervals(S, symmetric=False, distance=S)
    with pytest.raises(ValueError, match=r"expected distance of shape \[4, 3\] as stiffness has, got \[3, 4\]"):
        block_intervals(S, symmetric=False, distance=S.T, pairs=mask, edges=edges)
    with pytest.raises(ValueError, match=r"expected pairs of shape \[4, 3\] as stiffness has, got \[3, 4\]"):
        block_intervals(S, symmetric=False, distance=S, pairs=mask.T, edges=edges)
    with pytest.raises(ValueError, match=r"other_labels of shape \[3\], one for each column, got \[4\]"):
        block_intervals(S, y, y, symmetric=False)
    with pytest.raises(ValueError, match=r"labels to be integers, the class of each row, got torch.float32"):
        block_intervals(S, y.float(), y[:3], symmetric=False)
    with pytest.raises(ValueError, match="labels to be integers from 0, got values from -100 to -99"):
        block_intervals(S, y - 100, y[:3], symmetric=False)
    with pytest.raises(ValueError, match=r"stiffness \[n, n\] of one set of examples, .*got \[4, 3\]"):
        block_intervals(S, symmetric=True)
