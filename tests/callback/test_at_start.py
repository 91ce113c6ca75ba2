"""The measurement before the first step: of the loss and the parameters that the first step will have."""

import pytest
import torch
from torch.nn import functional

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.refusal import UnusableStep
from tests.callback.runs import Classifier, digits, fc, fit, gradients_by_hand, stiffness_by_hand
from tests.callback.test_shadow_more import assert_trains_alike


def overall(rows):
    table = stiffness_by_hand(rows, rows, "cos")
    return (
        sum(table[i][j] for i in range(len(rows)) for j in range(len(rows)) if i != j) / len(rows) / (len(rows) - 1)
    )


def by_hand(result, net, trained, change=lambda x: x):
    """Overall stiffness of the training probe, over the parameters that ``trained`` says."""
    examples = digits(40)[result.probe_indices["train"].tolist()]
    rows = gradients_by_hand(net, change(examples[0]), examples[1])
    pieces = [row.split([p.numel() for p in net.parameters()]) for row in rows]
    named = [name for name, _ in net.named_parameters()]
    return overall([torch.cat([g for n, g in zip(named, piece, strict=True) if trained(n)]) for piece in pieces])


def first_result(module):
    """The first measurement of a run, and the network that it was made on."""
    callback = StiffnessCallback(probe_size=8, save=False, on_error="raise")
    net = fc()
    net.load_state_dict(module.net.state_dict())
    fit(module=module, callbacks=[callback], max_epochs=1)
    return callback.history[0], net


class Says(Classifier):
    """Its step says which parameters it trains; before the first step others are said to be."""

    def __init__(self, net):
        super().__init__(net)
        self.net[1].requires_grad_(False)

    def training_step(self, batch, batch_idx):
        for parameter in self.net[1].parameters():
            parameter.requires_grad = True
        self.net[3].requires_grad_(False)
        return super().training_step(batch, batch_idx)


def test_the_parameters_are_those_that_the_step_leaves_trainable():
    torch.manual_seed(3)
    result, net = first_result(Says(fc()))
    expected = by_hand(result, net, lambda name: name.startswith("1."))
    assert result.summary["train-train"]["cos"]["overall"] == pytest.approx(expected, abs=1e-5)
    assert result.excluded == {"train": 0, "val": 0}


def test_a_run_whose_step_says_what_it_trains_is_the_same():
    assert_trains_alike(lambda: Says(fc()), every_n_train_steps=2)


class Augments(Classifier):
    """Adds noise to what it trains on, where a batch reaches its device."""

    by_trainer = True

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        training = self.trainer.training if self.by_trainer else self.training
        return (x + torch.randn_like(x) if training else x), y


@pytest.mark.parametrize("by_trainer", [True, False])
def test_the_probe_is_not_augmented_at_the_start_either(by_trainer):
    torch.manual_seed(3)
    module = Augments(fc())
    module.by_trainer = by_trainer
    result, net = first_result(module)
    expected = by_hand(result, net, lambda name: True)
    assert result.summary["train-train"]["cos"]["overall"] == pytest.approx(expected, abs=1e-5)


class TwoViews(Classifier):
    def training_step(self, batch, batch_idx):
        x, other, y = batch
        return functional.cross_entropy(self.net(x), y) + functional.mse_loss(self.net(x), self.net(other))


def test_validation_batches_that_the_step_does_not_take_are_named():
    x, y = digits(40).tensors
    train = torch.utils.data.TensorDataset(x, x + 1, y)
    with pytest.raises(UnusableStep) as caught:
        fit(module=TwoViews(fc()), callbacks=[StiffnessCallback(probe_size=8)], train=train)
    told = str(caught.value)
    assert "not enough values to unpack" in told
    assert "takes batches of 3 entries, and got one of 2 entries" in told
    assert "StiffnessCallback(splits='train')" in told
    callback = StiffnessCallback(probe_size=8, splits="train", save=False)
    fit(module=TwoViews(fc()), callbacks=[callback], train=train, max_epochs=1)
    assert len(callback.history) == 2
    assert not callback.failures


class Asserts(Classifier):
    def training_step(self, batch, batch_idx):
        assert len(batch[0]) > 1, "no negatives"
        return super().training_step(batch, batch_idx)


class FixedSize(Classifier):
    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.net(batch[0]).view(8, 4), batch[1])


class SetsLate(Classifier):
    def on_train_batch_start(self, batch, batch_idx):
        self.alpha = 1.0

    def training_step(self, batch, batch_idx):
        return self.alpha * super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Asserts, UnusableStep, r"\(AssertionError: no negatives(.|\n)*It was given one example alone, since"),
        (
            FixedSize,
            RuntimeError,
            r"\(RuntimeError: shape '\[8, 4\]' is .*\)\. It was given one example alone, sin",
        ),
        (
            SetsLate,
            UnusableStep,
            r"no attribute 'alpha'\)\. What on_train_batch_start sets is not there before the",
        ),
    ],
)
def test_why_a_step_fails_is_said(kind, error, words):
    callback = StiffnessCallback(probe_size=8, on_error="raise")
    with pytest.raises(error, match=words):
        fit(module=kind(fc()), callbacks=[callback])


def test_the_way_out_that_is_named_works():
    callback = StiffnessCallback(probe_size=8, at_start=False, save=False, on_error="raise")
    fit(module=SetsLate(fc()), callbacks=[callback])
    assert len(callback.history) == 2
