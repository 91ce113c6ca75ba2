"""Every argument of the callback, of a wrong type or value: an error that names it, before anything is trained."""

import functools
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from lightning_stiffness import StiffnessCallback, measure_stiffness
from lightning_stiffness.gram import StepError, gradient_gram
from tests.callback.runs import Classifier, digits, fc, fit

WRAP = (
    r'loss_fn=lambda module, batch: functional\.cross_entropy\(module\(batch\[0\]\), batch\[1\], reduction="none"\)'
)

pytestmark = pytest.mark.usefixtures("unchecked")  # the errors are the package's own


def of_batch(batch):
    return batch


def of_three(a, b, c):
    return a


class Focal(nn.Module):
    """A loss as users write their own: of outputs and targets."""

    def forward(self, outputs, targets):
        return functional.cross_entropy(outputs, targets)


def not_whole(argument, *values):
    return [(argument, value, f"expected {argument} to be a whole number.*, got") for value in values]


BOTH = [
    *not_whole("bins", 2.5, "20", None, True, np.float64(3), [20]),
    ("bins", 0, "expected bins of at least 1, got 0"),
    *not_whole("resamples", 2.5, "x", None, False, np.bool_(True)),
    ("memory_budget", "2GB", "memory_budget to be a whole number of bytes, such as 2_000_000_000, got '2GB'"),
    ("memory_budget", 2e9, "expected memory_budget to be a whole number of bytes.*, got 2000000000.0"),
    ("memory_budget", True, "expected memory_budget to be a whole number of bytes.*, got True"),
    ("measures", None, r"expected measures to be one or more of \['cos', 'sign'\], each once, got None"),
    ("measures", {"cos": 1}, "expected measures to be one or more of .* got a dict"),
    ("measures", {"cos"}, "expected measures to be one or more of .* got a set"),
    ("measures", [["cos"]], "expected measures to be one or more of .* got"),
    ("engine", None, "unknown engine None: expected one of"),
    ("engine", ["loop"], r"unknown engine \['loop'\]: expected one of"),
    ("distance", ["cosine"], r"unknown distance \['cosine'\]: expected one of .* or a function"),
    ("distance", None, "unknown distance None: expected one of .* or a function"),
    ("distance", of_batch, r"expected distance to be a function of two tensors .*, got the function of_batch"),
    ("distance_layer", 3, "expected distance_layer to be the name of a submodule, or None, got 3"),
    ("superclasses", "abc", "expected superclasses to be a list of integers, .* several such lists, got 'abc'"),
    ("superclasses", {0: 1}, "expected superclasses to be a list of integers, .*got a dict"),
    ("superclasses", 3, "expected superclasses to be a list of integers, .*got 3"),
    ("superclasses", ["a", "b"], r"expected superclasses to be a list of integers, .*got \['a', 'b'\]"),
    ("superclasses", [0, None], r"expected superclasses to be a list of integers, .*got \[0, None\]"),
    ("superclasses", [0.5, 1.0], r"expected superclasses to be a list of integers, .*got \[0.5, 1.0\]"),
    ("superclasses", [[0, 1.5]], "expected each entry of superclasses to be a whole number, got 1.5"),
    ("superclass_names", 3, "expected superclass_names to be a list of names, got 3"),
    ("superclass_names", {0: "a"}, "expected superclass_names to be a list of names, got a dict"),
    ("superclass_names", ["a", None], "expected each level of superclass_names to be a list of names, got 'a'"),
    ("class_names", {0: "cat", 1: "dog"}, "expected class_names to be a list of names, entry a for .*got a dict"),
    ("class_names", 3, "expected class_names to be a list of names, .*got 3"),
    ("class_names", "cat", "expected class_names to be a list of names, .*got 'cat'"),
    ("class_names", {"cat", "dog"}, "expected class_names to be a list of names, .*got a set"),
    ("class_names", ["cat", None], "expected class_names to be a list of names, .*got None in it"),
    ("class_names", torch.zeros(()), "expected class_names to be a list of names, .*got a Tensor"),
    ("parameters", 3, r"expected parameters to be names or patterns as in named_parameters\(\), .*got 3"),
    ("parameters", {"net": 1}, "expected parameters to be names or patterns .*got a dict"),
    ("parameters", nn.Linear(1, 1), "expected parameters to be names or patterns .*got a Linear"),
    ("parameters", [*nn.Linear(1, 1).parameters()], "expected parameters to be names .*got a Parameter among them"),
    ("parameters", of_batch, r"called as parameters\(name, parameter\), got the function of_batch, which tak"),
    ("per_layer", {"net": 1}, "expected per_layer to be True, False or names of submodules, got a dict"),
    ("per_layer", [3], r"expected per_layer to be True, False or names of submodules, got \[3\]"),
    ("diagnostics", "no", "expected diagnostics to be True or False, got 'no'"),
    ("diagnostics", None, "expected diagnostics to be True or False, got None"),
    ("loss_fn", "ce", f"expected loss_fn to be a function of a module and a batch .* got 'ce': pass .*{WRAP}"),
    ("loss_fn", 3, "expected loss_fn to be a function of a module and a batch .* got 3"),
    ("loss_fn", nn.CrossEntropyLoss(), f"got a CrossEntropyLoss, which takes outputs .*: wrap it, .*{WRAP}"),
    ("loss_fn", nn.CrossEntropyLoss, f"got the class CrossEntropyLoss, which takes outputs .*{WRAP}"),
    ("loss_fn", Focal(), f"got a Focal, which takes outputs and targets.*{WRAP}"),
    ("loss_fn", functional.cross_entropy, f"got the function cross_entropy, which takes outputs .*{WRAP}"),
    ("loss_fn", functools.partial(functional.mse_loss, reduction="none"), f"got the function mse_loss, .*{WRAP}"),
    ("loss_fn", of_batch, r"called as loss_fn\(module, batch\), got the function of_batch, which takes \(batch\)"),
    ("loss_fn", of_three, r"called as loss_fn\(module, batch\), .*which takes \(a, b, c\)"),
]  # fmt: skip

