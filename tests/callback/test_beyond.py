"""Every loss of a measurement meets what lies beyond the module as the first one did, and leaves it so."""

import itertools
import random
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.reach import is_container
from lightning_stiffness.surroundings import Surroundings
from tests.callback.runs import Classifier, digits, fc, fit

DICE = {"numpy": np.random.default_rng(0)}


def by_torch(module, shape):
    return torch.randn(shape, generator=module.generator)


def by_numpy(module, shape):
    return torch.from_numpy(DICE["numpy"].standard_normal(shape)).float()


def by_python(module, shape):
    return torch.full(shape, module.held.dice.random())


class Noisy(Classifier):
    """Draws the noise on its inputs from a generator of its own."""

    def __init__(self, net, draw):
        super().__init__(net)
        self.draw, self.generator = draw, torch.Generator().manual_seed(1)
        self.held = SimpleNamespace(dice=random.Random(2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return functional.cross_entropy(self.net(x + 0.3 * self.draw(self, x.shape).to(x)), y)


@pytest.mark.parametrize("draw", [by_torch, by_numpy, by_python])
def test_an_example_draws_the_same_numbers_whichever_engine_asks(draw):
    found, weights = [], []
    for engine in ("auto", "loop", None):
        DICE["numpy"] = np.random.default_rng(0)
        torch.manual_seed(3)
        callback = StiffnessCallback(probe_size=8, save=False, on_error="raise", engine=engine or "auto")
        module, _ = fit(module=Noisy(fc(), draw), callbacks=[callback] if engine else [])
        weights.append(module.state_dict())
        found += [result.scalars() for result in callback.history]
    auto, loop = found[:3], found[3:]
    assert len(loop) == 3
    for one, other in zip(auto, loop, strict=True):
        names = [name for name in one if "/cos/" in name and "critical" not in name]
        assert len(names) > 8
        assert [one[name] for name in names] == pytest.approx([other[name] for name in names], abs=1e-5)
    for trained in weights[:2]:
        assert all(torch.equal(value, weights[2][name]) for name, value in trained.items())


def test_examples_draw_numbers_of_their_own():
    holder, drawn = SimpleNamespace(dice=random.Random(0), bits=np.random.RandomState(1)), []
    surroundings = Surroundings(holder)
    with surroundings.kept():
        for seed in (5, 6, 5):
            torch.manual_seed(seed)
            random.seed(0)
            with surroundings.loss():
                drawn.append((holder.dice.random(), holder.bits.random_sample()))
            assert random.random() != random.Random(0).random(), "who measures sees that numbers were drawn"
    assert drawn[0] == drawn[2] != drawn[1]
    assert holder.dice.random() == random.Random(0).random()
    random.seed(0)
    with surroundings.loss():
        pass
    assert random.random() == random.Random(0).random()


def test_iterators_and_odd_containers():
    class Hyperparameters(dict):
        def __getattr__(self, name):
            return self[name]

    class Counting(dict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value + 1)

    module = Classifier(fc())
    module.numbers, module.hyper = itertools.count(3), [Hyperparameters(a=1)]
    surroundings = Surroundings(*module.modules())
    for _ in range(3):
        with surroundings.loss():
            assert next(module.numbers) == 3
            assert module.hyper[0].a == 1
            module.hyper[0]["a"] = 2
    assert [is_container(kind()) for kind in (Hyperparameters, Counting, OrderedDict, str)] == [
        True,
        False,
        True,
        False,
    ]


class Writing(torch.utils.data.Dataset):
    """Counts how often an example was read, in a tensor too large to be copied each time."""

    def __init__(self):
        self.held, self.counts, self.networks = digits(24), torch.zeros(400_000), [nn.Linear(2, 2)]

    def __len__(self):
        return len(self.held)

    def __getitem__(self, i):
        self.counts[i] += 1
        self.networks[0].weight.data += 1
        x, y = self.held[i]
        return x * (1 + self.counts[i]), y


def test_what_reading_an_example_writes_to_large_tensors_and_networks_is_undone():
    found = []
    for callbacks in ([], [StiffnessCallback(probe_size=8, save=False, on_error="raise")]):
        torch.manual_seed(3)
        data = Writing()
        module, _ = fit(module=Classifier(fc()), callbacks=callbacks, train=data)
        found.append([*module.parameters(), data.counts, data.networks[0].weight])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_a_step_reads_of_a_data_set_is_the_same_for_each_loss():
    class Reads(Classifier):
        def training_step(self, batch, batch_idx):
            x, _ = self.trainer.train_dataloader.dataset[3]
            return super().training_step(batch, batch_idx) + self.net(x[None].to(self.device)).square().mean() / 100

    found = []
    for engine in ("auto", "loop", None):
        torch.manual_seed(3)
        data = Writing()
        callback = StiffnessCallback(probe_size=8, save=False, on_error="raise", engine=engine or "auto")
        module, _ = fit(module=Reads(fc()), callbacks=[callback] if engine else [], train=data)
        found.append(([*module.parameters(), data.counts], callback.history))
    for trained, _ in found[:2]:
        assert all(torch.equal(one, other) for one, other in zip(trained, found[2][0], strict=True))
    for one, other in zip(found[0][1], found[1][1], strict=True):
        expected = pytest.approx(other.summary["train-train"]["cos"]["overall"], abs=1e-5)
        assert one.summary["train-train"]["cos"]["overall"] == expected
