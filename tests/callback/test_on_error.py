"""An error inside a measurement leaves the run as it was, and is told once."""

import math
import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import TensorDataset

from lightning_stiffness import StiffnessCallback
from tests import told
from tests.callback.runs import Classifier, digits, fc, fit

KEY = "stiffness/train-val/cos/within_class"


class Fragile(Classifier):
    """Its training step fails when it is measured, from the second measurement on; the random state has moved."""

    error: type[BaseException] = RuntimeError
    healthy = 1

    def training_step(self, batch, batch_idx):
        if type(self.trainer).__name__ == "TrainerView" and self.trainer.global_step >= 5 * self.healthy:
            torch.rand(7)
            self.net[1].weight.requires_grad_(False)
            raise self.error("no room on the probe")
        return super().training_step(batch, batch_idx)


class OutOfMemory(Fragile):
    error = torch.OutOfMemoryError if hasattr(torch, "OutOfMemoryError") else torch.cuda.OutOfMemoryError


class Stopped(Fragile):
    error = KeyboardInterrupt


class NeverWorks(Fragile):
    healthy = 0


def trained(module_class, callbacks, **options):
    torch.manual_seed(3)
    module, trainer = fit(module=module_class(fc()), callbacks=callbacks, max_epochs=3, **options)
    return module, trainer, torch.get_rng_state()


@pytest.mark.parametrize("module_class", [Fragile, OutOfMemory, NeverWorks])
def test_training_goes_on_as_it_would_without(module_class, tmp_path):
    callback = StiffnessCallback(probe_size=8)
    checkpoint = ModelCheckpoint(tmp_path, monitor=KEY, mode="max", save_top_k=-1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module, trainer, state = trained(module_class, [callback, checkpoint], enable_checkpointing=True)
    plain, _, plain_state = trained(module_class, [])
    assert torch.equal(state, plain_state)
    for (name, value), expected in zip(module.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name
    assert all(p.requires_grad for p in module.parameters())
    told = [str(w.message) for w in caught if "could not be measured" in str(w.message)]
    assert len(told) == 1
    assert "no room on the probe" in told[0]
    assert "on_error='raise'" in told[0]
    healthy = module_class.healthy
    assert (len(callback.history), callback.failures) == (healthy, 4 - healthy)
    logged = [value for name, value in trainer.callback_metrics.items() if name.startswith("stiffness/")]
    assert len(logged) >= 24
    assert all(math.isnan(float(value)) for value in logged)


def test_on_error_raise_stops_with_the_random_state_untouched():
    states = []

    class Record(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            states.append(torch.get_rng_state())

        def on_exception(self, trainer, pl_module, exception):
            states.append(torch.get_rng_state())

    with pytest.raises(RuntimeError, match="no room on the probe"):
        trained(Fragile, [Record(), StiffnessCallback(probe_size=8, on_error="raise")])
    assert torch.equal(*states[-2:])


def test_an_interrupt_stops_the_run_as_ever():
    callback = StiffnessCallback(probe_size=8)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(Stopped, [callback])
    assert len(callback.history) == 1
    assert callback._measuring.probes == {}


def test_an_interrupt_in_a_loss_that_changes_the_module_in_training_leaves_it_as_it_was():
    class Reaching(Stopped):
        def training_step(self, batch, batch_idx):
            if type(self.trainer).__name__ == "TrainerView" and self.trainer.global_step >= 5:
                with torch.no_grad():
                    live.net[1].weight.add_(1)
            return super().training_step(batch, batch_idx)

    torch.manual_seed(3)
    live = Reaching(fc())
    before = []

    class Record(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            before[:] = [p.detach().clone() for p in pl_module.parameters()]

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module=live, callbacks=[Record(), StiffnessCallback(probe_size=8)])
    for parameter, expected in zip(live.parameters(), before, strict=True):
        assert torch.equal(parameter.cpu(), expected.cpu())  # where the trainer leaves it


def test_a_picture_that_fails_costs_neither_the_run_nor_the_numbers(monkeypatch):
    def no_space(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("lightning_stiffness.runlog.takes_pictures", no_space)
    callback = StiffnessCallback(probe_size=8)
    with pytest.warns(UserWarning, match=r"could not be shown or saved: OSError: no space left on device"):
        _, trainer, _ = trained(Classifier, [callback])
    assert len(callback.history) == 4
    assert math.isfinite(float(trainer.callback_metrics[KEY]))
    with pytest.raises(OSError, match="no space"):
        trained(Classifier, [StiffnessCallback(probe_size=8, on_error="raise")])


def test_what_the_user_has_to_settle_stops_the_run_before_its_first_step():
    class PerPixel(Classifier):
        def training_step(self, batch, batch_idx):
            return batch[0].flatten(1) * self.net[1].weight[0] * (2.0 if batch_idx else 1.0)

    module = PerPixel(fc())
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(ValueError, match="expected loss_fn to return"):
        fit(module=module, callbacks=[StiffnessCallback(probe_size=8)])
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_two_callbacks_need_two_names():
    message = r"two StiffnessCallbacks would log as 'stiffness': pass name="
    with pytest.raises(pl.utilities.exceptions.MisconfigurationException, match=message):
        fit(callbacks=[StiffnessCallback(probe_size=8), StiffnessCallback(probe_size=4)])


def test_two_callbacks_with_different_probes_and_data():
    other = TensorDataset(*digits(40, seed=5).tensors)
    first = StiffnessCallback(probe_size=8)
    second = StiffnessCallback(probe_size=4, seed=1, name="other/shifted", dataloaders={"val": other})
    _, trainer = fit(callbacks=[first, second])
    for callback, name in ((first, "stiffness"), (second, "other/shifted")):
        value = callback.result.summary["train-val"]["cos"]["within_class"]
        assert float(trainer.callback_metrics[f"{name}/train-val/cos/within_class"]) == pytest.approx(value)
    assert first.state_key != second.state_key
    assert int(second.result.probe_indices["val"].max()) > 23  # the run's own has 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, r"on_error to be one or more of \['warn', 'raise'\]"),
        ({"dataloaders": {"test": None}}, r"dataloaders to be one or more of \['train', 'val'\]"),
        ({"name": "/a"}, "expected name to begin the logged names with"),
    ],
    ids=told,
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StiffnessCallback(**arguments)
