"""Training with the callback is to the bit training without it."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torchmetrics.classification import MulticlassAccuracy

from lightning_stiffness import StiffnessCallback
from tests import told
from tests.callback.runs import Classifier, cnn, digits, fc, fit


class Watch(pl.Callback):
    """What a run did: every batch, every loss, the random state after every step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((batch[0].sum().item(), outputs["loss"].item(), torch.get_rng_state().sum().item()))
        self.seen.append([p.grad.sum().item() for p in pl_module.parameters()])


class WithMetric(Classifier):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__(net)
        self.accuracy = MulticlassAccuracy(4)
        self.calls: list[int] = []
        self.register_buffer("count", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.calls.append(len(x))
        self.count += 1
        self.accuracy(self.net(x), y)
        self.log("accuracy", self.accuracy)
        return super().training_step(batch, batch_idx)


def run(make_net, module_class, callbacks, **options):
    torch.manual_seed(3)
    watch = Watch()
    module, trainer = fit(module=module_class(make_net()), callbacks=[*callbacks, watch], **options)
    return module, trainer, watch


@pytest.mark.parametrize("make_net", [fc, cnn])
@pytest.mark.parametrize("module_class", [Classifier, WithMetric])
@pytest.mark.parametrize("options", [{}, {"every_n_train_steps": 2}, {"engine": "loop"}], ids=told)
def test_training_is_identical_to_the_bit(make_net, module_class, options):
    callback = StiffnessCallback(probe_size=8, **options)
    module, trainer, watch = run(make_net, module_class, [callback])
    plain, plain_trainer, plain_watch = run(make_net, module_class, [])
    assert len(callback.history) >= 3
    assert watch.seen == plain_watch.seen
    for (name, value), (_, expected) in zip(module.state_dict().items(), plain.state_dict().items(), strict=True):
        assert torch.equal(value, expected), name
    state, expected_state = (t.optimizers[0].state_dict() for t in (trainer, plain_trainer))
    assert str(state) == str(expected_state)
    for name, value in plain_trainer.callback_metrics.items():
        assert torch.equal(trainer.callback_metrics[name], value), name
    if module_class is WithMetric:
        assert module.calls == plain.calls


def test_parameters_flags_and_hooks_stay_what_they_were():
    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            self.before = snapshot(pl_module)

        def on_validation_start(self, trainer, pl_module):
            if not trainer.sanity_checking:
                assert all(not part.training for part in pl_module.modules())

        def on_train_end(self, trainer, pl_module):
            self.after = snapshot(pl_module)

    def snapshot(module):
        return (
            [(name, id(p), type(p), p.requires_grad) for name, p in module.named_parameters()],
            [(name, id(b)) for name, b in module.named_buffers()],
            [(name, part.training) for name, part in module.named_modules()],
            [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
            sorted(module.__dict__),
        )

    look = Look()
    torch.manual_seed(3)
    fit(cnn(), [look, StiffnessCallback(probe_size=8)])
    assert look.before == look.after


def test_random_augmentation_draws_from_its_own_seed():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, i):
            return torch.randn(1, 12, 12), torch.tensor(i % 4)

    results = []
    for _ in range(2):
        callback = StiffnessCallback(probe_size=8, splits="train")
        torch.manual_seed(3)
        fit(fc(), [callback], train=Noisy(), val=digits(8), max_epochs=1, seed=len(results))
        results.append(callback.history[0].summary)
    assert results[0] == results[1]
