import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_stiffness.functional import (
    class_stiffness_matrix,
    class_summary,
    cosine_stiffness,
    overall_stiffness,
    superclass_stiffness_matrix,
    superclass_summary,
)
from lightning_stiffness.functional.classes import class_sums, countable_pairs
from lightning_stiffness.functional.superclasses import superclass_tensor

seeds = st.integers(0, 2**31 - 1)
labels_of_eight = st.lists(st.integers(0, 3), min_size=8, max_size=8)


def stiffness(seed: int, n: int = 8, m: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    h = g if m is None else torch.randn(m, 4, generator=generator, dtype=torch.float64)
    return cosine_stiffness(g @ h.T, g.norm(dim=1), h.norm(dim=1))


def mean(values):
    values = [v for v in values if not math.isnan(v)]
    return math.fsum(values) / len(values) if values else math.nan


def matrix_by_hand(S, rows, columns, classes, is_same):
    return [
        [
            mean(
                S[i][j].item()
                for i in range(len(rows))
                for j in range(len(columns))
                if rows[i] == a and columns[j] == b and not is_same(i, j)
            )
            for b in range(classes)
        ]
        for a in range(classes)
    ]


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        equal_nan=True,
        atol=tolerance,
        rtol=0,
    )


@given(seeds, labels_of_eight)
def test_class_matrix_by_loops(seed, labels):
    S = stiffness(seed)
    C = class_stiffness_matrix(S, torch.tensor(labels), num_classes=4)
    close(C, matrix_by_hand(S, labels, labels, 4, lambda i, j: i == j))
    close(C, C.T)


