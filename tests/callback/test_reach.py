"""What user code keeps beyond the module itself, objects and iterators: the run is the same to the bit."""

import itertools
from collections import Counter, defaultdict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricTracker
from torchmetrics.classification import MulticlassAccuracy

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.surroundings import kept_surroundings
from tests.callback.runs import Classifier, cnn, digits, fc, fit


class Meter:
    made = 0

    def __init__(self):
        self.n, self.history = 0, []

    def update(self):
        self.n += 1
        Meter.made += 1
        self.history.append(self.n)
        return self.n + Meter.made + len(self.history)


def fresh():
    """What a file may keep in global variables."""
    Meter.made = 0
    return {
        "meter": Meter(),
        "counter": Counter(),
        "missing": defaultdict(int),
        "nested": {"state": {"step": 0}, "rows": [[0]]},
        "last": deque(maxlen=3),
        "array": np.zeros(1),
        "tensor": torch.zeros(()),
        "space": SimpleNamespace(n=0),
        "numbers": itertools.count(),
    }


KEPT = fresh()
STEPS = {
    "meter": lambda: KEPT["meter"].update(),
    "counter": lambda: KEPT["counter"].update("a") or KEPT["counter"]["a"],
    "missing": lambda: KEPT["missing"].__setitem__("a", KEPT["missing"]["a"] + 1) or KEPT["missing"]["a"],
    "nested dict": lambda: (
        KEPT["nested"]["state"].update(step=KEPT["nested"]["state"]["step"] + 1) or KEPT["nested"]["state"]["step"]
    ),
    "nested list": lambda: KEPT["nested"]["rows"][0].append(1) or len(KEPT["nested"]["rows"][0]),
    "last": lambda: KEPT["last"].append(sum(KEPT["last"]) + 1) or sum(KEPT["last"]),
    "array": lambda: KEPT["array"].__iadd__(1)[0],
    "space": lambda: vars(KEPT["space"]).update(n=KEPT["space"].n + 1) or KEPT["space"].n,
}


def both(module_of, train_of, **options):
    """A run without and one with the callback: its weights, and what was logged."""
    found = []
    for callbacks in ([], [StiffnessCallback(probe_size=8, save=False)]):
        KEPT.update(fresh())
        torch.manual_seed(3)
        module, trainer = fit(module=module_of(), callbacks=callbacks, train=train_of(), **options)
        assert all(len(c.history) == 3 and not c.failures for c in callbacks)
        logged = {n: v for n, v in trainer.callback_metrics.items() if not n.startswith("stiffness")}
        found.append((module.state_dict(), logged))
    return found


def trained(module, callbacks, *, max_epochs=2, **data):
    """A run on its training data alone."""
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    trainer.fit(module, **data)
    assert all(len(c.history) == max_epochs + 1 and not c.failures for c in callbacks)
    return module, trainer


def same(found):
    (weights, logged), (others, told) = found
    assert logged == told
    return all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_changes_below_a_global_variable_is_put_back(name):
    class Counting(Classifier):
        def training_step(self, batch, batch_idx):
            self.log("counted", float(STEPS[name]()), on_step=True)
            return super().training_step(batch, batch_idx)

    assert same(both(lambda: Counting(fc()), lambda: digits(16)))


def test_a_data_module_that_a_step_writes_to_is_put_back():
    class Data(pl.LightningDataModule):
        def __init__(self):
            super().__init__()
            self.seen, self.rows = 0, []

        def train_dataloader(self):
            return DataLoader(digits(16), 8)

    class Writing(Classifier):
        def training_step(self, batch, batch_idx):
            data = self.trainer.datamodule
            data.seen += 1
            data.rows.append(1)
            self.log("counted", float(data.seen + len(data.rows)))
            return super().training_step(batch, batch_idx)

    seen = []
    for callbacks in ([], [StiffnessCallback(probe_size=8, save=False)]):
        _, trainer = trained(Writing(fc()), callbacks, datamodule=Data())
        seen.append(float(trainer.callback_metrics["counted"]))
    assert seen == [8, 8]


