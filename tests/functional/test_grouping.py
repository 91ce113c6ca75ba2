"""Super-classes on several levels, the permutation test and the orders of the classes."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.cluster.hierarchy
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_stiffness.functional import class_order, grouping_test, superclass_summary
from lightning_stiffness.functional.superclasses import superclass_levels

seeds = st.integers(0, 2**31 - 1)


def matrix(seed, classes=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(classes, classes, generator=generator, dtype=torch.float64) * 2 - 1


def difference(C, groups):
    """T of the permutation test, cell by cell."""
    inside, outside = [], []
    for a, b in itertools.permutations(range(len(groups)), 2):
        if not math.isnan(C[a, b]):
            (inside if groups[a] == groups[b] else outside).append(float(C[a, b]))
    return np.mean(inside) - np.mean(outside)


@settings(max_examples=10)
@given(seeds, st.sampled_from([[0, 0, 1, 1, 2], [0, 1, 1, 1, 0], [3, 3, 0, 1, 3]]))
def test_p_value_by_trying_every_order(seed, groups):
    C = matrix(seed, 5)
    C[0, 3] = math.nan
    test = grouping_test(C, groups)
    orders = list(itertools.permutations(range(5)))
    every = [difference(C, [groups[o.index(a)] for a in range(5)]) for o in orders]
    assert test.difference == pytest.approx(difference(C, groups), abs=1e-12)
    assert test.p_value == pytest.approx(np.mean([t >= test.difference - 1e-9 for t in every]), abs=1e-12)
    assert (test.permutations, test.exact) == (120, True)


def test_p_value_by_scipy_where_orders_are_drawn():
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    C = matrix(3, 10)
    C[:4, :4] += 0.5
    test = grouping_test(C, groups.tolist(), permutations=4999)
    other = scipy.stats.permutation_test(
        (groups,),
        lambda dealt: difference(C, dealt),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=800,
        rng=np.random.default_rng(0),
    )
    assert 0.01 < test.p_value < 0.5
    error = 5 * math.sqrt(other.pvalue * (1 - other.pvalue) * (1 / 800 + 1 / 4999))
    assert test.p_value == pytest.approx(other.pvalue, abs=error)
    assert not test.exact


def test_a_grouping_that_is_there_and_one_that_is_not():
    groups = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    same = torch.tensor(groups)[:, None] == torch.tensor(groups)[None]
    C = 0.1 * matrix(0, 12) + 0.3 * same
    assert grouping_test(C, groups).p_value == 1 / 1000  # none of 999, and the order itself
    assert grouping_test(-C, groups).p_value > 0.99


def test_p_values_of_noise_are_uniform():
    groups = [0, 0, 0, 1, 1, 1, 2, 2]
    values = [grouping_test(matrix(seed, 8), groups, permutations=99).p_value for seed in range(200)]
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01


@given(seeds, st.permutations(range(6)), st.permutations(range(3)))
def test_renaming_classes_and_groups_changes_nothing(seed, order, names):
    C, groups = matrix(seed), [0, 0, 1, 1, 1, 2]
    expected = grouping_test(C, groups)
    renamed = grouping_test(C[order][:, order], [names[groups[a]] for a in order])
    assert renamed.p_value == pytest.approx(expected.p_value)
    assert renamed.difference == pytest.approx(expected.difference)


def test_the_diagonal_missing_cells_and_seeds():
    C, groups = matrix(0, 9), [0, 0, 0, 0, 0, 1, 1, 1, 1]
    expected = grouping_test(C, groups)
    C.fill_diagonal_(1.0)
    before = torch.get_rng_state()
    assert grouping_test(C, groups) == expected
    assert torch.equal(before, torch.get_rng_state())
    empty = C.clone()
    empty[8], empty[:, 8] = math.nan, math.nan  # a class without examples
    assert 0 < grouping_test(empty, groups).p_value <= 1
    assert math.isnan(grouping_test(C, [0] * 9).p_value)
    assert math.isnan(grouping_test(C, range(9)).p_value)
    assert math.isnan(grouping_test(torch.full((9, 9), math.nan), groups).p_value)


def test_two_levels():
    C, fine, coarse = matrix(1), [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1]
    both = superclass_summary(C, [fine, coarse])
    first, second = superclass_summary(C, fine), superclass_summary(C, coarse)
    assert both == first | {f"{name}_2": value for name, value in second.items()}
    assert superclass_summary(C, torch.tensor([fine, coarse])) == both
    assert [level.tolist() for level in superclass_levels([torch.tensor(fine), coarse], 6)] == [fine, coarse]
    with pytest.raises(ValueError, match="one group for each of the 6 classes"):
        superclass_summary(C, [fine, [0, 1]])


@given(seeds)
def test_clusters_by_scipy(seed):
    C = matrix(seed, 7)
    order = class_order(C, "cluster")
    assert sorted(order) == list(range(7))
    distance = [1 - (C[a, b].item() + C[b, a].item()) / 2 for a, b in itertools.combinations(range(7), 2)]
    tree = scipy.cluster.hierarchy.linkage(distance, "average", optimal_ordering=True)
    assert order == scipy.cluster.hierarchy.leaves_list(tree).tolist()


def test_clusters_put_together_what_belongs_together():
    groups = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    C = 0.05 * matrix(0, 9) + (groups[:, None] == groups[None]) * 0.5
    C[0, 3] = C[3, 0] = math.nan
    C[4, 7] = math.nan  # the other direction stands in
    found = groups[class_order(C)].tolist()
    assert sum(a != b for a, b in itertools.pairwise(found)) == 2
    assert sorted(class_order(torch.full((4, 4), math.nan))) == [0, 1, 2, 3]
    assert class_order(C[:2, :2]) == [0, 1]
    assert class_order(C, "given") == list(range(9))
    assert class_order(C, "group", groups) == [0, 3, 6, 1, 4, 7, 2, 5, 8]


@pytest.mark.usefixtures("unchecked")
def test_errors():
    with pytest.raises(ValueError, match="expected permutations of at least 1, got 0"):
        grouping_test(torch.eye(3), [0, 0, 1], permutations=0)
    with pytest.raises(ValueError, match=r"one group for each of the 3 classes, got shape \[2\]: pass a list"):
        grouping_test(torch.eye(3), [0, 1])
    for function in (lambda C: grouping_test(C, [0, 1]), class_order):
        with pytest.raises(ValueError, match=r"expected matrix of shape \[c, c\], got \[2, 3\]"):
            function(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"order to be one of \['given', 'group', 'cluster'\], got 'size'"):
        class_order(torch.eye(3), "size")
    with pytest.raises(ValueError, match="order='group' needs superclasses="):
        class_order(torch.eye(3), "group")


def test_without_scipy_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['scipy'] = None; sys.modules['scipy.cluster.hierarchy'] = None\n"
        "import torch; from lightning_stiffness.functional import class_order\n"
        "class_order(torch.eye(3), 'given')\n"
        "class_order(torch.eye(3), 'cluster')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "needs SciPy: pip install scipy, or pip install '.[cluster]' in a clone" in done.stderr
