"""Pictures drawn elsewhere are the pictures drawn here, whatever becomes of the other process."""

import numpy as np
import pytest
import torch

from lightning_stiffness import measure_stiffness
from lightning_stiffness.painter import Painter
from lightning_stiffness.pictures import draw_picture, pictures


@pytest.fixture(scope="module")
def result():
    torch.manual_seed(0)
    batch = torch.randn(12, 5), torch.arange(12) % 3
    return measure_stiffness(
        torch.nn.Linear(5, 3), batch, loss_fn=lambda net, b: torch.nn.functional.cross_entropy(net(b[0]), b[1])
    )


@pytest.fixture
def painter():
    made = Painter(apart=True)
    yield made
    made.close()


def check(drawn, result, tags):
    assert [(r, tag) for r, tag, _ in drawn] == [(result, tag) for tag in tags]
    for _, tag, picture in drawn:
        np.testing.assert_array_equal(picture, draw_picture(result, tag))


def test_the_same_pictures_in_order(painter, result):
    tags = pictures(result)
    assert len(tags) == 4
    painter.order(result, tags)
    check(painter.finished(wait=True), result, tags)
    painter.order(result, tags[:1])
    check(painter.finished(wait=True), result, tags[:1])
    assert painter.finished(wait=True) == []


def test_what_is_not_drawn_yet_is_not_waited_for(painter, result):
    painter.order(result, pictures(result))
    assert painter.finished() == []
    assert len(painter.finished(wait=True)) == 4


def test_a_process_that_ends_early(painter, result):
    tags = pictures(result)
    painter.order(result, tags[:1])
    painter.finished(wait=True)
    painter._process.kill()
    painter._process.wait()
    painter.order(result, tags)
    check(painter.finished(wait=True), result, tags)


def test_a_process_that_cannot_start(painter, result, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    tags = pictures(result)
    painter.order(result, tags)
    check(painter.finished(), result, tags)


def test_where_training_takes_every_core_pictures_are_drawn_here(result, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    tags = pictures(result)[:1]
    for threads, apart in ((2, False), (1, True)):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        painter = Painter()
        painter.order(result, tags)
        assert (painter._process is not None) == apart
        check(painter.finished(wait=True), result, tags)
        painter.close()


def test_an_error_in_a_picture_is_told_and_the_others_come(painter, result):
    tags = pictures(result)
    painter.order(result, ["stiffness/val-val/cos/class_matrix", tags[0]])
    with pytest.raises(RuntimeError, match=r"stiffness/val-val/cos/class_matrix: .*that the result holds"):
        painter.finished(wait=True)
    check(painter.finished(wait=True), result, tags[:1])


def test_closing_ends_the_process(painter, result):
    painter.order(result, pictures(result))
    process = painter._process
    painter.close()
    assert process.poll() is not None
    assert painter.finished(wait=True) == []
