"""Damaged, half-written and foreign files are skipped with a note; the others show."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from lightning_stiffness.plugin import store as store_module
from lightning_stiffness.plugin.store import Store
from lightning_stiffness.result import FORMAT, StiffnessResult
from tests.plugin.synthetic import result, write_run


def archive(path, meta, **arrays):
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)


def good_meta(**changes):
    plain = {"step": 9, "epoch": 0, "class_names": ["a", "b"], "superclasses": None, "summary": {"train-val": {}}}
    rest = {"excluded": {}, "seconds": 1.0, "engine": "", "settings": {}, "versions": {}, "notes": []}
    return {"format": FORMAT, "critical_length": {}, **plain, **rest, **changes}


def half(path):
    result(9, classes=2).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    result(9, classes=2).save(path)
    data = bytearray(path.read_bytes())
    data[60:90] = b"\xff" * 30
    path.write_bytes(data)


def pickled(path):
    np.savez(path, meta=np.array([{"a": 1}], dtype=object))


def endless(path):
    """A header that promises more than any memory holds."""
    with zipfile.ZipFile(path, "w") as file, file.open("meta.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f8", "fortran_order": False, "shape": (2**60,)})


def nested(path):
    archive(path, good_meta())
    with zipfile.ZipFile(path, "w") as file, file.open("meta.npy", "w") as entry:
        np.save(entry, np.array("[" * 100_000))


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "half": half,
    "flipped": flipped,
    "pickled": pickled,
    "endless": endless,
    "nested": nested,
    "another archive": lambda path: np.savez(path, x=np.eye(3)),
    "another format": lambda path: archive(path, {"format": "something-else/1"}),
    "a later format": lambda path: archive(path, good_meta(format="lightning-stiffness/99")),
    "summary is a list": lambda path: archive(path, good_meta(summary=[1, 2])),
    "summary of words": lambda path: archive(path, good_meta(summary={"train-val": {"cos": {"overall": "much"}}})),
    "a step in words": lambda path: archive(path, good_meta(step="first")),
    "names are a number": lambda path: archive(path, good_meta(class_names=3)),
    "groups do not fit": lambda path: archive(path, good_meta(superclasses=[0])),
    "matrix does not fit": lambda path: archive(
        path, good_meta(summary={"train-val": {"cos": {}}}), **{"class_matrix/train-val/cos": np.eye(3)}
    ),
    "layers do not fit": lambda path: archive(
        path,
        good_meta(
            summary={"train-val": {"cos": {}}},
            layer_names=["body", "head"],
            layer_summary={"train-val": {"cos": {"within_class": [0.5]}}},
        ),
    ),
    "curve does not fit": lambda path: archive(
        path,
        good_meta(summary={"train-val": {"cos": {}}}),
        **{f"curve/train-val/cos/{name}": np.ones(3) for name in ("edges", "mean", "count", "stderr")},
    ),
}


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("kind", FOREIGN)
def test_skipped_with_a_note(tmp_path, serve, kind):
    write_run(tmp_path / "run", 2, classes=2)
    FOREIGN[kind](tmp_path / "run" / "stiffness" / "step_00000900.npz")
    client = serve(tmp_path)
    run = client.get("/data/plugin/stiffness/run?run=run").json
    assert run["steps"] == [0, 100]
    (note,) = run["notes"]
    assert note.startswith("run: step_00000900.npz is skipped: damaged, half-written or not a stiffness result (")
    view = client.get("/data/plugin/stiffness/view?run=run&block=train-val&measure=cos")
    assert view.status_code == 200


@pytest.mark.parametrize("kind", FOREIGN)
def test_in_a_folder_of_another_name_it_hides_no_run(tmp_path, kind):
    write_run(tmp_path / "run", 1, classes=2)
    (tmp_path / "other").mkdir()
    FOREIGN[kind](tmp_path / "other" / "step_1.npz")
    store = Store({"": tmp_path})
    listed = [run.name for run in store.list_runs()[0]]
    assert listed in (["run"], ["other", "run"])
    assert "other" not in listed or store.history("other").frames == []


def test_a_file_that_would_fill_the_memory(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", 1, classes=2) / "stiffness"
    with zipfile.ZipFile(folder / "step_00000900.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("meta.npy", b"\0" * 5_000_000)
    monkeypatch.setattr(store_module, "LARGEST", 1_000_000)
    history = Store({"": tmp_path}).history("run")
    assert len(history.frames) == 1
    assert "it would take 5,000,000 bytes" in history.notes[0]


def test_every_way_to_cut_a_file_short(tmp_path):
    """A copy that goes on while it is read: either the whole result or a note."""
    folder = tmp_path / "run" / "stiffness"
    whole = result(9, classes=2).save(tmp_path / "whole.npz").read_bytes()
    folder.mkdir(parents=True)
    for length in range(0, len(whole), 211):
        (folder / "step_00000009.npz").write_bytes(whole[:length])
        history = Store({"": tmp_path}).history("run")
        assert (history.frames, len(history.notes)) == ([], 1)


def test_random_damage(tmp_path):
    """A damaged file gives the numbers it was saved with, or none at all."""
    folder = tmp_path / "run" / "stiffness"
    saved = result(9, classes=2)
    whole = saved.save(tmp_path / "whole.npz").read_bytes()
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    skipped = 0
    for _ in range(60):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        (folder / "step_00000009.npz").write_bytes(data)
        history = Store({"": tmp_path}).history("run")
        skipped += len(history.notes)
        for frame in history.frames:
            assert frame.views["train-val", "cos"].summary == saved.summary["train-val"]["cos"]
    assert skipped > 20


def test_a_file_that_gets_whole_is_shown(tmp_path):
    folder = write_run(tmp_path / "run", 1, classes=2) / "stiffness"
    whole = result(900, classes=2).save(tmp_path / "whole.npz")
    (folder / "step_00000900.npz").write_bytes(whole.read_bytes()[:500])
    store = Store({"": tmp_path})
    assert len(store.history("run").notes) == 1
    shutil.copy(whole, folder / "step_00000900.npz")
    history = store.history("run")
    assert ([frame.step for frame in history.frames], history.notes) == ([0, 900], [])


def test_other_files_are_none_of_ours(tmp_path):
    folder = write_run(tmp_path / "run", 1, classes=2) / "stiffness"
    for name in (".step_00000100.npz.abc.part", "step_.npz", "notes.txt", "step_1.npz.bak", "xstep_1.npz"):
        (folder / name).write_bytes(b"?")
    (folder / "step_00000200.npz").mkdir()
    history = Store({"": tmp_path}).history("run")
    assert len(history.frames) == 1
    assert history.notes == ["run: step_00000200.npz is not a file"]


def test_notes_of_the_measurement_are_shown_too(tmp_path, serve):
    for step in (1, 2):
        StiffnessResult(step, 0, notes=["no classes were found"]).save(
            tmp_path / "r" / "stiffness" / f"step_{step}.npz"
        )
    run = serve(tmp_path).get("/data/plugin/stiffness/run?run=r").json
    assert run["notes"] == ["no classes were found"]
