"""What figures say in words: numbers inside their intervals, intervals with two ends, names that differ."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lightning_stiffness import figures
from lightning_stiffness.figures import class_matrix_figure, distance_curve, heatmap, layer_curve
from lightning_stiffness.figures.captions import captions, length_verdict
from lightning_stiffness.figures.intervals import length_range, mean_digits, mean_words, short_length
from lightning_stiffness.figures.moment import NO_EPOCH
from lightning_stiffness.figures.names import shorten_all
from lightning_stiffness.result import StiffnessResult

MEAN_AND_ENDS = re.compile(r"mean (\S+) \[(\S+), (\S+)\]")


def said(matrix, **intervals) -> str:
    return " ".join(captions(np.asarray(matrix), None, None, intervals)).replace("\u00a0", " ")


def floats(texts) -> list[float]:
    return [float(text.replace("−", "-")) for text in texts]


@pytest.mark.parametrize(
    ("mean", "low", "high", "words"),
    [
        (-0.0871, -0.0881, -0.0861, "mean −0.087 [−0.088, −0.086]"),
        (0.0051, 0.001, 0.009, "mean 0.005 [0.001, 0.009]"),
        (0.60, 0.55, 0.66, "mean 0.60 [0.55, 0.66]"),
        (0.1234, 0.12338, 0.12343, "mean 0.12340 [0.12338, 0.12343]"),
    ],
)
def test_a_mean_has_the_digits_of_its_interval(mean, low, high, words):
    assert words in said([[mean]], within_class=(low, high))


def test_no_mean_is_outside_of_its_interval_and_no_two_ends_look_alike():
    rng = np.random.default_rng(0)
    for width in 10.0 ** rng.uniform(-5, -0.5, 200):
        mean = rng.uniform(-0.5, 0.5)
        low, high = mean - width * rng.uniform(), mean + width
        value, first, last = floats(MEAN_AND_ENDS.search(said([[mean]], within_class=(low, high))).groups())
        assert first <= value <= last
        assert first < last


@pytest.mark.parametrize("high", [0.777, 0.777 + 1e-9])
def test_an_interval_of_one_point_is_none(high):
    """Classes of one example: every resample is the same."""
    text = said(np.full((2, 2), 0.777), within_class=(0.777, high), between_class=(0.777, high))
    assert "its own class (mean 0.78) and strongly helps other classes (mean 0.78)." in text
    assert "In brackets" not in text
    assert mean_digits(0.777, high) is None


def test_one_pair_is_no_mean():
    one = captions(np.eye(2), None, np.ones((2, 2)))
    assert "Each cell is one pair of examples." in one
    assert "Each cell is a mean over 1 to 4 pairs of examples." in captions(
        np.eye(2), None, np.array([[1, 4], [4, 1]])
    )


@pytest.mark.parametrize(
    ("xi", "ends", "words"),
    [
        (1.0002, (1.0001, 1.0004), "ξ = 1.0002 (95% interval: 1.0001 to 1.0004):"),
        (0.7146, (0.7141, 0.7149), "ξ = 0.715 (95% interval: 0.714 to 0.715):"),
        (1234.4, (1234.1, 1234.4), "ξ = 1,234.4 (95% interval: 1,234.1 to 1,234.4):"),
        (2.0, (2.0, 2.0), "ξ = 2:"),
        (2.0, (math.nan, 2.0), "ξ = 2:"),
        (0.58, (0.5, math.inf), "ξ = 0.58 (95% interval: 0.5 or more):"),
    ],
)
def test_the_interval_of_a_length_has_two_ends(xi, ends, words):
    assert length_verdict(xi, ends, "", False, [0, 1]).startswith(words)
    figure = distance_curve([0, 1, 2], [0.2, -0.1], critical_length=xi, critical_interval=ends)
    assert any(text.get_text().replace("\n", " ").startswith(words) for text in figure.texts)
    assert bool(length_range(*ends)) == any(x.get_label() == "95% interval of ξ" for x in figure.axes[0].lines) or (
        xi > 3  # outside the picture
    )


def test_lengths_of_any_size():
    assert [short_length(x) for x in (999.4, 999.7, 12345.6, -0.001234)] == ["999", "1,000", "12,346", "−0.00123"]


def test_a_bin_of_one_pair_has_no_interval():
    figure = distance_curve([0, 1, 2], [0.2, 0.1], (np.array([0.2, 0.0]), np.array([0.2, 0.2])), [1, 30])
    hollow = [line for line in figure.axes[0].lines if line.get_label() == "mean of a bin, no interval"]
    assert [line.get_xdata().tolist() for line in hollow] == [[0.5]]


def test_the_vertical_title_of_a_curve_puts_no_zero_where_none_is():
    figure = distance_curve([0, 1, 2], [0.5, 0.4], (np.array([0.4, 0.3]), np.array([0.6, 0.5])))
    (title,) = (text.get_text() for text in figure.axes[0].texts if "hurts" in text.get_text())
    assert "0" not in title
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "mean of a bin, 95% interval (grey band)" in labels


def test_long_names_that_begin_alike_stay_apart():
    names = [f"a rather long class name, the {i} of twelve" for i in range(12)]
    for told in (names, [f"{name} of its kind" for name in names], [f"{i} {'x' * 40}" for i in range(12)]):
        figure = heatmap(np.eye(12), class_names=told)
        shown = [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "left"]
        assert len(set(shown)) == 12
        assert max(map(len, shown)) <= 20


def test_names_that_no_cut_tells_apart_have_their_place_behind_them():
    names = [f"{'a' * 30} {i} {'b' * 30}" for i in (5, 6)]
    assert shorten_all([*names, names[0], "c"], 12) == ["aaaaaa…bbb…2", "aaaaaa…bbb…1", "aaaaaa…bbb…2", "c"]


def test_layers_are_called_layers_and_told_apart():
    long = [f"encoder.blocks.{i}.attention.self.query.projection" for i in range(3)]
    figure = layer_curve(long, {"overall": [0.1, 0.2, 0.3]})
    assert "layer" in [text.get_text() for text in figure.texts]
    assert len({label.get_text() for label in figure.axes[0].get_yticklabels()}) == 3


def test_the_figure_of_a_result_with_one_example_of_each_class():
    block = {"train-val": {"cos": np.full((2, 2), 0.4)}}
    result = StiffnessResult(
        step=1, epoch=0, class_matrix=block, pair_counts={"train-val": np.ones((2, 2), int)},
        interval={"train-val": {"cos": {"within_class": (0.4, 0.4), "between_class": (0.4, 0.4)}}},
    )  # fmt: skip
    words = " ".join(text.get_text() for text in class_matrix_figure(result, "train-val").texts)
    assert "interval" not in words
    assert "one pair of examples" in words


def test_words_of_a_mean_without_an_interval():
    assert mean_words(-0.001) == "0.00"


def test_an_epoch_that_nobody_knows_is_not_told():
    table = {"val-val": {"cos": np.eye(2)}}
    for notes, at in (([], "epoch 0, step 9"), ([NO_EPOCH], "step 9")):
        figure = class_matrix_figure(StiffnessResult(step=9, epoch=0, class_matrix=table, notes=notes), "val-val")
        assert f"cosine stiffness, val → val · {at}" in [text.get_text() for text in figure.texts]


def test_the_words_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, lightning_stiffness.figures.intervals, lightning_stiffness.figures.moment\n"
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names_of_figures_are_there_on_first_use():
    for name in figures.__all__:
        assert getattr(figures, name) is not None
    assert dir(figures) == sorted(figures.__all__)
    with pytest.raises(AttributeError, match="no attribute 'heat'"):
        figures.heat  # noqa: B018