class Growing:
    """An augmentation that grows with the number of its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + 0.01 * self.calls


class Kept(Dataset):
    """Digits, changed by what the data set keeps."""

    def __init__(self, kind):
        self.digits, self.kind, self.transform = digits(16), kind, Growing()
        self.composed = SimpleNamespace(transforms=[Growing()])
        self.others, self.counter, self.counts = itertools.cycle(range(16)), Counter(), np.zeros(16)
        self.tensor, self.nested = torch.zeros(16), [[0]]

    def __len__(self):
        return 16

    def __getitem__(self, i):
        x, y = self.digits[i]
        if self.kind == "transform":
            return self.transform(x), y
        if self.kind == "transforms":
            return self.composed.transforms[0](x), y
        if self.kind == "iterator":
            return x + self.digits[next(self.others)][0], y
        if self.kind == "counter":
            self.counter[i] += 1
            return x * 0.9 ** self.counter[i], y
        if self.kind == "nested":
            self.nested[0].append(1)
            return x * 0.9 ** len(self.nested[0]), y
        held = self.counts if self.kind == "array" else self.tensor
        held[i] += 1
        return x * float(0.9 ** held[i]), y


@pytest.mark.parametrize("kind", ["transform", "transforms", "iterator", "counter", "nested", "array", "tensor"])
def test_what_reading_an_example_changes_below_its_data_set_is_put_back(kind):
    assert same(both(lambda: Classifier(fc()), lambda: Kept(kind)))


def test_a_collate_function_that_counts_is_put_back():
    class Collate:
        def __init__(self):
            self.grow = Growing()

        def __call__(self, examples):
            x, y = torch.utils.data.default_collate(examples)
            return self.grow(x), y

    found = []
    for callbacks in ([], [StiffnessCallback(probe_size=8, save=False)]):
        torch.manual_seed(3)
        loader = DataLoader(digits(16), 8, collate_fn=Collate())
        found.append(trained(Classifier(fc()), callbacks, train_dataloaders=loader))
    assert all(torch.equal(a, b) for a, b in zip(*(module.parameters() for module, _ in found), strict=True))


def test_what_another_thread_works_on_is_left_alone():
    class Prefetching:
        def __init__(self):
            import queue

            self.queue, self.ready = queue.Queue(), []

    prefetching = Prefetching()
    with kept_surroundings(SimpleNamespace(inner=prefetching)):
        prefetching.ready.append("a batch")
    assert prefetching.ready == ["a batch"]


class Outputs(Classifier):
    """Sets up what its step needs in hooks of its own."""

    def on_train_start(self):
        self.weight = torch.ones(())
        self.tracker = MetricTracker(MulticlassAccuracy(4).to(self.device))

    def on_train_epoch_start(self):
        self.losses = []
        self.tracker.increment()

    def training_step(self, batch, batch_idx):
        self.tracker.update(self.net(batch[0]), batch[1])
        loss = self.weight * super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss


def test_what_a_module_sets_up_when_training_starts_is_there_at_the_first_measurement():
    assert same(both(lambda: Outputs(fc()), lambda: digits(16)))


def test_a_message_comes_once_whatever_numbers_are_in_it(recwarn):
    class Detached(Classifier):
        def training_step(self, batch, batch_idx):
            x = batch[0].clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(x).square().sum(), x, create_graph=True)
            return slope.square().mean()

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    callback = StiffnessCallback(probe_size=8, save=False, splits="train")
    trained(Detached(net), [callback], max_epochs=5, train_dataloaders=DataLoader(digits(16), 8))
    texts = [str(w.message) for w in recwarn if "exact but slow" in str(w.message)]
    assert len(texts) == 1, texts


def test_a_step_that_turns_training_mode_on_is_measured_in_evaluation_mode():
    class Pseudo(Classifier):
        def training_step(self, batch, batch_idx):
            self.net.eval()
            with torch.no_grad():
                guess = self.net(batch[0]).softmax(1)
            self.net.train()
            return super().training_step(batch, batch_idx) + functional.cross_entropy(
                self.net(0.9 * batch[0]), guess
            )

    torch.manual_seed(3)
    callback = StiffnessCallback(probe_size=8, save=False)
    module, _ = trained(Pseudo(cnn()), [callback], train_dataloaders=DataLoader(digits(16), 8))
    net, rows = module.net.double().eval(), []
    for i in callback.result.probe_indices["train"].tolist():
        x, y = digits(16)[i : i + 1]
        x = x.double()
        loss = functional.cross_entropy(net(x), y)
        loss = loss + functional.cross_entropy(net(0.9 * x), net(x).softmax(1).detach())
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
        rows.append(gradient / gradient.norm())
    cosines = torch.stack(rows) @ torch.stack(rows).T
    expected = cosines[~torch.eye(8, dtype=torch.bool)].mean()
    assert callback.result.summary["train-train"]["cos"]["overall"] == pytest.approx(float(expected), abs=1e-4)
