"""What the layerwise engine says of itself: formulas, fallbacks, factors, budgets."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import BudgetError, CoupledExamples, GradientGram, gradient_gram

from .cases import CASES


def told(name: str) -> tuple[GradientGram, list[str]]:
    """The Gram of a case, and the warnings on the way."""
    case = CASES[name]
    module, batch, loss_fn = case.build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gram = gradient_gram(module, batch, loss_fn=loss_fn, parameters=case.parameters)
    return gram, [str(w.message) for w in caught if "stiffness of" in str(w.message)]


@pytest.mark.parametrize(
    ("name", "parameter", "formula"),
    [
        ("embedding_plain", "weight", "Σ [k = k′] δ·δ′"),
        ("norm_layer", "weight", "G Gᵀ"),
        ("small_convolutional_network", "0.weight", "conv G, G Gᵀ"),
    ],
)
def test_plan_names_the_formula(name: str, parameter: str, formula: str) -> None:
    gram, messages = told(name)
    assert gram.plan.formula(parameter) == formula
    assert not messages
    assert parameter in str(gram.plan)


def test_wide_layer_takes_products_of_factors_with_its_bias() -> None:
    net, batch = nn.Linear(64, 32), (torch.randn(9, 64), torch.randn(9, 32))
    plan = gradient_gram(net, batch, loss_fn=lambda m, b: (m(b[0]) - b[1]).square().sum(1)).plan
    assert [step.parameters for step in plan.steps] == [("weight", "bias")]
    assert plan.formula("bias") == "(L Lᵀ) ∘ (R Rᵀ)"


@pytest.mark.parametrize(
    ("name", "culprit"),
    [("weight_in_own_function", "w"), ("inner_vmap", "layer.weight"), ("scripted", "0.weight")],
)
def test_what_the_mode_cannot_see_falls_back_with_one_message(name: str, culprit: str) -> None:
    gram, messages = told(name)
    assert culprit in gram.plan.fallbacks
    assert len(messages) == 1
    assert culprit in messages[0]


@pytest.mark.parametrize("name", [one for one in CASES if one.startswith(("all_outputs", "states_", "cell_"))])
def test_calls_with_several_outputs(name: str) -> None:
    gram, messages = told(name)
    assert not gram.plan.fallbacks
    assert not messages


@pytest.mark.parametrize("engine", ["auto", "layerwise"])
def test_torch_says_nothing_of_its_ways(engine: str) -> None:
    """As that an operation has no batching rule."""
    module, batch, loss_fn = CASES["packed_sequence"].build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradient_gram(module, batch, loss_fn=loss_fn, engine=engine)
    assert [str(w.message) for w in caught if not str(w.message).startswith("stiffness of")] == []


def test_only_the_hidden_weight_falls_back() -> None:
    gram, _ = told("weight_in_own_function")
    assert set(gram.plan.fallbacks) == {"w"}
    assert gram.engine == "layerwise"


@pytest.mark.parametrize(("name", "engine"), [("length_by_sorting", "vmap"), ("packed_sequence", "loop")])
def test_where_all_fall_back_it_says_to_what(name: str, engine: str) -> None:
    gram, _ = told(name)
    assert gram.engine == engine
    assert len(gram.plan.fallbacks) == sum(1 for _ in CASES[name].build()[0].parameters())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_plain_mean_and_sum_give_the_gram_of_single_losses(reduction: str) -> None:
    torch.manual_seed(0)
    net = nn.Linear(5, 3).double()
    batch = torch.randn(8, 5, dtype=torch.float64), torch.randint(3, (8,))
    expected = gradient_gram(net, batch, loss_fn=lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none"))
    got = gradient_gram(net, batch, loss_fn=lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction=reduction))
    torch.testing.assert_close(got.values, expected.values, rtol=1e-9, atol=0)
    assert got.plan.notes == []


def test_weighted_mean_is_told() -> None:
    gram, _ = told("token_weighted_mean")
    assert any("positive factor" in note for note in gram.plan.notes)


def test_contrastive_loss_is_refused_in_words() -> None:
    module, batch, loss_fn = CASES["contrastive"].build()
    with pytest.raises(CoupledExamples, match="compares the examples of a batch with each other"):
        gradient_gram(module, batch, loss_fn=loss_fn)


def test_too_small_a_budget_says_what_would_do() -> None:
    module, batch, loss_fn = CASES["perceptron"].build()
    with pytest.raises(BudgetError, match="the least that would do") as refused:
        gradient_gram(module, batch, loss_fn=loss_fn, memory_budget=1)
    least = next(int(word.rstrip(",")) for word in str(refused.value).split("take ")[1].split())
    expected = gradient_gram(module, batch, loss_fn=loss_fn).values
    got = gradient_gram(module, batch, loss_fn=loss_fn, memory_budget=least).values
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_nan_stays_with_its_example() -> None:
    gram, _ = told("example_not_finite_nan")
    finite = torch.isfinite(gram.values).cpu()
    rows: Tensor = torch.arange(len(gram.values)) != 4
    assert torch.equal(finite, rows[:, None] & rows[None, :])
