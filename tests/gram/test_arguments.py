"""Every argument of ``gradient_gram``, of a wrong type or value: an error that names it and what came."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.gram import StepError, gradient_gram
from lightning_stiffness.gram.choice import select_parameters
from lightning_stiffness.gram.class_means import class_gradient_sums
from lightning_stiffness.gram.layers import layers_of
from lightning_stiffness.settings import Settings

BATCH = torch.zeros(4, 3), torch.arange(4) % 2
LAYERS = "expected per_layer to be True, False or names of submodules, got "
NAMES = r"expected parameters to be names or patterns as in named_parameters\(\), a function of .*, got "
BYTES = "expected memory_budget to be a whole number of bytes, such as 2_000_000_000, got "


def loss(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


WRONG = [
    ("module", None, "expected module to be a torch.nn.Module, got None"),
    ("module", nn.Linear, "expected module to be a torch.nn.Module, got the class Linear"),
    ("module", [nn.Linear(1, 1)], "expected module to be a torch.nn.Module, got a list"),
    ("module", network().forward, "expected module to be a torch.nn.Module, got the function Sequential.forward"),
    *[
        (argument, value, r"expected a batch with at least one tensor \[n, …\], got \w+ without any: pass tensors")
        for argument, values in (("batch", (None, 3, "x", [], np.zeros(3))), ("other", (3, "x", {}, [1, 2])))
        for value in values
    ],
    (
        "loss_fn",
        None,
        "expected loss_fn to be a function of a module and a batch .*, got None: pass a function such",
    ),
    (
        "loss_fn",
        "ce",
        "expected loss_fn to be a function of a module and a batch .*, got 'ce': pass a function such",
    ),
    ("loss_fn", nn.CrossEntropyLoss(), "got a CrossEntropyLoss, which takes outputs and targets: wrap it, as in"),
    ("loss_fn", functional.mse_loss, "got the function mse_loss, which takes outputs and targets: wrap it, as in"),
    ("loss_fn", lambda batch: batch, r"called as loss_fn\(module, batch\), got .*, which takes \(batch\)"),
    ("engine", 3, r"unknown engine 3: expected one of \['auto', 'layerwise', 'loop', 'vmap'\]"),
    ("engine", None, "unknown engine None: expected one of"),
    ("engine", ["loop"], r"unknown engine \['loop'\]: expected one of"),
    *[("memory_budget", value, BYTES) for value in ("2GB", 1.5, True, [1], math.nan, 2e9)],
    ("memory_budget", 0, "expected memory_budget in bytes, at least 1, got 0"),
    ("memory_budget", -1, "expected memory_budget in bytes, at least 1, got -1"),
    *[("parameters", value, NAMES) for value in (3, True, {"0": 1}, [3], b"0", nn.Linear, nn.Linear(1, 1))],
    ("parameters", [nn.Parameter(torch.ones(1))], f"{NAMES}a Parameter among them"),
    ("parameters", lambda name: True, r"called as parameters\(name, parameter\), got .*, which takes \(name\)"),
    ("parameters", [], "parameters= left no parameter to measure; the trainable ones are 0.weight, 0.bias"),
    ("parameters", lambda name, _: False, "parameters= left no parameter to measure; the trainable ones are"),
    ("parameters", "nine", "parameters='nine' fits no trainable parameter; there are 0.weight"),
    *[("per_layer", value, LAYERS) for value in (3, 1.0, [], (), [3], ["0", 3], {"0": 1}, {"0"}, b"0")],
    ("per_layer", "nine", r"expected per_layer to name submodules with parameters to measure \(0, 2\), got 'nine'"),
    *[
        ("step", value, "a mapping from the name of each parameter to its step size, got ")
        for value in (3, "sgd", [1], nn.Linear(1, 1))
    ],
    ("step", {}, "expected a step size for every parameter measured, got none for '0.weight'"),
]


def test_every_argument_is_here():
    assert {argument for argument, _, _ in WRONG} == set(inspect.signature(gradient_gram).parameters)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [pytest.param(*case, id=f"{case[0]} {type(case[1]).__name__} {i}") for i, case in enumerate(WRONG)],
)
def test_wrong_argument(argument, value, message):
    good = {"module": network(), "batch": BATCH, "loss_fn": loss}
    with pytest.raises(ValueError, match=message) as caught:
        gradient_gram(**{**good, argument: value})
    assert isinstance(caught.value, StepError) == (argument == "step")
    assert len(str(caught.value)) < 350  # and so prints nobody's data


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({"memory_budget": np.int64(10**9)}, {"memory_budget": 10**9}),
        ({"memory_budget": torch.tensor(10**9)}, {"memory_budget": 10**9}),
        ({"per_layer": np.True_}, {"per_layer": True}),
        ({"per_layer": None}, {"per_layer": False}),
        ({"per_layer": iter(["0"])}, {"per_layer": "0"}),
        ({"per_layer": np.array(["0", "2"])}, {"per_layer": ["0", "2"]}),
        ({"parameters": {"0.bias", "2"}}, {"parameters": ["2", "0.bias"]}),
        ({"parameters": (name for name in ["2"])}, {"parameters": "2"}),
        ({"parameters": np.array(["2"])}, {"parameters": "2"}),
    ],
    ids=[f"case {i}" for i in range(9)],
)
def test_other_forms_of_the_same(arguments, same):
    found, expected = (gradient_gram(network(), BATCH, loss_fn=loss, **kinds) for kinds in (arguments, same))
    torch.testing.assert_close(found.values, expected.values)
    assert list(found.layers) == list(expected.layers)


@pytest.mark.parametrize("wanted", [3, [], [3], {"0": 1}, {"0"}], ids=str)
def test_layers_are_refused_in_the_same_words_everywhere(wanted):
    told = set()
    for refuse in (lambda: Settings(per_layer=wanted), lambda: layers_of(["0.weight"], wanted)):
        with pytest.raises(ValueError, match=LAYERS) as caught:
            refuse()
        told.add(str(caught.value))
    assert len(told) == 1


@pytest.mark.parametrize("wanted", [3, {"0": 1}, [3], nn.Linear, lambda name: True], ids=range(5))
def test_parameters_are_refused_in_the_same_words_everywhere(wanted):
    told = set()
    for refuse in (lambda: Settings(parameters=wanted), lambda: select_parameters(network(), wanted)):
        with pytest.raises(ValueError, match="expected parameters to be names or patterns") as caught:
            refuse()
        told.add(str(caught.value))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("argument", "value", "told"),
    [
        ("module", nn.Linear, "expected module to be a torch.nn.Module, got the class Linear"),
        ("batches", BATCH[0], r"expected batches to be batches of examples.*got a Tensor"),
        ("batches", 3, "expected batches to be batches of examples.*got 3"),
        ("loss_fn", "mean", "expected loss_fn to be"),
        ("label_fn", 1, "expected label_fn to be a function of a batch that returns its classes .*got 1"),
        ("label_fn", lambda: 0, r"called as label_fn\(batch\)"),
        ("num_classes", 0, "expected num_classes of at least 1, got 0"),
        ("num_classes", 2.5, "expected num_classes to be .*got 2.5"),
        ("num_classes", None, "expected num_classes to be .*got None"),
    ],
    ids=[f"case {i}" for i in range(9)],
)
def test_wrong_arguments_of_sums_by_class(argument, value, told):
    right = {
        "module": network(), "batches": [BATCH], "loss_fn": loss, "label_fn": lambda b: b[1], "num_classes": 3
    }  # fmt: skip
    class_gradient_sums(**right)
    with pytest.raises(ValueError, match=told):
        class_gradient_sums(**{**right, argument: value})