CALLBACK = [
    *not_whole("probe_size", "100", 10.5, True, [100]),
    ("probe_size", 1, "expected probe_size of at least 2, to have a pair to compare, got 1"),
    *not_whole("every_n_epochs", "2", None, 1.5, True),
    ("every_n_epochs", -1, r"expected every_n_epochs of at least 0 \(0: never\), got -1"),
    *not_whole("every_n_train_steps", 2.5, "5", True, [5]),
    ("every_n_train_steps", 0, "expected every_n_train_steps of at least 1, got 0"),
    ("every_n_train_steps", of_three, r"called as every_n_train_steps\(step\), got the function of_three"),
    *not_whole("seed", "a", None, 1.5),
    ("seed", 2**64, "expected seed to have at most 64 bits"),
    ("splits", None, r"expected splits to be one or more of \['train', 'val'\], each once, got None"),
    ("splits", {"train": 1}, "expected splits to be one or more of .* got a dict"),
    ("splits", ["train", "train"], "each once, got 'train', 'train'"),
    ("at_start", "false", "expected at_start to be True or False, got 'false'"),
    ("save", 0, "expected save to be True or False, got 0"),
    ("pictures", ["all"], r"expected pictures to be one of \['main', 'all', 'none'\], got \['all'\]"),
    ("on_error", ["warn", "raise"], r"expected on_error to be 'warn' or 'raise', got \['warn', 'raise'\]"),
    ("on_error", None, "expected on_error to be 'warn' or 'raise', got None"),
    ("step", "adam", r"expected step to be one of \['sgd', 'optimizer'\], or a function .*got 'adam'"),
    ("step", torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1), "expected step to be one of .*got a.? SGD"),
    ("step", of_batch, r"called as step\(optimizers, module\), got the function of_batch"),
    ("label_fn", 3, r"label_fn to be a function of a batch .* or False to leave classes out, got 3"),
    ("label_fn", True, "or False to leave classes out, got True"),
    ("label_fn", torch.arange(9), "or False to leave classes out, got a Tensor"),
    ("label_fn", of_three, r"called as label_fn\(batch\), got the function of_three"),
    ("input_fn", "x", r"input_fn to be a function of a batch .* or False to leave distances out, got 'x'"),
    ("dataloaders", [1], r"expected dataloaders to be a mapping, such as \{'train': loader\}, got \[1\]"),
    ("dataloaders", {"test": [1]}, r"expected dataloaders to be one or more of \['train', 'val'\]"),
    ("dataloaders", {"val": []}, r"dataloaders\['val'\] to be a DataLoader, a dataset, .*got an empty list"),
    ("dataloaders", {"val": {}}, r"expected dataloaders\['val'\] to be a DataLoader, .*got an empty dict"),
    ("dataloaders", {"val": None}, r"expected dataloaders\['val'\] to be a DataLoader, .*got None"),
    ("dataloaders", {"val": 3}, r"dataloaders\['val'\] to be .* an iterable of batches, or a list.*got 3"),
    ("dataloaders", {"val": "x"}, r"expected dataloaders\['val'\] to be a DataLoader, .*got 'x'"),
    ("dataloaders", {"val": [3]}, r"expected dataloaders\['val'\] to be a DataLoader, .*got 3 among several"),
    ("dataloaders", {"train": torch.zeros(9, 2)}, "got a Tensor: pair it with labels in a TensorDataset"),
    ("dataloaders", {"train": LightningDataModule()}, "got a LightningDataModule"),
    ("dataloaders", {"train": TensorDataset}, "got the class TensorDataset"),
    *[("name", name, "expected name to begin the logged names with, such as 'stiffness', and to be a folder within")
      for name in ("../../../x", "..", "a/../b", "/a", "a/", "a//b", "", " ", ".", "a\\b", None, 3)],
]  # fmt: skip