@given(seeds, labels_of_eight, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_class_matrix_between_two_sets_by_loops(seed, labels, others):
    S = stiffness(seed, m=5)
    C = class_stiffness_matrix(S, torch.tensor(labels), torch.tensor(others), num_classes=4)
    close(C, matrix_by_hand(S, labels, others, 4, lambda i, j: False))


def test_examples_shared_by_two_sets_are_not_paired_with_themselves():
    S, labels = stiffness(0), torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    same = order[None, :] == torch.arange(8)[:, None]
    C = class_stiffness_matrix(S[:, order], labels, labels[order], same_example=same)
    close(C, class_stiffness_matrix(S, labels))
    assert overall_stiffness(S[:, order], symmetric=False, same_example=same) == pytest.approx(
        overall_stiffness(S, symmetric=True)
    )


@given(seeds, labels_of_eight)
def test_summaries_by_loops(seed, labels):
    S = stiffness(seed)
    C = class_stiffness_matrix(S, torch.tensor(labels), num_classes=4)
    cells = [(a, b, C[a, b].item()) for a in range(4) for b in range(4)]
    groups = [0, 0, 1, 2]
    expected = {
        "within_class": mean(v for a, b, v in cells if a == b),
        "between_class": mean(v for a, b, v in cells if a != b),
        "within_superclass": mean(v for a, b, v in cells if a != b and groups[a] == groups[b]),
        "between_superclass": mean(v for a, b, v in cells if groups[a] != groups[b]),
    }
    actual = class_summary(C) | superclass_summary(C, groups)
    assert actual == pytest.approx(expected, abs=1e-12, nan_ok=True)
    coarse = [
        [mean(v for a, b, v in cells if a != b and (groups[a], groups[b]) == (x, y)) for y in range(3)]
        for x in range(3)
    ]
    close(superclass_stiffness_matrix(C, groups), coarse)
    every = mean(S[i, j].item() for i in range(8) for j in range(8) if i != j)
    assert overall_stiffness(S, symmetric=True) == pytest.approx(every, abs=1e-12)


def test_between_class_is_a_mean_over_cells_not_over_pairs():
    # One pair of classes with 2 x 1 examples at 1, another with 1 x 1 at 0: pooled they would give 2/3.
    labels = torch.tensor([0, 0, 1, 2])
    S = torch.zeros(4, 4)
    S[:2, 2] = S[2, :2] = 1.0
    assert class_summary(class_stiffness_matrix(S, labels))["between_class"] == pytest.approx(1 / 3)


@given(seeds, labels_of_eight, st.permutations(range(8)), st.permutations(range(4)))
def test_permuting_examples_changes_nothing_and_classes_permute(seed, labels, order, classes):
    S, y, order, classes = stiffness(seed), torch.tensor(labels), torch.tensor(order), torch.tensor(classes)
    C = class_stiffness_matrix(S, y, num_classes=4)
    close(class_stiffness_matrix(S[order][:, order], y[order], num_classes=4), C)
    renamed = class_stiffness_matrix(S, classes[y], num_classes=4)
    close(renamed[classes][:, classes], C)
    assert class_summary(renamed) == pytest.approx(class_summary(C), nan_ok=True)


@given(seeds, labels_of_eight, st.integers(0, 8))
def test_sums_and_counts_add_up_over_parts(seed, labels, cut):
    S, y = stiffness(seed), torch.tensor(labels)
    S[2], S[:, 2] = math.nan, math.nan
    sums, counts = class_sums(S, y, num_classes=4)
    assert int(counts.sum()) == 7 * 6
    same = torch.eye(8, dtype=torch.bool)
    parts = [
        class_sums(S[rows], y[rows], y, num_classes=4, same_example=same[rows])
        for rows in (slice(0, cut), slice(cut, 8))
    ]
    close(parts[0][0] + parts[1][0], sums)
    assert torch.equal(parts[0][1] + parts[1][1], counts)


@given(seeds, labels_of_eight, st.integers(0, 7))
def test_an_example_without_stiffness_is_left_out_not_counted_as_zero(seed, labels, bad):
    S, y, others = stiffness(seed), torch.tensor(labels), torch.arange(8) != bad
    S[bad], S[:, bad] = math.nan, math.nan
    rest = S[others][:, others]
    close(class_stiffness_matrix(S, y, num_classes=4), class_stiffness_matrix(rest, y[others], num_classes=4))
    assert overall_stiffness(S, symmetric=True) == pytest.approx(overall_stiffness(rest, symmetric=True))


def test_empty_single_and_only_classes():
    S = torch.tensor([[1.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.75, 1.0]])
    C = class_stiffness_matrix(S, torch.tensor([0, 0, 3]), num_classes=5)
    nan = math.nan
    close(C[0], [0.5, nan, nan, 0.5, nan])
    close(C[3], [0.5, nan, nan, nan, nan])
    assert bool(torch.isnan(C[[1, 2, 4]]).all())
    assert class_summary(C) == {"within_class": 0.5, "between_class": 0.5}
    one_class = class_summary(class_stiffness_matrix(S, torch.zeros(3, dtype=torch.long)))
    assert one_class["within_class"] == pytest.approx(0.5)
    assert math.isnan(one_class["between_class"])
    singles = class_summary(class_stiffness_matrix(S, torch.arange(3)))
    assert math.isnan(singles["within_class"])
    assert singles["between_class"] == pytest.approx(0.5)


def test_no_example_and_no_valid_pair():
    nothing = class_stiffness_matrix(torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), num_classes=2)
    assert bool(torch.isnan(nothing).all())
    assert nothing.shape == (2, 2)
    missing = torch.full((3, 3), math.nan)
    assert math.isnan(overall_stiffness(missing, symmetric=True))
    assert all(math.isnan(v) for v in class_summary(class_stiffness_matrix(missing, torch.arange(3))).values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_holds_more_pairs_than_its_largest_number(dtype):
    C = class_stiffness_matrix(torch.full((300, 300), 0.5, dtype=dtype), torch.zeros(300, dtype=torch.long))
    assert C.dtype == dtype  # 89,700 pairs, where float16 ends at 65,504
    assert C.tolist() == [[0.5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_any_integer_type_of_label(dtype):
    S, y = stiffness(1), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    close(class_stiffness_matrix(S, y.to(dtype)), class_stiffness_matrix(S, y))
    close(
        superclass_stiffness_matrix(S[:3, :3], torch.tensor([0, 0, 1]).to(dtype)),
        superclass_stiffness_matrix(S[:3, :3], [0, 0, 1]),
    )


def test_two_levels_of_groups():
    S = torch.arange(16.0).reshape(4, 4)
    coarse = superclass_stiffness_matrix(S, [0, 0, 1, 1])
    close(coarse, [[2.5, 4.5], [10.5, 12.5]])
    close(superclass_stiffness_matrix(coarse, [0, 0]), [[7.5]])


def test_errors(unchecked):
    S, y = torch.eye(3), torch.tensor([0, 0, 1])
    with pytest.raises(
        ValueError, match=r"stiffness \[n, n\] of one set of examples, where neither other_labels.*\[3, 2\]"
    ):
        class_stiffness_matrix(S[:, :2], y)
    with pytest.raises(
        ValueError, match=r"labels to be integers, .* got torch.float32: where they are classes, call .long"
    ):
        class_stiffness_matrix(S, y.float())
    with pytest.raises(ValueError, match=r"expected labels to be integers, the class of each row, got torch.bool"):
        class_stiffness_matrix(S, y.bool(), num_classes=2)
    with pytest.raises(ValueError, match=r"expected labels of shape \[3\], one for each row, got \[2\]"):
        class_stiffness_matrix(S, y[:2])
    with pytest.raises(
        ValueError, match=r"expected other_labels of shape \[3\], one for each column, got \[3, 1\]"
    ):
        class_stiffness_matrix(S, y, y[:, None])
    with pytest.raises(
        ValueError, match=r"labels in \[0, 2\), got values from 0 to 2: number .* pass their number as num_c"
    ):
        class_stiffness_matrix(S, torch.tensor([0, 1, 2]), num_classes=2)
    with pytest.raises(
        ValueError, match=r"labels to be integers from 0, got values from -100 to 1: number the classes 0, 1"
    ):
        class_stiffness_matrix(S, torch.tensor([-100, 0, 1]))
    with pytest.raises(ValueError, match=r"expected same_example of shape \[3, 3\] as stiffness has, got \[2, 2\]"):
        countable_pairs(S, symmetric=True, same_example=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected matrix of shape \[c, c\], got \[3, 2\]"):
        class_summary(S[:, :2])
    with pytest.raises(
        ValueError, match=r"one group for each of the 3 classes, got shape \[2\]: pass a list where entry a"
    ):
        superclass_summary(S, [0, 1])
    with pytest.raises(ValueError, match=r"expected superclasses to be integers from 0, got \[0, -1, 1\]"):
        superclass_tensor([0, -1, 1], 3)
    with pytest.raises(ValueError, match=r"expected superclasses to be a list of integers, .*got \[0.5, 0, 1\]"):
        superclass_tensor([0.5, 0, 1], 3)
