"""Stiffness of each layer, and of the step that the run's optimizer takes, in a run."""

import copy
import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional

from lightning_stiffness import StiffnessCallback, StiffnessHistory, StiffnessResult, measure_stiffness
from lightning_stiffness.gram import StepError, optimizer_step
from tests.callback.runs import Classifier, digits, fc, fit


def run():
    torch.manual_seed(0)
    return Classifier(fc())


class Kept(pl.Callback):
    """The network and the state of its optimizer, as they are when the callback before it measures."""

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.net = copy.deepcopy(pl_module.net).double()
            optimizer = trainer.optimizers[0]
            self.second = [optimizer.state[p]["exp_avg_sq"].double().clone() for p in pl_module.parameters()]
            self.steps = int(optimizer.state[next(pl_module.parameters())]["step"])


def gradients(net, data, indices):
    rows = []
    for i in indices:
        x, y = data[int(i)]
        loss = functional.cross_entropy(net(x[None].double()), y[None])
        rows.append([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
    return [torch.stack(list(one)) for one in zip(*rows, strict=True)]


def class_means(gram, norms, other_norms, labels, other_labels, same):
    cosine = gram / norms[:, None] / other_norms[None]
    means = np.full((4, 4), math.nan)
    for a in range(4):
        for b in range(4):
            chosen = (labels == a)[:, None] & (other_labels == b)[None] & ~same
            means[a, b] = cosine[chosen].mean()
    return means


def test_against_the_definition_with_the_state_of_adam():
    train, val = digits(40), digits(24, 1)
    callback = StiffnessCallback(probe_size=16, per_layer=True, step="optimizer", measures="cos", resamples=0)
    kept = Kept()
    fit(module=run(), callbacks=[callback, kept], max_epochs=2)
    result = callback.result
    assert kept.steps == 10
    root = [(0.999 * v / (1 - 0.999**11)).sqrt() for v in kept.second]
    steps = [torch.where(r > 0, 1 / (r + 1e-8), 0.0) for r in root]  # a factor common to all drops out of cosines
    g = {s: gradients(kept.net.cpu(), d, result.probe_indices[s]) for s, d in (("train", train), ("val", val))}
    layers = {"net.1": (0, 1), "net.3": (2, 3)}
    assert result.layer_names == list(layers)
    labels = {s: torch.from_numpy(result.probe_labels[s]) for s in g}
    for a, b in (("train", "train"), ("train", "val"), ("val", "val")):
        same = torch.eye(16, dtype=torch.bool) if a == b else torch.zeros(16, 16, dtype=torch.bool)

        def expected(places, a=a, b=b, same=same):
            dot = lambda x, y: sum((g[x][k] * steps[k].flatten()) @ g[y][k].T for k in places)  # noqa: E731
            norms = [dot(s, s).diagonal().sqrt() for s in (a, b)]
            return class_means(dot(a, b), *norms, labels[a], labels[b], same)

        block = f"{a}-{b}"
        np.testing.assert_allclose(result.class_matrix[block]["cos"], expected((0, 1, 2, 3)), atol=2e-5)
        for layer, places in enumerate(layers.values()):
            matrix = result.layer_class_matrix[block]["cos"][layer]
            np.testing.assert_allclose(matrix, expected(places), atol=2e-5)
            within = result.layer_summary[block]["cos"]["within_class"][layer]
            assert within == pytest.approx(np.diagonal(matrix).mean(), abs=1e-6)
            assert result.scalars()[f"stiffness/{block}/cos/within_class/{list(layers)[layer]}"] == within
    assert any("a step size of 0" in note for note in result.notes) == any((r == 0).any() for r in root)


def test_before_its_first_step_an_optimizer_steps_as_plain_descent_does():
    results = []
    for step in ("sgd", "optimizer", lambda optimizers, module: {n: 0.1 for n, _ in module.named_parameters()}):
        callback = StiffnessCallback(probe_size=16, step=step)
        fit(module=run(), callbacks=[callback], max_epochs=1)
        results.append(callback.history)
    first, *others = [history[0].class_matrix["train-val"]["cos"] for history in results]
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-6)
    after = [history[1].class_matrix["train-val"]["cos"] for history in results]
    assert np.abs(after[1] - after[0]).max() > 0.01
    np.testing.assert_allclose(after[2], after[0], atol=1e-6)
    told = [history[0].settings["step"] for history in results]
    assert told[:2] == ["sgd", "optimizer"]
    assert told[2].endswith("<lambda>")


def test_no_trace():
    weights = []
    for callbacks in ([], [StiffnessCallback(probe_size=16, per_layer=True, step="optimizer")]):
        module, trainer = fit(module=run(), callbacks=callbacks, max_epochs=2)
        optimizer = trainer.optimizers[0]
        state = [t for p in module.parameters() for t in optimizer.state[p].values()]
        weights.append([*(p.detach() for p in module.parameters()), *state])
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)