def steady(value):
    """The same in every process that collects the tests: nothing of weights, which are random, or sets."""
    if isinstance(value, dict):
        return " ".join(f"{name} {steady(entry)}" for name, entry in value.items())
    return str(value) if isinstance(value, str | int | float | None) else type(value).__name__


def names(cases):
    return [
        f"{argument} {type(value).__name__} {i}"  # not the value: weights are random, sets have no order
        for i, (argument, value, _) in enumerate(cases)
    ]


@pytest.mark.parametrize(("argument", "value", "message"), [*BOTH, *CALLBACK], ids=names([*BOTH, *CALLBACK]))
def test_the_callback_refuses(argument, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        StiffnessCallback(**{argument: value})
    assert len(str(caught.value)) < 500  # and so prints nobody's data


@pytest.mark.parametrize(("argument", "value", "message"), BOTH, ids=names(BOTH))
def test_measure_stiffness_refuses(argument, value, message):
    batch = torch.randn(6, 4), torch.arange(6) % 3
    with pytest.raises(ValueError, match=message):
        measure_stiffness(nn.Linear(4, 3), batch, **{"loss_fn": cross_entropy, argument: value})


def cross_entropy(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"probe_size": np.int64(8)}, ("probe_size", 8)),
        ({"every_n_epochs": np.int32(2)}, ("every_n_epochs", 2)),
        ({"every_n_train_steps": np.int64(5)}, ("every_n_train_steps", 5)),
        ({"seed": -3}, ("seed", -3)),
        ({"splits": ["val", "train"]}, ("splits", ("train", "val"))),
        ({"at_start": np.bool_(False)}, ("at_start", False)),
        ({"name": "other/shifted 2"}, ("name", "other/shifted 2")),
        ({"dataloaders": None}, ("dataloaders", {})),
    ],
    ids=steady,
)
def test_what_the_callback_keeps(arguments, kept):
    name, value = kept
    found = getattr(StiffnessCallback(**arguments), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"bins": np.int64(4)}, ("bins", 4)),
        ({"memory_budget": np.int64(10**9)}, ("memory_budget", 10**9)),
        ({"parameters": (name for name in ("a", "b"))}, ("parameters", ["a", "b"])),
        ({"parameters": {"b", "a"}}, ("parameters", ["a", "b"])),
        ({"parameters": "net"}, ("parameters", ["net"])),
        ({"class_names": np.array(["a", "b"])}, ("class_names", ["a", "b"])),
        ({"class_names": {"a": 0, "b": 1}.keys()}, ("class_names", ["a", "b"])),
        ({"class_names": range(2)}, ("class_names", ["0", "1"])),
        ({"superclasses": np.array([0, 1])}, ("superclasses", [0, 1])),
        ({"superclasses": torch.tensor([[0, 1], [0, 0]])}, ("superclasses", [[0, 1], [0, 0]])),
        ({"superclasses": [np.array([0, 1]), (0, 0)]}, ("superclasses", [[0, 1], [0, 0]])),
    ],
    ids=steady,
)
def test_what_the_settings_keep(arguments, kept):
    name, value = kept
    settings = StiffnessCallback(**arguments).settings
    assert getattr(settings, name) == value
    assert settings.plain() == settings.plain()


