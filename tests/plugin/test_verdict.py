"""The verdict in words: each kind, the facts it rests on, and that it says no more than it knows."""

import math

import numpy as np
import pytest

from lightning_stiffness.figures import style
from lightning_stiffness.plugin import verdict as verdict_module
from lightning_stiffness.plugin.frames import Frame, View
from lightning_stiffness.plugin.verdict import effect, verdicts


def frame(
    step, unseen=None, training=None, other=math.nan, *, interval=None, excluded=0, measure="cos", classes=True
):
    def view(value, intervals):
        name = "within_class" if classes else "overall"
        summary = {name: value, "between_class": other} if classes else {name: value}
        return View(summary, intervals)

    views = {}
    if unseen is not None:
        views["train-val", measure] = view(unseen, {} if interval is None else {"within_class": interval})
    if training is not None:
        views["train-train", measure] = view(training, {})
    return Frame(step=step, epoch=1, views=views, excluded=excluded)


def last(*frames):
    return verdicts(frames)[-1]


def test_yes():
    found = last(frame(10, 0.62, 0.65, -0.04))
    assert found.kind == "good"
    assert (
        found.headline == "Yes: a step on one training example strongly helps unseen examples of its class (0.62)."
    )
    assert "Among training examples alone the same number is 0.65." in found.detail
    assert "It slightly hurts examples of other classes (−0.04)." in found.detail


def test_before_training_there_is_nothing_to_say_yet():
    found = last(frame(0, 0.73, 0.73))
    assert found.kind == "start"
    assert found.headline.startswith("Not trained yet: ")
    assert "whether it stays high" in found.detail


def test_what_it_was_before_training_does_not_count():
    assert last(frame(0, 0.91, 0.91), frame(100, 0.51, 0.5)).kind == "good"


def test_faded_from_its_peak():
    found = last(frame(0, 0.6, 0.6), frame(100, 0.72, 0.7), frame(1200, 0.3, 0.4))
    assert found.kind == "fading"
    assert found.headline.startswith("Less and less: a step on one training example helps unseen examples")
    assert found.headline.endswith("(0.30).")
    assert found.detail.startswith("It was 0.72 at step 100. ")
    assert "overfitting" in found.detail


def test_a_small_fall_is_told_and_no_more():
    found = last(frame(100, 0.7, 0.7), frame(1200, 0.55, 0.6))
    assert found.kind == "good"
    assert found.detail.startswith("It was 0.70 at step 100. ")
    assert "It was" not in last(frame(100, 0.7, 0.7), frame(1200, 0.65, 0.7)).detail


def test_each_step_knows_only_what_came_before():
    frames = [frame(1, 0.3, 0.3), frame(2, 0.7, 0.7), frame(3, 0.3, 0.3)]
    assert [one.kind for one in verdicts(frames)] == ["good", "good", "fading"]


@pytest.mark.parametrize("value", [0.01, 0.0, -0.01, -0.3])
def test_no(value):
    found = last(frame(1, 0.7, 0.7), frame(9, value, value))
    assert found.kind == "bad"
    assert found.headline.startswith(f"No: a step on one training example {effect(value)} unseen examples")
    assert "memorises" in found.detail
    assert "nothing left to learn" in found.detail  # the other reason is never kept back


def test_training_examples_alone_gain():
    found = last(frame(9, 0.2, 0.6), frame(10, 0.2, 0.6))
    assert found.kind == "fading"
    assert "but other training examples far more (0.60)" in found.headline


def test_barely():
    assert last(frame(9, 0.05, 0.06)).headline.startswith("Barely: ")


def test_an_interval_that_holds_0_is_no_help():
    found = last(frame(9, 0.2, 0.2, interval=(-0.1, 0.5)))
    assert found.kind == "bad"
    assert "(0.20), which cannot be told from 0 (95%: −0.10 to 0.50)." in found.headline
    assert last(frame(9, 0.2, 0.2, interval=(0.1, 0.3))).kind == "good"


def test_without_validation_examples_there_is_no_verdict():
    found = last(frame(9, None, 0.6))
    assert found.kind == "unknown"
    assert "only one set of examples was measured" in found.headline
    assert 'splits=("train", "val")' in found.detail


def test_no_pair_that_could_be_measured():
    found = last(frame(9, math.nan, math.nan, excluded=500))
    assert (found.kind, found.detail) == (
        "unknown",
        "500 examples are left out, since their gradient is zero or not finite.",
    )


def test_excluded_examples_are_told():
    assert "1 example is left out" in last(frame(9, 0.6, 0.6, excluded=1)).detail


def test_without_classes_it_rests_on_all_pairs():
    found = last(frame(9, 0.6, 0.6, classes=False))
    assert found.headline == "Yes: a step on one training example strongly helps unseen examples (0.60)."


def test_where_only_signs_were_measured():
    assert last(frame(9, 0.6, 0.6, measure="sign")).kind == "good"


def test_words_are_those_of_the_figures():
    values = [*np.linspace(-1, 1, 401), verdict_module.NOTHING, verdict_module.CLEAR, verdict_module.STRONG]
    assert [effect(value) for value in values] == [style.effect(value) for value in values]
