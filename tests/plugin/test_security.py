"""Nothing outside the log directory is read, whatever is asked for and wherever links lead."""

import os

import pytest

from tests.plugin.synthetic import write_run

PLUGIN = "/data/plugin/stiffness"


@pytest.fixture
def logs(tmp_path):
    """A log directory with a run, and beside it a run that nobody should see."""
    write_run(tmp_path / "logs" / "run", 2, classes=2)
    write_run(tmp_path / "secret", 2, classes=2)
    return tmp_path / "logs"


OUTSIDE = [
    "../secret", "..", "run/../../secret", "./run/../../secret", "..\\secret", "%2e%2e/secret", "%2e%2e%2fsecret",
    "..%2fsecret", "%252e%252e%252fsecret", "run%00", "run\x00", "/etc", "//etc", "file:///etc", "~", "run/",
    "./run", "run/.", "run/stiffness", "", "*", "RUN/../run",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("route", ["run", "view"])
def test_only_runs_in_the_list_are_read(logs, serve, name, route):
    client = serve(logs)
    query = {"run": name, "block": "train-val", "measure": "cos"}
    assert client.get(f"{PLUGIN}/{route}", query_string=query).status_code == 404
    raw = client.get(f"{PLUGIN}/{route}?block=train-val&measure=cos&run={name.replace(chr(0), '%00')}")
    assert raw.status_code == 404
    assert b"no run of this name" in raw.data
    assert client.get(f"{PLUGIN}/{route}", query_string={**query, "run": "run"}).status_code == 200


def test_absolute_paths(logs, serve):
    for path in (logs.parent / "secret", logs / "run"):
        assert serve(logs).get(f"{PLUGIN}/run", query_string={"run": str(path)}).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/../routes.py", "/static/..%2froutes.py", "/static/%2e%2e/routes.py", "/static/%2e%2e%2froutes.py",
        "/static/....//routes.py", "/static//etc/passwd", "/static/..%5croutes.py", "/static/x/../routes.py",
        "/static/%252e%252e%252froutes.py", "/static/", "/static", "/static/x/../index.js", "/static/index.js%00",
        "/static/none.js", "/static/static/none.js", "/routes.py", "/../stiffness/routes.py",
        "/logs/run/stiffness/step_00000000.npz",
    ],
)  # fmt: skip
def test_no_other_file_is_served(logs, serve, path):
    response = serve(logs).get(PLUGIN + path)
    assert response.status_code == 404
    assert response.data in (b"Not found", b'{"error": "there is no such file"}')


def test_a_link_to_a_folder_outside_is_not_followed_and_is_noted(logs, serve):
    (logs / "elsewhere").symlink_to(logs.parent / "secret")
    (logs / "linked").mkdir()
    (logs / "linked" / "stiffness").symlink_to(logs.parent / "secret" / "stiffness")
    (logs / "up").symlink_to(logs.parent)
    listed = serve(logs).get(f"{PLUGIN}/runs").json
    assert [run["name"] for run in listed["runs"]] == ["run"]
    assert len(listed["notes"]) == 3
    assert any(
        note.startswith("elsewhere is a link that leads out of the log directory") for note in listed["notes"]
    )
    assert any("linked/stiffness is a link" in note for note in listed["notes"])
    for name in ("elsewhere", "linked", "up/secret"):
        assert serve(logs).get(f"{PLUGIN}/run", query_string={"run": name}).status_code == 404


def test_a_link_to_a_file_outside_is_not_followed_and_is_noted(logs, serve):
    outside = logs.parent / "secret" / "stiffness" / "step_00000100.npz"
    (logs / "run" / "stiffness" / "step_00000900.npz").symlink_to(outside)
    run = serve(logs).get(f"{PLUGIN}/run", query_string={"run": "run"}).json
    assert run["steps"] == [0, 100]
    assert run["notes"] == ["run: step_00000900.npz is a link that leads out of the log directory"]


def test_a_folder_replaced_by_a_link_after_it_was_listed(logs, serve):
    client = serve(logs)
    assert len(client.get(f"{PLUGIN}/runs").json["runs"]) == 1
    (logs / "run" / "stiffness").rename(logs / "run" / "old")
    (logs / "run" / "stiffness").symlink_to(logs.parent / "secret" / "stiffness")
    run = client.get(f"{PLUGIN}/run", query_string={"run": "run"}).json
    assert run["steps"] == []
    assert run["notes"] == ["run: stiffness is a link"]
    (logs / "run" / "stiffness").unlink()
    (logs / "run" / "stiffness").symlink_to(logs / "run" / "old")  # one that stays inside does no harm
    assert client.get(f"{PLUGIN}/run", query_string={"run": "run"}).json["steps"] == [0, 100]


def test_links_within_the_log_directory(logs, serve):
    (logs / "latest").symlink_to(logs / "run")
    (logs / "loop").symlink_to(logs)
    (logs / "broken").symlink_to(logs / "nowhere")
    (logs / "itself").symlink_to(logs / "itself")
    (logs / "run" / "stiffness" / "step_00000900.npz").symlink_to("step_00000100.npz")
    listed = serve(logs).get(f"{PLUGIN}/runs").json
    assert ([run["name"] for run in listed["runs"]], listed["notes"]) == (["run"], [])
    assert serve(logs).get(f"{PLUGIN}/run", query_string={"run": "run"}).json["steps"] == [0, 100]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_opened(logs, serve):
    os.mkfifo(logs / "run" / "stiffness" / "step_00000900.npz")
    run = serve(logs).get(f"{PLUGIN}/run", query_string={"run": "run"}).json
    assert (run["steps"], run["notes"]) == ([0, 100], ["run: step_00000900.npz is not a file"])


def test_messages_do_not_tell_where_the_log_directory_lies(logs, serve):
    (logs / "run" / "stiffness" / "step_00000900.npz").write_bytes(b"no archive")
    (logs / "away").symlink_to(logs.parent)
    client = serve(logs)
    for path in ("runs", "run?run=run", "run?run=none", "view?run=run&block=x&measure=y"):
        assert str(logs.parent) not in client.get(f"{PLUGIN}/{path}").text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("route", ["runs", "run", "view", "static/index.js"])
def test_nothing_can_be_written(logs, serve, method, route):
    assert serve(logs).open(f"{PLUGIN}/{route}", method=method).status_code == 405