def good_loss(module, batch, weight=1.0):
    return weight * functional.cross_entropy(module.net(batch[0]), batch[1], reduction="none")


class Losses:
    def one(self, module, batch):
        return good_loss(module, batch)

    def __call__(self, *both):
        return good_loss(*both)


@pytest.mark.parametrize(
    "loss_fn",
    [
        good_loss,
        functools.partial(good_loss, weight=2.0),
        Losses(),
        Losses().one,
        lambda *both, **_: good_loss(*both),
    ],
    ids=steady,
)
def test_losses_of_many_forms(loss_fn):
    callback = StiffnessCallback(probe_size=8, loss_fn=loss_fn, resamples=0)
    fit(callbacks=[callback], max_epochs=1)
    assert len(callback.history) == 2


def test_a_loader_by_itself_is_not_read():
    class Read(TensorDataset):
        def __getitem__(self, index):
            raise AssertionError("was read")

    loader = DataLoader(Read(torch.zeros(4, 2)))
    with pytest.raises(
        ValueError, match=r"expected dataloaders to be a mapping, such as \{'train': loader\}, got a Da"
    ):
        StiffnessCallback(dataloaders=loader)


def test_classes_and_distances_are_left_out_where_that_is_asked_for():
    callback = StiffnessCallback(probe_size=8, label_fn=False, input_fn=False, resamples=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no (class labels|inputs)")
        fit(callbacks=[callback], max_epochs=1)
    result = callback.result
    assert result is not None
    assert result.notes == []
    assert (result.class_names, result.class_matrix, result.curve) == (None, {}, {})
    assert set(result.summary["train-val"]["cos"]) == {"overall"}


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"label_fn": lambda batch: None}, ValueError, r"label_fn\(batch\) to return one entry .*got None"),
        ({"input_fn": lambda batch: ["a"] * len(batch[0])}, ValueError, r"input_fn\(batch\) to return one entry"),
        ({"label_fn": lambda batch: batch[0].mean((1, 2, 3))}, ValueError, "leave the classes out with label_fn=F"),
        ({"step": lambda optimizers, module: 3}, StepError, "a mapping from the name of each parameter .* got 3"),
        ({"step": lambda optimizers, module: None}, StepError, "from the name of each parameter .* got None"),
        (
            {"step": lambda optimizers, module: dict.fromkeys(dict(module.named_parameters()), "x")},
            StepError,
            "the step size of 'net.1.weight' to be a number or a tensor, got str",
        ),
        ({"distance": lambda x, y: 1.0}, ValueError, r"distance function to return a tensor \[2, 2\], got 1.0"),
        ({"dataloaders": {"val": TensorDataset(torch.zeros(9, 3), torch.arange(9))}}, ValueError, "of one shape"),
    ],
    ids=steady,
)  # fmt: skip
def test_what_a_function_returns_is_checked_before_the_first_step(arguments, error, message, at_start):
    module = Classifier(fc())
    with pytest.raises(error, match=message):
        fit(module=module, callbacks=[StiffnessCallback(probe_size=8, at_start=at_start, **arguments)])
    assert module.trainer.global_step == 0


