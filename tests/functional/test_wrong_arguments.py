"""Every argument of every public function, of a wrong type or value: an error that names it and what came."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_stiffness import functional
from tests import told

pytestmark = pytest.mark.usefixtures("unchecked")  # the errors are the package's own

G = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
GRAM = G @ G.T
S = functional.cosine_stiffness(GRAM)
Y = torch.tensor([0, 0, 1, 1, 2, 2])
SAME = torch.eye(6, dtype=torch.bool)
DISTANCE = torch.cdist(G, G)
PAIRS = (Y[:, None] == Y).triu(1)
MATRIX = functional.class_stiffness_matrix(S, Y)
EDGES = torch.linspace(0, 5, 4).double()

NOT_TENSORS = [3, "x", [[1.0, 2.0]], np.zeros((6, 6)), G.to_sparse()]
NOT_PAIRS = [*NOT_TENSORS, torch.zeros(()), torch.zeros(6), torch.zeros(6, 6, 1), torch.zeros(6, 6) * 1j]
NOT_STIFFNESS = [*NOT_PAIRS, None, torch.zeros(6, 6, dtype=torch.long), SAME]
NOT_MASKS = [*NOT_TENSORS, SAME.long(), SAME.double(), SAME[:5, :5], SAME[0]]
NOT_LABELS = [3, "x", Y.tolist(), Y.numpy(), Y[:5], Y[:, None], Y.double(), Y * math.nan, Y.bool(), Y - 5]
NOT_COUNTS = ["x", 2.5, True, [3], 0, -1, math.nan]
NOT_SEEDS = ["a", None, 1.5, True, [1], 2**70]
NOT_GROUPS = [
    3,
    "abc",
    {0: 1},
    {0, 1},
    [0, 1],
    [0, 1, "a"],
    [0, 1, None],
    [0.5, 1, 1],
    [0, -1, 1],
    [[0, 1, 2], [0]],
]
NOT_GROUPS += [torch.tensor([0.0, 1.0, 1.0]), torch.tensor(3), [True, False, True], []]
NOT_LEVELS = [0, 1, 95, "x", None, math.nan, True, [0.9]]
NOT_LIMITS = [3, "ab", (1,), (0, 1, 2), (1, 0), (math.nan, 1), (0, math.inf), ("a", "b"), (None, 1), {0: 1}]
NOT_SWITCHES = [None, 1, "yes", [True]]
NOT_NUMBERS = [None, 3, "ab", [1.0], [None, 1.0], torch.zeros(2, 2)]

PAIRWISE = {
    "gram": (GRAM, NOT_STIFFNESS),
    "norms": (G.norm(dim=1), [*NOT_TENSORS, torch.zeros(6, 6), G.norm(dim=1)[:3]]),
    "other_norms": (G.norm(dim=1), [*NOT_TENSORS, torch.zeros(6, 6), G.norm(dim=1)[:3]]),
}
OF_PAIRS = {
    "stiffness": (S, NOT_STIFFNESS),
    "distance": (DISTANCE, [*NOT_PAIRS, None, torch.zeros(6, 5)]),
    "pairs": (PAIRS, [*NOT_MASKS, None]),
}
OF_CLASSES = {"matrix": (MATRIX, [*NOT_STIFFNESS, torch.zeros(3, 4)])}
OF_GROUPS = {**OF_CLASSES, "superclasses": ([0, 0, 1], [*NOT_GROUPS, None])}
DIAGNOSTIC = {"gram": (GRAM, NOT_STIFFNESS)}
DRAWN = {"resamples": (9, [*NOT_COUNTS, 1]), "level": (0.9, NOT_LEVELS), "seed": (0, NOT_SEEDS)}
BLOCK = {
    "labels": (Y, NOT_LABELS),
    "other_labels": (Y, NOT_LABELS),
    "symmetric": (False, NOT_SWITCHES),
    "same_example": (SAME, NOT_MASKS),
    "superclasses": ([0, 0, 1], NOT_GROUPS),
    "distance": (DISTANCE, NOT_PAIRS),
    "pairs": (PAIRS, NOT_MASKS),
    "edges": (
        EDGES,
        [3, "x", [0, 1], torch.zeros(()), torch.zeros(1), torch.zeros(2, 2), -EDGES, EDGES * math.nan],
    ),
    "min_pairs": (2, NOT_COUNTS),
    **DRAWN,
}
# Function → argument → a value it takes, and values it does not take.
CALLS = {
    "valid_examples": {"norms": (G.norm(dim=1), [*NOT_TENSORS, None, torch.zeros(6, 6)])},
    "cosine_stiffness": PAIRWISE,
    "sign_stiffness": PAIRWISE,
    "class_stiffness_matrix": {
        "stiffness": (S, NOT_STIFFNESS),
        "labels": (Y, [*NOT_LABELS, None]),
        "other_labels": (Y, NOT_LABELS),
        "num_classes": (3, NOT_COUNTS),
        "same_example": (SAME, NOT_MASKS),
    },
    "overall_stiffness": {
        "stiffness": (S, NOT_STIFFNESS),
        "symmetric": (True, NOT_SWITCHES),
        "same_example": (SAME, NOT_MASKS),
    },
    "class_summary": OF_CLASSES,
    "superclass_summary": OF_GROUPS,
    "superclass_stiffness_matrix": OF_GROUPS,
    "grouping_test": {**OF_GROUPS, "permutations": (9, [*NOT_COUNTS, None]), "seed": (0, NOT_SEEDS)},
    "class_order": {
        **OF_CLASSES,
        "superclasses": ([0, 0, 1], NOT_GROUPS),
        "order": ("group", [None, 3, ["group"], "size"]),
    },
    "pairwise_distance": {
        "x": (G, [*NOT_PAIRS, None]),
        "other": (G, [*NOT_PAIRS, G[:, :3]]),
        "distance": ("cosine", [None, 3, ["cosine"], "manhattan", nn.PairwiseDistance, lambda x: x]),
    },
    "standardise": {
        "x": (G, [*NOT_TENSORS, None, torch.zeros(()), G * 1j]),
        "reference": (G, [*NOT_TENSORS, torch.zeros(()), G * 1j]),
    },
    "distance_curve": {**OF_PAIRS, "bins": (3, [*NOT_COUNTS, None, []]), "limits": ((0.0, 1.0), NOT_LIMITS)},
    "curve_crossing": {"centers": ([0.5, 1.5], NOT_NUMBERS), "mean": ([0.4, -0.1], NOT_NUMBERS)},
    "critical_length": {**OF_PAIRS, "min_pairs": (2, [*NOT_COUNTS, None])},
    "class_critical_lengths": {
        **OF_PAIRS,
        "labels": (Y, [*NOT_LABELS, None]),
        "num_classes": (3, [*NOT_COUNTS, 2]),
        "min_pairs": (2, [*NOT_COUNTS, None]),
    },
    "effective_rank": DIAGNOSTIC,
    "gradient_coherence": DIAGNOSTIC,
    "gradient_confusion": DIAGNOSTIC,
    "gradient_diversity": DIAGNOSTIC,
    "bootstrap_interval": {
        "stiffness": (S, NOT_STIFFNESS),
        "pairs": (PAIRS, NOT_MASKS),
        "symmetric": (True, NOT_SWITCHES),
        "labels": (Y, NOT_LABELS),
        "other_labels": (None, []),
        **DRAWN,
    },
    "block_intervals": {"stiffness": (S, NOT_STIFFNESS), **BLOCK},
    "joint_intervals": {
        "stiffness": ([S], [None, 3, "x", [], S, [3], [S, S[:3]], {"cos": S}, [S.long()]]),
        **BLOCK,
    },
}
# What speaks of two arguments together may name the other one.
PARTNERS = {
    "other_norms": "norms",
    "x": "x|other|inputs",
    "reference": "reference|inputs",
    "centers": "centers|mean",
    "num_classes": "num_classes|labels",
    "gram": "gram|the square Gram",
    "stiffness": "stiffness|each of stiffness",
    "superclasses": "superclasses|each (entry|level) of superclasses",
}

WRONG = [
    pytest.param(name, argument, value, id=f"{name} {argument} {i}")
    for name, arguments in CALLS.items()
    for argument, (_, values) in arguments.items()
    for i, value in enumerate(values)
]


def test_every_function_and_argument_is_here():
    public = {name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))}
    assert set(CALLS) == public
    for name, arguments in CALLS.items():
        assert set(arguments) == set(inspect.signature(getattr(functional, name)).parameters), name


@pytest.mark.parametrize("name", CALLS)
def test_right_arguments(name):
    getattr(functional, name)(**{argument: value for argument, (value, _) in CALLS[name].items()})


@pytest.mark.parametrize(("name", "argument", "value"), WRONG)
def test_wrong_argument(name, argument, value):
    good = {other: right for other, (right, _) in CALLS[name].items()}
    named = f"(expected|unknown) ({PARTNERS.get(argument, argument)}|{argument})"
    with pytest.raises(ValueError, match=named) as caught:
        getattr(functional, name)(**{**good, argument: value})
    message = str(caught.value)
    assert "got" in message or "unknown" in message
    assert len(message) < 300  # and so prints nobody's data


class Gram:
    """As what ``gradient_gram`` returns."""

    values = GRAM


@pytest.mark.parametrize(
    ("gram", "way_out"),
    [
        (GRAM.tolist(), r"to be a tensor \[n, m\], got a list: pass torch.as_tensor\(gram\)"),
        (GRAM.numpy(), r"to be a tensor \[n, m\], got an ndarray: pass torch.as_tensor\(gram\)"),
        (Gram(), r"to be a tensor \[n, m\], got a Gram: pass its .values"),
        (GRAM.to_sparse(), r"got one of torch.sparse_coo: call .to_dense\(\) on it"),
        (GRAM.long(), r"to be floating-point numbers, got torch.int64: call .double\(\) on it"),
        (GRAM[:5], r"the Gram between two different sets \[5, 6\] .*pass norms=\[n\] and other_norms=\[m\]"),
    ],
    ids=told,
)
def test_the_way_out(gram, way_out):
    with pytest.raises(ValueError, match=way_out):
        functional.cosine_stiffness(gram)


def test_a_mask_of_integers_would_have_counted_every_pair():
    with pytest.raises(ValueError, match=r"same_example to hold True and False, got torch.int64: call .bool\(\)"):
        functional.overall_stiffness(S, symmetric=False, same_example=SAME.long())
    with pytest.raises(
        ValueError, match=r"expected pairs to be a tensor .*got a list: pass torch.as_tensor\(pairs\)"
    ):
        functional.critical_length(S, DISTANCE, PAIRS.tolist())


@pytest.mark.parametrize("count", [np.int64(3), torch.tensor(3), np.array(3)], ids=told)
def test_whole_numbers_of_other_kinds(count):
    assert len(functional.distance_curve(S, DISTANCE, PAIRS, bins=count).mean) == 3
    assert functional.class_stiffness_matrix(S, Y, num_classes=count).shape == (3, 3)


@pytest.mark.parametrize(
    "groups",
    [(0, 0, 1), np.array([0, 0, 1]), torch.tensor([0, 0, 1]), [torch.tensor(0), np.int64(0), 1], iter([0, 0, 1])],
    ids=["tuple", "array", "tensor", "scalars", "iterator"],
)
def test_groups_of_other_kinds(groups):
    found = functional.superclass_stiffness_matrix(MATRIX, groups)
    torch.testing.assert_close(
        found, functional.superclass_stiffness_matrix(MATRIX, [0, 0, 1]), equal_nan=True, rtol=0, atol=0
    )
