"""When stiffness is measured, and what loggers and monitoring callbacks receive."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_stiffness import StiffnessCallback, StiffnessResult
from tests import told
from tests.callback.runs import Classifier, digits, fc, fit

STEPS_AN_EPOCH = 5


def events(folder) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_holds_scalars_and_images_at_the_start_and_after_each_epoch(tmp_path):
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    callback = StiffnessCallback(probe_size=16, pictures="all")
    fit(callbacks=[callback], logger=logger, max_epochs=3)
    found = events(tmp_path)
    # Lightning writes what an epoch ends with at the epoch's last batch, counted from 0.
    expected = [0, STEPS_AN_EPOCH - 1, 2 * STEPS_AN_EPOCH - 1, 3 * STEPS_AN_EPOCH - 1]
    for tag in (
        "stiffness/train-train/cos/within_class",
        "stiffness/train-val/sign/between_class",
        "stiffness/val-val/cos/critical_length",
        "stiffness/val-val/cos/overall",
        "stiffness/excluded_examples",
        "stiffness/seconds",
    ):
        assert [event.step for event in found.Scalars(tag)] == expected, tag
    for block in ("train-train", "train-val", "val-val"):
        for measure in ("cos", "sign"):
            for kind in ("class_matrix", "distance_curve"):
                images = found.Images(f"stiffness/{block}/{measure}/{kind}")
                assert [event.step for event in images] == expected
                assert all(event.width > 300 and len(event.encoded_image_string) > 3000 for event in images)
    values = [event.value for event in found.Scalars("stiffness/train-train/cos/within_class")]
    measured = [result.summary["train-train"]["cos"]["within_class"] for result in callback.history]
    np.testing.assert_allclose(values, measured, rtol=1e-6)
    assert [result.step for result in callback.history] == [0, 5, 10, 15]
    assert [result.epoch for result in callback.history] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"train-val/cos/class_matrix", "train-val/cos/distance_curve"}),
        (
            {"splits": "train", "measures": "sign"},
            {"train-train/sign/class_matrix", "train-train/sign/distance_curve"},
        ),
        ({"pictures": "none"}, set()),
    ],
)
def test_the_pictures_asked_for(tmp_path, settings, expected):
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    fit(callbacks=[StiffnessCallback(probe_size=16, **settings)], logger=logger, max_epochs=1)
    assert set(events(tmp_path).Tags()["images"]) == {f"stiffness/{tag}" for tag in expected}


def test_results_are_saved_under_the_log_directory(tmp_path):
    callback = StiffnessCallback(probe_size=8)
    fit(callbacks=[callback], logger=CSVLogger(tmp_path, name=None, version=""), max_epochs=1)
    files = sorted((tmp_path / "stiffness").iterdir())
    assert [file.name for file in files] == ["step_00000000.npz", "step_00000005.npz"]
    loaded = StiffnessResult.load(files[-1])
    assert callback.result is not None
    np.testing.assert_equal(loaded.scalars(), callback.result.scalars())


def test_monitoring_callbacks_see_this_epochs_value(tmp_path):
    key = "stiffness/train-val/cos/within_class"
    checkpoint = ModelCheckpoint(tmp_path, monitor=key, mode="max", save_top_k=-1, filename="{epoch}")
    callback = StiffnessCallback(probe_size=16)
    stopping = EarlyStopping(monitor=key, mode="max", patience=5)
    fit(callbacks=[callback, checkpoint, stopping], enable_checkpointing=True, max_epochs=2)
    seen = sorted(float(score) for score in checkpoint.best_k_models.values())
    measured = [result.summary["train-val"]["cos"]["within_class"] for result in callback.history[1:]]
    np.testing.assert_allclose(seen, sorted(measured), rtol=1e-6)


def test_without_validation_data_training_data_is_measured_at_epoch_ends():
    module = Classifier(fc())
    callback = StiffnessCallback(probe_size=16)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.warns(UserWarning, match="no val data"):
        trainer.fit(module, torch.utils.data.DataLoader(digits(40), batch_size=8))
    assert [result.step for result in callback.history] == [0, 5, 10]
    assert callback.result is not None
    assert callback.result.blocks == ["train-train"]


@pytest.mark.parametrize(
    ("options", "trainer_options", "steps"),
    [
        ({"every_n_epochs": 2}, {"max_epochs": 4}, [0, 10, 20]),
        ({"at_start": False}, {"max_epochs": 2}, [5, 10]),
        ({"every_n_epochs": 0, "every_n_train_steps": 3}, {"max_epochs": 2}, [0, 3, 6, 9]),
        ({"every_n_epochs": 0, "every_n_train_steps": lambda n: math.log2(n).is_integer()}, {}, [0, 1, 2, 4, 8]),
        ({}, {"check_val_every_n_epoch": 2}, [0, 5, 10]),
        ({}, {"val_check_interval": 2}, [0, 5, 10]),
        ({}, {"limit_val_batches": 0}, [0, 5, 10]),
        ({}, {"max_epochs": -1, "max_steps": 10}, [0, 5, 10]),
        ({}, {"accumulate_grad_batches": 5}, [0, 1, 2]),
    ],
    ids=told,
)
def test_when_it_measures(options, trainer_options, steps):
    callback = StiffnessCallback(probe_size=8, **options)
    fit(callbacks=[callback], **trainer_options)
    assert [result.step for result in callback.history] == steps


@pytest.mark.parametrize("options", [{}, {"limit_val_batches": 0}], ids=["validated", "not validated"])
def test_no_step_is_measured_twice(tmp_path, options):
    callback = StiffnessCallback(probe_size=8, every_n_train_steps=5)
    name = "stiffness/train-train/cos/within_class"
    stopping = EarlyStopping(name, mode="max", patience=9)
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    _, trainer = fit(callbacks=[callback, stopping], logger=logger, **options)
    assert [(result.step, result.epoch) for result in callback.history] == [(0, 0), (5, 1), (10, 2)]
    logged = [result.summary["train-train"]["cos"]["within_class"] for result in callback.history]
    assert float(trainer.callback_metrics[name]) == pytest.approx(logged[-1])
    assert [point.step for point in events(tmp_path).Scalars(name)] == [0, 5, 10]


@pytest.mark.parametrize(
    "options", [{"fast_dev_run": True}, {"barebones": True}, {"num_sanity_val_steps": 2}], ids=told
)
def test_special_runs_finish(options):
    if "barebones" in options:
        options |= {"logger": None, "enable_checkpointing": None}
        options |= {"enable_progress_bar": None, "enable_model_summary": None}
    callback = StiffnessCallback(probe_size=8)
    fit(callbacks=[callback], max_epochs=1, **options)
    assert len(callback.history) == 2


def test_validate_and_test_after_fit_measure_nothing_more():
    callback = StiffnessCallback(probe_size=8)
    module, trainer = fit(callbacks=[callback], max_epochs=1)
    trainer.validate(module, torch.utils.data.DataLoader(digits(8), batch_size=8), verbose=False)
    assert len(callback.history) == 2


def test_both_lightning_namespaces():
    import lightning.pytorch

    assert issubclass(StiffnessCallback, pl.Callback)
    assert issubclass(StiffnessCallback, lightning.pytorch.Callback)


def test_resumed_run_measures_on_the_same_probe(tmp_path):
    first = StiffnessCallback(probe_size=8)
    _, trainer = fit(callbacks=[first], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    second = StiffnessCallback(probe_size=8)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[second], logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    data = {"train": digits(40), "val": digits(24, 1)}
    trainer.fit(
        Classifier(fc()),
        torch.utils.data.DataLoader(data["train"], batch_size=8, shuffle=True),
        torch.utils.data.DataLoader(data["val"], batch_size=16),
        ckpt_path=tmp_path / "one.ckpt",
    )
    assert [result.step for result in second.history] == [10]
    for split in data:
        assert (first.history[0].probe_indices[split] == second.history[0].probe_indices[split]).all()


def test_the_fall_from_the_peak_goes_on_over_a_resumed_run(tmp_path):
    def tag(name):
        return f"stiffness/train-train/cos/{name}"

    first = StiffnessCallback(probe_size=8)
    _, trainer = fit(callbacks=[first], max_epochs=2)
    values = [result.summary["train-train"]["cos"]["within_class"] for result in first.history]
    assert float(trainer.callback_metrics[tag("drop_from_peak")]) == pytest.approx(max(values) - values[-1])
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    checkpoint = torch.load(tmp_path / "two.ckpt", weights_only=True)
    (state,) = [state for key, state in checkpoint["callbacks"].items() if "StiffnessCallback" in key]
    assert [numbers["step"] for numbers in state["within_class"]] == [0, 5, 10]
    state["within_class"][1]["summary"]["train-train"]["cos"]["within_class"] = values[1] = 0.99
    torch.save(checkpoint, tmp_path / "two.ckpt")

    second = StiffnessCallback(probe_size=8)
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", callbacks=[second], logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    data = (torch.utils.data.DataLoader(part, batch_size=8) for part in (digits(40), digits(24, 1)))
    trainer.fit(Classifier(fc()), *data, ckpt_path=tmp_path / "two.ckpt")
    values += [result.summary["train-train"]["cos"]["within_class"] for result in second.history]
    assert len(values) == 4
    assert float(trainer.callback_metrics[tag("drop_from_peak")]) == pytest.approx(max(values) - values[-1])
    assert max(values) == 0.99  # the peak was before the run was resumed


def test_settings_reach_the_result():
    callback = StiffnessCallback(
        probe_size=8,
        superclasses=[[0, 0, 1, 1], [0, 0, 0, 0]],
        superclass_names=[["low", "high"], ["all"]],
        resamples=0,
        diagnostics=False,
    )
    fit(callbacks=[callback], max_epochs=1)
    result = callback.result
    assert result.superclass_names == [["low", "high"], ["all"]]
    assert not any(measures for block in result.interval.values() for measures in block.values())
    assert result.diagnostics == {}
    full = StiffnessCallback(probe_size=20)
    fit(callbacks=[full], max_epochs=1)
    low, high = full.result.interval["train-train"]["cos"]["within_class"]
    assert low < full.result.summary["train-train"]["cos"]["within_class"] < high
    assert set(full.result.diagnostics) == {"train", "val"}