def test_an_empty_data_set_is_told_from_none():
    empty = TensorDataset(torch.zeros(0, 1, 12, 12), torch.zeros(0, dtype=torch.long))
    with pytest.raises(
        ValueError, match="examples in the val dataset to measure stiffness on, got an empty dataset"
    ):
        fit(callbacks=[StiffnessCallback(probe_size=8, dataloaders={"val": empty})])


@pytest.mark.parametrize("train", [digits(40)], ids=["digits"])
def test_a_loss_that_does_not_depend_on_the_parameters(train):
    callback = StiffnessCallback(probe_size=8, loss_fn=lambda module, batch: good_loss(module, batch).detach())
    with pytest.warns(
        UserWarning, match="left out: 8 of 8 in train, 8 of 8 in val .*the loss does not depend on the p"
    ):
        fit(callbacks=[callback], train=train, max_epochs=1)


class Steps:
    """What is no optimizer, and no step size."""

    net = nn.Linear(4, 3)
    batch = (torch.randn(6, 4), torch.arange(6) % 3)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adam", r"expected an optimizer of torch.optim or several, such as .*, got 'adam'"),
        (torch.optim.Adam, r"such as torch.optim.Adam\(module.parameters\(\)\), got the class Adam"),
        (3, "expected an optimizer of torch.optim or several, .*got 3"),
        (["adam"], "expected an optimizer of torch.optim or several, .*got 'adam'"),
        (nn.Sequential(nn.Linear(1, 1)), "expected an optimizer of torch.optim or several, .*got Sequential"),
    ],
    ids=steady,
)
def test_what_is_no_optimizer(optimizer, message):
    with pytest.raises(StepError, match=message):
        measure_stiffness(Steps.net, Steps.batch, loss_fn=cross_entropy, optimizer=optimizer)


def test_gradient_gram_refuses_steps_and_layers_in_words():
    with pytest.raises(StepError, match="a mapping from the name of each parameter to its step size, got 3"):
        gradient_gram(Steps.net, Steps.batch, loss_fn=cross_entropy, step=3)
    for wanted in (3, [], [3], {"a": 1}):
        with pytest.raises(ValueError, match="expected per_layer to be True, False or names of submodules, got "):
            gradient_gram(Steps.net, Steps.batch, loss_fn=cross_entropy, per_layer=wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module": lambda x: x}, "expected module to be a torch.nn.Module, got the function .*<lambda>"),
        ({"module": nn.Linear}, "expected module to be a torch.nn.Module, got the class Linear"),
        (
            {"labels": torch.arange(6)},
            r"expected labels to be a function of a batch .*or None to leave .*got a Tensor",
        ),
        ({"labels": np.arange(6)}, "expected labels to be a function of a batch .*got an ndarray"),
        ({"labels": lambda batch: None}, r"expected labels\(batch\) to return one entry .*got None"),
        ({"labels": lambda batch: batch[0][:, 0]}, "leave the classes out with labels=None"),
        (
            {"inputs": "first"},
            "expected inputs to be a function of a batch .*None to leave distances out, got 'first'",
        ),
        ({"inputs": lambda batch: 3}, r"expected inputs\(batch\) to return one entry for each of the 6 examples"),
        ({"step": 1.5}, "expected step to be a whole number, got 1.5"),
        ({"epoch": "1"}, "expected epoch to be a whole number, got '1'"),
    ],
    ids=steady,
)
def test_what_measure_stiffness_alone_takes(arguments, message):
    given = {"module": Steps.net, "train": Steps.batch, "loss_fn": cross_entropy, **arguments}
    with pytest.raises(ValueError, match=message) as caught:
        measure_stiffness(**given)
    assert len(str(caught.value)) < 400
