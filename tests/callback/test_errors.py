"""Bad input: an error before training starts, with what was expected, what came, and the way out."""

import re
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import TensorDataset

from lightning_stiffness import StiffnessCallback
from tests import told
from tests.callback.runs import Classifier, fc, fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probe_size": 1}, "probe_size of at least 2"),
        ({"splits": "test"}, r"splits to be one or more of \['train', 'val'\], each once, got 'test'"),
        ({"splits": ()}, "got none"),
        ({"measures": ["cosine"]}, r"measures to be one or more of \['cos', 'sign'\].*got 'cosine'"),
        ({"distance": "manhattan"}, r"unknown distance 'manhattan': expected one of \['cosine', 'euclidean'\]"),
        ({"engine": "fast"}, r"unknown engine 'fast': expected one of \['auto',.*'loop'.*'vmap'"),
        ({"bins": 0}, "bins of at least 1, got 0"),
        ({"memory_budget": 0}, "expected memory_budget in bytes, at least 1, got 0"),
        ({"every_n_epochs": -1}, "every_n_epochs of at least 0"),
        ({"every_n_train_steps": 0}, "every_n_train_steps of at least 1"),
        (
            {"superclasses": [0, 1], "class_names": ["a", "b", "c"]},
            "one group for each of the 3 class_names, got 2",
        ),
    ],
    ids=told,
)
def test_arguments_are_checked_when_the_callback_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        StiffnessCallback(**arguments)


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize(
    ("arguments", "data", "error", "message"),
    [
        ({"probe_size": 41}, {}, ValueError, "at most 40, the number of examples in the train dataset, got 41"),
        ({"probe_size": 30}, {}, ValueError, r"at most 24.*val dataset, got 30.*probe_size=24"),
        ({"superclasses": [0, 0, 1]}, {}, ValueError, "labels run from 0 to 3 and superclasses has 3 entries"),
        ({"class_names": ["a"]}, {}, ValueError, "labels run from 0 to 3 and class_names has 1 entry"),
        ({"label_fn": lambda batch: batch[0].mean((1, 2, 3))}, {}, ValueError, "integer labels, got torch.float32"),
        ({"label_fn": lambda batch: torch.tensor(3)}, {}, ValueError, r"label_fn\(batch\) to return one entry"),
        ({"parameters": ["decoder"]}, {}, ValueError, "fits no trainable parameter; there are net.1.weight"),
        ({"distance_layer": "body"}, {}, ValueError, "distance_layer='body' is no submodule; there are"),
        ({}, {"train": TensorDataset(torch.zeros(1, 1, 12, 12), torch.tensor([0]))}, ValueError, "at least 2"),
    ],
    ids=lambda value: re.sub(r"\W+", " ", told(value))[:40],
)  # fmt: skip
def test_mistakes_stop_the_run_before_its_first_step(arguments, data, error, message, at_start):
    module = Classifier(fc())
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(error, match=message):
        fit(module=module, callbacks=[StiffnessCallback(at_start=at_start, **arguments)], **data)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_module_without_trainable_parameters():
    module = Classifier(fc())
    module.extra = nn.Linear(1, 1)

    def unfreeze_nothing():
        return torch.optim.SGD(module.extra.parameters(), lr=0.1)

    module.configure_optimizers = unfreeze_nothing
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="Classifier has no trainable parameter"):
        fit(module=module, callbacks=[StiffnessCallback(probe_size=8)])


def test_manual_optimization_is_refused_in_words():
    module = Classifier(fc())
    module.automatic_optimization = False
    with pytest.raises(MisconfigurationException, match=r"optimizes manually.*(\n|.)*def stiffness_loss"):
        fit(module=module, callbacks=[StiffnessCallback(probe_size=8)])


def test_loss_fn_serves_manual_optimization():
    class Manual(Classifier):
        def __init__(self, net):
            super().__init__(net)
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def loss_fn(module, batch):
        return nn.functional.cross_entropy(module.net(batch[0]), batch[1], reduction="none")

    callback = StiffnessCallback(probe_size=8, loss_fn=loss_fn)
    fit(module=Manual(fc()), callbacks=[callback], max_epochs=1)
    assert len(callback.history) == 2


def test_a_probe_of_one_class_has_no_between_class_and_says_so_once():
    data = TensorDataset(torch.randn(16, 1, 12, 12), torch.full((16,), 2))
    callback = StiffnessCallback(probe_size=8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(callbacks=[callback], train=data, val=data)
    told = [str(w.message) for w in caught if "of one class (2)" in str(w.message)]
    assert len(told) == 1
    assert callback.result is not None
    assert np.isnan(callback.result.summary["train-train"]["cos"]["between_class"])
    assert np.isfinite(callback.result.summary["train-train"]["cos"]["within_class"])


def test_a_training_step_without_a_loss():
    class NoLoss(Classifier):
        def training_step(self, batch, batch_idx):
            return None

    with pytest.raises(TypeError, match=r"NoLoss\.training_step to return a loss tensor"):
        fit(module=NoLoss(fc()), callbacks=[StiffnessCallback(probe_size=8)])


def test_a_default_probe_takes_what_there_is():
    callback = StiffnessCallback()
    fit(callbacks=[callback], max_epochs=1)
    assert callback.result is not None
    assert {split: len(i) for split, i in callback.result.probe_indices.items()} == {"train": 40, "val": 24}


def test_regression_keeps_overall_stiffness_and_distance():
    class Regression(Classifier):
        def training_step(self, batch, batch_idx):
            x, y = batch
            return nn.functional.mse_loss(self.net(x)[:, 0], y)

        validation_step = None

    data = TensorDataset(torch.randn(20, 1, 12, 12), torch.randn(20))
    callback = StiffnessCallback(probe_size=8)
    with pytest.warns(UserWarning, match="no class labels in the train batches"):
        fit(module=Regression(fc()), callbacks=[callback], train=data, val=data, max_epochs=1)
    result = callback.result
    assert result is not None
    assert result.class_names is None
    assert result.class_matrix == {}
    assert set(result.summary["train-train"]["cos"]) == {"overall"}
    assert result.curve["train-train"]["cos"].count.sum() == 28
