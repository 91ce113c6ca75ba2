"""Which runs are found, what they are called, and that results are read again only when they change."""

import os
import threading
from argparse import Namespace

import numpy as np
import pytest
from tensorboard.plugins.base_plugin import TBContext

from lightning_stiffness.plugin import store as store_module
from lightning_stiffness.plugin.discovery import log_folders
from lightning_stiffness.plugin.routes import StiffnessPlugin
from lightning_stiffness.plugin.store import Store
from lightning_stiffness.result import StiffnessResult
from tests.plugin.synthetic import result, write_run


def names(folder):
    return [run.name for run in Store({"": folder}).list_runs()[0]]


def test_runs_are_named_by_their_path_in_the_log_directory(tmp_path):
    for name in ("lightning_logs/version_10", "lightning_logs/version_2", "a b/ü"):
        write_run(tmp_path / name, 1, classes=2)
    (tmp_path / "no_results" / "stiffness").mkdir(parents=True)
    assert names(tmp_path) == ["a b/ü", "lightning_logs/version_2", "lightning_logs/version_10"]


def test_the_log_directory_may_be_the_run_or_its_folder_of_results(tmp_path):
    write_run(tmp_path, 1, classes=2)
    assert names(tmp_path) == ["."]
    assert names(tmp_path / "stiffness") == ["."]


def test_results_of_a_callback_with_a_name_of_its_own(tmp_path):
    write_run(tmp_path / "run", 1, classes=2)
    for name in ("encoder", "stiffness/encoder"):
        result(3, classes=2).save(tmp_path / "run" / name / "step_00000003.npz")
    assert names(tmp_path) == ["run", "run/encoder", "run/stiffness/encoder"]
    assert names(tmp_path / "run" / "encoder") == ["."]
    assert [frame.step for frame in Store({"": tmp_path}).history("run/encoder").frames] == [3]


def test_files_of_others_that_are_called_alike_are_no_runs(tmp_path):
    for name in ("checkpoints", "mixed"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "step_1.npz", weights=np.eye(2))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "step_1.npz").write_text("no archive")
    result(2, classes=2).save(tmp_path / "mixed" / "step_2.npz")
    assert names(tmp_path) == ["mixed"]
    (note,) = Store({"": tmp_path}).history("mixed").notes
    assert note.startswith("mixed: step_1.npz is skipped")


def test_the_log_directory_may_be_a_link(tmp_path):
    write_run(tmp_path / "real" / "run", 1, classes=2)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["run"]


def test_several_log_directories(tmp_path):
    write_run(tmp_path / "a" / "x", 1, classes=2)
    write_run(tmp_path / "b", 1, classes=2)
    folders = log_folders("", f"slow:{tmp_path / 'a'},fast:{tmp_path / 'b'}")
    assert [run.name for run in Store(folders).list_runs()[0]] == ["fast", "slow/x"]
    context = TBContext(logdir="", flags=Namespace(logdir_spec=f"fast:{tmp_path / 'b'}"))
    assert StiffnessPlugin(context).is_active()


@pytest.mark.parametrize("logdir", ["gs://bucket/logs", "s3://bucket/logs", "", None])
def test_a_log_directory_that_is_no_folder_has_no_runs(logdir):
    assert log_folders(logdir) == {}
    assert not StiffnessPlugin(TBContext(logdir=logdir)).is_active()


def test_active_as_soon_as_there_is_a_result(tmp_path):
    plugin = StiffnessPlugin(TBContext(logdir=str(tmp_path / "later")))
    assert not plugin.is_active()
    write_run(tmp_path / "later" / "run", 1, classes=2)
    assert plugin.is_active()


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    write_run(tmp_path / "run", 3, classes=2)
    reads = []
    load = StiffnessResult.load
    monkeypatch.setattr(StiffnessResult, "load", lambda path: reads.append(path.name) or load(path))
    store = Store({"": tmp_path})
    before = store.list_runs()[0][0]
    assert [frame.step for frame in store.history("run").frames] == [0, 100, 200]
    assert store.history("run").version == before.version
    assert sorted(reads) == ["step_00000000.npz", "step_00000100.npz", "step_00000200.npz"]
    reads.clear()
    result(300, classes=2).save(tmp_path / "run" / "stiffness" / "step_00000300.npz")
    changed = result(100, classes=2, progress=0.9)
    changed.save(tmp_path / "run" / "stiffness" / "step_00000100.npz")
    frames = store.history("run").frames
    assert sorted(reads) == ["step_00000100.npz", "step_00000300.npz"]
    assert [frame.step for frame in frames] == [0, 100, 200, 300]
    expected = changed.summary["train-val"]["cos"]["within_class"]
    assert frames[1].views["train-val", "cos"].summary["within_class"] == expected
    assert store.list_runs()[0][0].version != before.version


def test_memory_is_bounded_and_nothing_is_lost(tmp_path, monkeypatch):
    write_run(tmp_path / "run", 6, classes=5)
    monkeypatch.setattr(store_module, "KEPT", 4000)
    store = Store({"": tmp_path})
    assert len(store.history("run").frames) == 6
    assert store._bytes <= 4000
    assert len(store.history("run").frames) == 6


def test_of_two_files_for_one_step_the_newer_counts(tmp_path):
    folder = tmp_path / "run" / "stiffness"
    result(7, classes=2).save(folder / "step_7.npz")
    newer = result(7, classes=2, progress=1.0)
    newer.save(folder / "step_00000007.npz")
    os.utime(folder / "step_7.npz", (1, 1))
    (frame,) = Store({"": tmp_path}).history("run").frames
    assert frame.views["val-val", "cos"].summary == newer.summary["val-val"]["cos"]


def test_of_very_many_steps_evenly_spaced_ones_are_shown_and_the_last(tmp_path, monkeypatch):
    run = tmp_path / "run"
    for step in range(0, 110, 10):
        result(step, classes=2).save(run / "stiffness" / f"step_{step}.npz")  # by number, not by name
    monkeypatch.setattr(store_module, "MOST_STEPS", 4)
    store = Store({"": tmp_path})
    history = store.history("run")
    assert [frame.step for frame in history.frames] == [0, 40, 80, 100]
    assert history.notes == ["run: of 11 results, 4 are shown, evenly spaced"]
    result(110, classes=2).save(run / "stiffness" / "step_110.npz")
    assert [frame.step for frame in store.history("run").frames] == [0, 40, 80, 110]
    monkeypatch.setattr(store_module, "MOST_STEPS", 12)
    assert len(store.history("run").frames) == 12


def test_asked_from_several_threads(tmp_path):
    write_run(tmp_path / "run", 8, classes=3)
    store = Store({"": tmp_path})
    found = []
    threads = [threading.Thread(target=lambda: found.append(len(store.history("run").frames))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [8] * 8
    assert store._bytes == sum(frame.nbytes for frame in store.history("run").frames)


def test_a_run_that_goes_away(tmp_path):
    write_run(tmp_path / "run", 2, classes=2)
    store = Store({"": tmp_path})
    assert len(store.history("run").frames) == 2
    for file in (tmp_path / "run" / "stiffness").iterdir():
        file.unlink()
    assert store.history("run").frames == []
    assert store.list_runs()[0] == []
    with pytest.raises(KeyError):
        store.history("run")
