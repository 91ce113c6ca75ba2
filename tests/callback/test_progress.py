"""A bar for long measurements, among those of the trainer, that goes away and changes no value."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar

from lightning_stiffness import StiffnessCallback, progress
from tests.callback.runs import Classifier, digits, fc, fit


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
def test_a_bar_appears_and_goes_away(bar, monkeypatch, capfd):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    shown = []
    for name in ("_below", "_beside_rich"):
        original = getattr(progress, name)

        def spy(*args, original=original, name=name):
            shown.append((name, *args[1:]))
            return original(*args)

        monkeypatch.setattr(progress, name, spy)
    callback, own = StiffnessCallback(probe_size=8, engine="loop"), bar()
    _, trainer = fit(callbacks=[callback, own], enable_progress_bar=True, max_epochs=1)
    kind = "_below" if bar is TQDMProgressBar else "_beside_rich"
    assert shown == [(kind, 16, "Measuring stiffness")] * 2
    printed = "".join(capfd.readouterr())
    if bar is TQDMProgressBar:
        assert "Measuring stiffness: " in printed
    assert len(callback.history) == 2
    assert trainer.callback_metrics


def test_a_line_of_the_rich_bar():
    class Lines:
        def __init__(self):
            self.lines, self.removed = {}, []

        def add_task(self, title, total):
            self.lines[0] = (title, 0, total)
            return 0

        def update(self, line, completed, total):
            self.lines[line] = (self.lines[line][0], completed, total)

        def remove_task(self, line):
            self.removed.append(line)

    lines = Lines()
    trainer = SimpleNamespace(progress_bar_callback=SimpleNamespace(progress=lines), is_global_zero=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "PATIENCE", -1.0)
        with progress.counted(lambda _, batch: batch.sum(), 6, "stiffness", trainer) as loss_fn:
            assert float(loss_fn(None, torch.ones(4))) == 4.0
            assert lines.lines == {0: ("Measuring stiffness", 4, 6)}
            loss_fn(None, torch.ones(4))
            assert lines.lines == {0: ("Measuring stiffness", 8, 8)}
    assert lines.removed == [0]


def test_no_bar_where_the_trainer_shows_none():
    def loss_fn(_, batch):
        return batch

    for bar in (None, SimpleNamespace(is_enabled=False, progress=None)):
        trainer = SimpleNamespace(progress_bar_callback=bar, is_global_zero=True)
        with progress.counted(loss_fn, 6, "stiffness", trainer) as same:
            assert same is loss_fn


def test_the_cost_is_told_at_the_end(caplog):
    with caplog.at_level("INFO"):
        fit(callbacks=[StiffnessCallback(probe_size=8)], max_epochs=1)
    told = [record.message for record in caplog.records if "measurements took" in record.message]
    assert len(told) == 1
    assert told[0].startswith("stiffness: 2 measurements took ")
    assert told[0].endswith("% of the run")


def test_a_run_without_measurements_tells_nothing(caplog):
    callback = StiffnessCallback(probe_size=8, at_start=False, every_n_epochs=0)
    with caplog.at_level("INFO"):
        fit(module=Classifier(fc()), callbacks=[callback], train=digits(16), max_epochs=1)
    assert not [record for record in caplog.records if "measurements took" in record.message]
    assert isinstance(callback, pl.Callback)
