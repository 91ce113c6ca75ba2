"""Paths on the command line: which runs they stand for, and what is said where there are none."""

import os

import pytest

from tests.plugin.synthetic import write_run


@pytest.fixture
def logs(tmp_path):
    for name in ("version_0", "version_2", "version_10"):
        write_run(tmp_path / "lightning_logs" / name, 2, classes=3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    return tmp_path / "lightning_logs"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "there is nothing at nowhere. There are runs in lightning_logs/version_0, "
                    "lightning_logs/version_2, lightning_logs/version_10"),
        ("lightning_log", "there is nothing at lightning_log; did you mean lightning_logs? There are runs in"),
        ("lightning_logs/version_3", "did you mean lightning_logs/version_"),
        ("lightning_logs/version_3/deep/er", "There are runs in lightning_logs/version_0"),
        ("empty", "there are no results (stiffness/step_….npz) below empty; StiffnessCallback saves them there "
                  "where the run has a logger. There are runs in lightning_logs/version_0"),
        ("notes.txt", "got the file notes.txt. There are runs in"),
        ("lightning_logs", "expected one run, but lightning_logs holds 3: lightning_logs/version_0, "
                           "lightning_logs/version_2, lightning_logs/version_10. Name one of them, or compare "
                           "them: "
                           "lightning-stiffness compare lightning_logs"),
    ],
)  # fmt: skip
def test_what_is_no_run(command, logs, path, message):
    answer = command("show", path, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("lightning-stiffness: expected ")
    assert message in answer.err


def test_every_way_to_name_a_run(command, logs, tmp_path):
    for path in (
        "lightning_logs/version_2",
        "lightning_logs/version_2/",
        "lightning_logs/version_2/stiffness",
        logs / "version_2",
    ):
        answer = command("show", path)
        assert answer.code == 0
        assert answer.out.startswith("lightning_logs/version_2  step 100")
    os.symlink(logs / "version_10", tmp_path / "latest")
    assert command("show", "latest").out.startswith("lightning_logs/version_10  step 100")


def test_a_run_that_holds_another_is_meant_itself(command, logs):
    write_run(logs / "version_0" / "inner", 1, classes=3)
    assert command("show", "lightning_logs/version_0").out.startswith("lightning_logs/version_0  step 100")


def test_damaged_files_are_skipped_with_a_note(command, logs):
    folder = logs / "version_0" / "stiffness"
    (folder / "step_00000300.npz").write_bytes((folder / "step_00000100.npz").read_bytes()[:500])
    (folder / "step_00000400.npz").write_text("nothing")
    answer = command("show", "lightning_logs/version_0")
    assert answer.code == 0
    assert "(2 of 2)" in answer.out
    assert answer.err.count("is skipped: damaged, half-written or not a stiffness result") == 2
    for file in folder.glob("*.npz"):
        file.write_bytes(b"")
    answer = command("show", "lightning_logs/version_0")
    assert answer.code == 2
    assert "none of the 4 results in" in answer.err