def test_layers_are_saved_loaded_and_logged(tmp_path):
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    callback = StiffnessCallback(probe_size=16, per_layer=["net.3"])
    fit(module=run(), callbacks=[callback], logger=logger, max_epochs=1)
    loaded = StiffnessResult.load(tmp_path / "stiffness" / "step_00000005.npz")
    assert loaded.layer_names == ["other", "net.3"]
    matrices = loaded.layer_class_matrix["val-val"]["sign"]
    np.testing.assert_array_equal(matrices, callback.result.layer_class_matrix["val-val"]["sign"])
    assert loaded.layer_summary == callback.result.layer_summary
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    points = events.Scalars("stiffness/train-val/cos/within_class/net.3")
    measured = [result.layer_summary["train-val"]["cos"]["within_class"][1] for result in callback.history]
    np.testing.assert_allclose([point.value for point in points], measured, rtol=1e-6)
    assert [image.step for image in events.Images("stiffness/train-val/cos/layers")] == [0, 4]
    pytest.importorskip("xarray", reason="pip install lightning-stiffness[history]")
    dataset = StiffnessHistory.load(tmp_path).to_xarray()
    chosen = dataset.sel(layer="net.3", block="train-val", measure="cos", step=5)
    assert float(chosen.layer_within_class) == pytest.approx(measured[1])
    assert chosen.layer_class_matrix.shape == (4, 4)


def test_without_classes_layers_have_the_mean_over_all_pairs():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    x = torch.randn(9, 3).double()
    loss_fn = lambda m, b: m(b[0])[:, 0].square()  # noqa: E731
    result = measure_stiffness(net, (x,), loss_fn=loss_fn, per_layer=True, labels=None)
    assert result.layer_class_matrix == {}
    alone = measure_stiffness(net, (x,), loss_fn=loss_fn, parameters=["2"], labels=None)
    overall = result.layer_summary["train-train"]["cos"]["overall"]
    assert overall[1] == pytest.approx(alone.summary["train-train"]["cos"]["overall"])
    assert result.scalars()["stiffness/train-train/cos/overall/2"] == overall[1]


def test_an_optimizer_without_a_trainer():
    torch.manual_seed(0)
    net = torch.nn.Linear(5, 3)
    x, y = torch.randn(12, 5), torch.arange(12) % 3
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    loss_fn = lambda m, b: functional.cross_entropy(m(b[0]), b[1], reduction="none")  # noqa: E731
    loss_fn(net, (x, y)).mean().backward()
    optimizer.step()
    given = [optimizer, optimizer_step(optimizer, net), None]
    found = [measure_stiffness(net, (x, y), loss_fn=loss_fn, optimizer=one) for one in given]
    matrices = [result.class_matrix["train-train"]["cos"] for result in found]
    np.testing.assert_array_equal(matrices[0], matrices[1])
    assert np.abs(matrices[0] - matrices[2]).max() > 0.01
    assert [result.settings["step"] for result in found] == ["optimizer", "optimizer", "sgd"]


class Unknown(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        if closure is not None:
            closure()


class UnknownSteps(Classifier):
    def configure_optimizers(self):
        return Unknown(self.parameters())


def test_a_layer_that_is_thawed_during_the_run_keeps_its_name(tmp_path):
    class Thaw(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            trainer.optimizers[0].param_groups[0]["lr"] = 0.0 if trainer.current_epoch == 0 else 1e-2

    class Grouped(Classifier):
        def configure_optimizers(self):
            return torch.optim.Adam(
                [{"params": self.net[1].parameters()}, {"params": self.net[3].parameters()}], lr=1e-2
            )

    torch.manual_seed(0)
    callback = StiffnessCallback(probe_size=16, per_layer=True, step="optimizer", at_start=False, resamples=0)
    fit(module=Grouped(fc()), callbacks=[Thaw(), callback], max_epochs=2)
    first, last = callback.history
    assert first.layer_names == last.layer_names == ["net.1", "net.3"]
    within = [one.layer_summary["train-val"]["cos"]["within_class"] for one in (first, last)]
    assert math.isnan(within[0][0])
    assert not math.isnan(within[0][1])
    assert not any(map(math.isnan, within[1]))


def test_a_mistake_in_the_steps_is_told_before_training_also_without_a_measurement_there():
    module = run()
    callback = StiffnessCallback(
        probe_size=16, step=lambda optimizers, module: {"net.1.weight": 0.1}, at_start=False
    )
    with pytest.raises(StepError, match=r"a step size for every parameter measured, got none for 'net.1.bias'"):
        fit(module=module, callbacks=[callback], max_epochs=1)
    assert module.trainer.global_step == 0


def test_what_cannot_be_told_is_an_error_before_the_first_step():
    with pytest.raises(
        ValueError, match=r"expected step to be one of \['sgd', 'optimizer'\], or a function .*got 'adam'"
    ):
        StiffnessCallback(step="adam")
    with pytest.raises(ValueError, match="expected per_layer to be True, False or names of submodules, got 3"):
        StiffnessCallback(per_layer=3)
    module = UnknownSteps(fc())
    with pytest.raises(StepError, match=r"whose steps are known .* got Unknown: pass a function"):
        fit(module=module, callbacks=[StiffnessCallback(probe_size=16, step="optimizer")], max_epochs=1)
    with pytest.raises(ValueError, match=r"expected per_layer to name submodules .* got 'head'"):
        fit(module=run(), callbacks=[StiffnessCallback(probe_size=16, per_layer=["head"])], max_epochs=1)
    assert module.trainer.global_step == 0
