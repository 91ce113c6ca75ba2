"""Figures: what their artists hold, and that they leave matplotlib and pyplot alone."""

import math
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.testing import assert_allclose, assert_array_equal

from lightning_stiffness.figures import (
    THEMES,
    class_matrix_figure,
    distance_curve,
    distance_curve_figure,
    figure_to_rgb,
    heatmap,
    layer_curve,
)
from lightning_stiffness.figures.lettering import Lettering
from lightning_stiffness.figures.outlines import PLAIN, outline
from lightning_stiffness.figures.scales import round_numbers
from lightning_stiffness.figures.style import plain_style
from lightning_stiffness.result import Curve, Length, StiffnessResult

NAMES = ["cat", "dog", "car"]
MATRIX = np.array([[0.5, 0.2, -0.1], [0.2, 0.4, -0.15], [-0.1, -0.15, 0.9]])
EDGES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
MEAN = np.array([0.4, 0.2, math.nan, -0.2])
STDERR = np.array([0.1, 0.05, math.nan, 0.05])
COUNT = np.array([10, 40, 0, 20])


def texts(figure):
    """Every text of a figure, on one line each."""
    found = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text().replace("\n", " ").replace("\u00a0", " ") for text in found]


def values(figure) -> dict[tuple[int, int], str]:
    """What is printed in each cell (row, column)."""
    printed = [patch for patch in figure.axes[0].patches if isinstance(patch, Lettering)]
    return {
        (row, column): text
        for patch in printed
        for text, (column, row) in zip(patch.texts, patch.places.tolist(), strict=True)
    }


def bars(strip) -> list[tuple[float, float, float]]:
    """Left end, right end and height of each bar."""
    paths = [
        path.vertices
        for shape in strip.collections
        if isinstance(shape, PolyCollection)
        for path in shape.get_paths()
    ]
    return [(float(v[:, 0].min()), float(v[:, 0].max()), float(v[:, 1].max())) for v in paths]


def names_of(axis):
    """The texts beside the rows or below the columns of a heatmap; elsewhere the labels of the ticks."""
    kind = {"y": "left", "x": "bottom"}[axis.axis_name]
    return [text for text in axis.axes.texts if text.get_gid() == kind] or axis.get_ticklabels()


def tick_names(axis):
    return [name.get_text() for name in names_of(axis)]


def image_of(figure):
    return figure.axes[0].images[0]


def vertical_lines(figure):
    return [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and np.ptp(line.get_xdata()) == 0]


def make_result(**changes):
    curve = Curve(edges=EDGES, mean=MEAN, count=COUNT, stderr=STDERR)
    length = Length(value=0.6, slope=-0.75, intercept=0.45, pairs=70, extrapolated=False, reason="")
    values = {
        "step": 1200,
        "epoch": 3,
        "class_names": NAMES,
        "superclasses": [0, 0, 1],
        "class_matrix": {"train-val": {"cos": MATRIX, "sign": MATRIX.T / 2}},
        "pair_counts": {"train-val": np.array([[4, 6, 9], [6, 4, 9], [9, 9, 4]])},
        "curve": {"train-val": {"cos": curve}},
        "critical_length": {"train-val": {"cos": length}},
    }
    return StiffnessResult(**(values | changes))


class TestHeatmap:
    @pytest.mark.parametrize("scale", [0.01, 0.3, 1.0])
    def test_the_colours_always_run_from_minus_one_to_one(self, scale):
        image = image_of(heatmap(scale * MATRIX / 0.9))
        assert image.get_clim() == (-1, 1)
        assert_allclose(image.get_array(), scale * MATRIX / 0.9)

    @pytest.mark.parametrize("theme", THEMES)
    def test_colours_are_centred_on_zero_and_told_apart_by_colour_blind_readers(self, theme):
        colormap = THEMES[theme].colormap
        # Machado, Oliveira and Fernandes (2009): full protanopia, deuteranopia, tritanopia, on linear RGB.
        deficiencies = np.array(
            [
                [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
                [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
                [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
            ]
        )
        value = np.linspace(0.05, 1, 39)
        helps, hurts = (colormap((1 + sign * value) / 2)[:, :3] ** 2.2 for sign in (1, -1))
        for seen in [np.eye(3), *deficiencies]:
            difference = np.abs(
                (np.clip(helps @ seen.T, 0, 1) ** (1 / 2.2)) - np.clip(hurts @ seen.T, 0, 1) ** (1 / 2.2)
            )
            assert difference.max(axis=1).min() > 0.05
        zero = np.array(colormap(0.5)[:3])
        assert np.ptp(zero) < 0.02  # neither orange nor blue
        luminance = [side @ (0.2126, 0.7152, 0.0722) for side in (helps, hurts)]
        for side in luminance:  # the further from 0, the further from its colour
            steps = np.diff(side)
            assert (steps < 0).all() if theme == "light" else (steps > 0).all()

    def test_names_values_title_and_caption(self):
        figure = heatmap(MATRIX, class_names=NAMES, title="train-val, epoch 3, step 1200")
        axes = figure.axes[0]
        assert tick_names(axes.yaxis) == NAMES == tick_names(axes.xaxis)
        assert values(figure) == {
            **{(0, 0): "0.50", (0, 1): "0.20", (0, 2): "−0.10"},
            **{(1, 0): "0.20", (1, 1): "0.40", (1, 2): "−0.15"},
            **{(2, 0): "−0.10", (2, 1): "−0.15", (2, 2): "0.90"},
        }
        assert "train-val, epoch 3, step 1200" in texts(figure)
        assert {"step taken on", "effect on"} <= set(texts(figure))
        caption = "strongly helps its own class (mean 0.60) and hardly affects other classes (mean −0.02)."
        assert caption in " ".join(texts(figure))

    def test_rows_are_the_first_index(self):
        figure = heatmap([[0.1, 0.7], [-0.7, 0.2]])
        assert values(figure)[0, 1] == "0.70"
        assert values(figure)[1, 0] == "−0.70"
        bottom, top = figure.axes[0].get_ylim()
        assert bottom > top  # row 0 on top

    def test_each_value_stands_upright_inside_its_cell(self):
        for patch in heatmap(np.full((12, 12), -0.28)).axes[0].patches:
            whole = patch.get_path().get_extents()
            assert_allclose([whole.x0 + whole.x1, whole.y0 + whole.y1], [11, 11])
            assert -0.48 < whole.x0 < whole.x1 < 11.48
        one = Lettering(["−0.28"], [(5, 7)], 0.25, "black").get_path().get_extents()
        assert_allclose([one.x0 + one.x1, one.y0 + one.y1], [10, 14])
        assert 0.15 < one.height < 0.25
        seven = Lettering(["7"], [(0, 0)], 1, "black").get_path().vertices
        bar = seven[seven[:, 1] < 0]  # the bar of a 7 is on top, where an image's axis is less
        assert np.ptp(bar[:, 0]) > np.ptp(seven[seven[:, 1] > 0.3][:, 0])

    def test_the_colour_bar_speaks_words(self):
        names = [text.get_text() for text in heatmap(MATRIX).axes[1].texts]
        assert names[0] == "−1  hurts"
        assert names[-1] == "1  helps"
        assert "0  no effect" in names

    def test_missing_cells_are_masked_hatched_and_explained(self):
        matrix = MATRIX.copy()
        matrix[1] = math.nan
        figure = heatmap(matrix, class_names=NAMES)
        assert_array_equal(np.ma.getmaskarray(image_of(figure).get_array()), np.isnan(matrix))
        (hatched,) = (patch for patch in figure.axes[0].patches if patch.get_hatch())
        assert_allclose(hatched.get_path().get_extents().extents, [-0.5, 0.5, 2.5, 1.5])
        assert "no pair of examples to measure" in texts(figure)
        assert set(values(figure)) == {(row, column) for row in (0, 2) for column in range(3)}
        assert not any("nan" in text for text in texts(figure))

    def test_no_hatching_where_nothing_is_missing(self):
        figure = heatmap(MATRIX)
        assert not [patch for patch in figure.axes[0].patches if patch.get_hatch()]
        assert "no pair of examples to measure" not in texts(figure)

    @pytest.mark.parametrize(
        ("matrix", "caption"),
        [
            (np.full((3, 3), math.nan), "No pair of examples could be measured."),
            ([[0.3]], "A step on one example helps its own class (mean 0.30); there is no other class."),
            ([[math.nan]], "No pair of examples could be measured."),
            (
                [[math.nan, -0.3], [-0.3, math.nan]],
                "A step on one example hurts other classes (mean −0.30); no pair of the same class was measured.",
            ),
            (
                [[0.05, math.nan], [math.nan, 0.05]],
                "A step on one example slightly helps its own class (mean 0.05); no pair of different classes was "
                "measured.",
            ),
            (
                [[0.3, -0.3], [-0.3, 0.3]],
                "A step on one example helps its own class (mean 0.30) but hurts other classes (mean −0.30).",
            ),
        ],
    )
    def test_the_caption_says_what_is_seen(self, matrix, caption):
        figure = heatmap(matrix)
        assert caption in " ".join(texts(figure))
        assert figure_to_rgb(figure).std() > 0

    def test_groups_order_the_classes_and_are_outlined(self):
        figure = heatmap(MATRIX, class_names=NAMES, groups=[1, 0, 1])
        axes = figure.axes[0]
        assert tick_names(axes.yaxis) == ["dog", "cat", "car"]
        assert_allclose(image_of(figure).get_array(), MATRIX[np.ix_([1, 0, 2], [1, 0, 2])])
        (outlines,) = (made for made in axes.collections if isinstance(made, LineCollection))
        boxes = [(path.vertices.min(), path.vertices.max()) for path in outlines.get_paths()]
        assert boxes == [(-0.5, 0.5), (0.5, 2.5)]
        # Same group: cat-car, -0.1; different groups: 0.2 and -0.15, twice each.
        assert "in the same group (outlined) −0.10, in different groups 0.03" in " ".join(texts(figure))

    def test_an_order_of_ones_own(self):
        figure = heatmap(torch.from_numpy(MATRIX), class_names=NAMES, order=[2, 0, 1])
        assert tick_names(figure.axes[0].xaxis) == ["car", "cat", "dog"]
        assert_allclose(image_of(figure).get_array(), MATRIX[np.ix_([2, 0, 1], [2, 0, 1])])

    def test_pair_counts_enter_the_caption(self):
        assert "Each cell is a mean over 2 to 30 pairs of examples." in texts(
            heatmap(MATRIX, counts=[[2, 3, 30]] * 3)
        )
        assert "Each cell is a mean over 7 pairs of examples." in texts(heatmap(MATRIX, counts=np.full((3, 3), 7)))

    @pytest.mark.parametrize("size", [12, 13, 20, 45, 100, 300])
    def test_names_never_overlap(self, size):
        figure = heatmap(np.eye(size), class_names=[f"name of class {i}" for i in range(size)])
        assert bool(values(figure)) == (size <= 12)
        figure_to_rgb(figure)  # lays the labels out
        labels = names_of(figure.axes[0].yaxis)
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
        whole = figure.bbox
        for box in [*boxes, *(label.get_window_extent() for label in names_of(figure.axes[0].xaxis))]:
            assert box.x0 >= -1
            assert box.y0 >= 0
            assert box.x1 <= whole.x1
        assert labels[0].get_text() == "name of class 0"

    def test_a_hundred_classes_are_named_by_group(self):
        groups = [i % 20 for i in range(100)]
        names = [f"n{i}" for i in range(100)]
        figure = heatmap(np.eye(100), class_names=names, groups=groups)
        shown = tick_names(figure.axes[0].yaxis)
        assert shown == [f"n{group}, +4 more" for group in range(20)]
        assert_allclose([name.get_position()[1] for name in names_of(figure.axes[0].yaxis)], 5 * np.arange(20) + 2)
        named = heatmap(np.eye(100), groups=groups, group_names=[f"group {g}" for g in range(20)])
        assert tick_names(named.axes[0].xaxis)[:2] == ["group 0", "group 1"]

    def test_names_are_text_not_mathematics(self):
        names = ["$x^2", "a\nb", "a name that is far too long for an axis"]
        figure = heatmap(MATRIX, class_names=names, title="$\\frac{")
        assert tick_names(figure.axes[0].yaxis) == ["$x^2", "a b", "a name tha…r an axis"]
        assert figure_to_rgb(figure).ndim == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"matrix": np.zeros((2, 3))}, r"class matrix of shape \[c, c\] with c ≥ 1, got \[2, 3\]"),
            ({"matrix": np.zeros((0, 0))}, r"c ≥ 1, got \[0, 0\]"),
            ({"matrix": "abc"}, "an array of numbers, got str"),
            ({"matrix": [[3.0]]}, r"stiffness in \[-1, 1\], got values from 3 to 3"),
            ({"class_names": ["a"]}, "name the 3 classes of the matrix, got 1 names"),
            ({"groups": [0, 1]}, "one group for each of the 3 classes"),
            ({"order": [0, 0, 1]}, r"each class from 0 to 2 once, got \[0, 0, 1\]"),
            ({"counts": [1]}, r"counts of shape \[3, 3\], got \[1\]"),
            ({"measure": "dot"}, "measure to be one of 'cos', 'sign', got 'dot'"),
            ({"theme": "blue"}, "theme to be one of 'light', 'dark', got 'blue'"),
            ({"groups": [0, 0, 5], "group_names": ["a"]}, "name the groups 0 to 5, got 1 names"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            heatmap(**({"matrix": MATRIX} | arguments))


class TestDistanceCurve:
    def test_points_intervals_and_counts_without_the_empty_bin(self):
        figure = distance_curve(EDGES, MEAN, STDERR, COUNT)
        axes, strip = figure.axes
        (points,) = (line for line in axes.lines if line.get_marker() == "o")
        assert_allclose(points.get_xdata(), [0.125, 0.375, 0.875])
        assert_allclose(points.get_ydata(), [0.4, 0.2, -0.2])
        (intervals,) = (made for made in axes.collections if made.get_gid() == "intervals")
        ends = np.array([segment[:, 1] for segment in intervals.get_segments()])
        assert_allclose(ends.mean(axis=1), [0.4, 0.2, -0.2])
        assert_allclose(np.ptp(ends, axis=1) / 2, 1.959964 * np.array([0.1, 0.05, 0.05]), rtol=1e-6)
        assert bars(strip) == [(0.0, 0.25, 10), (0.25, 0.5, 40), (0.75, 1.0, 20)]
        assert strip.get_xlim() == axes.get_xlim()

    def test_given_interval_ends_are_drawn_as_given(self):
        figure = distance_curve(EDGES, MEAN, (MEAN - 0.1, MEAN + 0.3), COUNT)
        (intervals,) = (made for made in figure.axes[0].collections if made.get_gid() == "intervals")
        assert_allclose(intervals.get_segments()[0][:, 1], [0.3, 0.7])

    def test_a_bin_without_an_interval_is_hollow(self):
        figure = distance_curve(EDGES, MEAN, [math.nan, 0.1, math.nan, 0.1], COUNT)
        hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
        assert_allclose(hollow[0].get_xdata(), [0.125])
        assert len(hollow) == 1

    def test_the_line_and_where_it_crosses_zero(self):
        figure = distance_curve(EDGES, MEAN, STDERR, COUNT, line=(-0.75, 0.45), critical_length=0.6)
        assert "ξ = 0.6: examples nearer to each other than ξ improve together." in texts(figure)
        crossing = [line for line in vertical_lines(figure) if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in crossing] == [0.6]
        (fitted,) = (line for line in figure.axes[0].lines if line.get_label() == "line fitted to all pairs")
        x, y = fitted.get_xdata(), fitted.get_ydata()
        assert_allclose(y, 0.45 - 0.75 * np.asarray(x))
        labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert "ξ = 0.6" in labels

    def test_no_length_gives_the_reason(self):
        figure = distance_curve(
            EDGES, MEAN, STDERR, COUNT, line=(0.1, 0.2), critical_length=math.nan, reason="it rises"
        )
        assert "No ξ: it rises." in texts(figure)
        assert not [line for line in vertical_lines(figure) if line.get_linestyle() == "--"]

    @pytest.mark.parametrize(
        ("length", "words", "marked"),
        [
            (1.2, "ξ = 1.2 (extrapolated): beyond every pair measured; all improve together.", True),
            (40.0, "ξ = 40 (extrapolated): beyond every pair measured; all improve together.", False),
            (-0.2, "ξ = −0.2 (extrapolated): below every distance measured; none improve together.", True),
            (-7.0, "ξ = −7 (extrapolated): below every distance measured; none improve together.", False),
        ],
    )
    def test_an_extrapolated_length_is_flagged(self, length, words, marked):
        line = (-0.1, 0.1 * length)
        figure = distance_curve(EDGES, MEAN, STDERR, COUNT, line=line, critical_length=length, extrapolated=True)
        assert words in texts(figure)
        assert bool([line for line in vertical_lines(figure) if line.get_linestyle() == "--"]) == marked

    def test_zero_is_always_in_the_picture(self):
        for mean in (0.8, -0.8, 1e-4):
            low, high = distance_curve([0, 1], [mean], [0.001], [5]).axes[0].get_ylim()
            assert low < 0 < high
            assert low < mean < high

    def test_centres_serve_as_well_as_borders(self):
        by_borders = distance_curve(EDGES, MEAN, STDERR, COUNT)
        by_centres = distance_curve((EDGES[1:] + EDGES[:-1]) / 2, MEAN, STDERR, COUNT)
        assert_allclose(bars(by_borders.axes[1]), bars(by_centres.axes[1]))

    def test_nothing_measured(self):
        figure = distance_curve(
            EDGES, [math.nan] * 4, [math.nan] * 4, [0] * 4, critical_length=math.nan, reason="no pair"
        )
        assert "No ξ: no pair." in texts(figure)
        assert figure_to_rgb(figure).std() > 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mean": []}, r"mean of shape \[b\] with b ≥ 1, got \[0\]"),
            ({"mean": [0.1, 0.2]}, r"3 bin borders or 2 bin centres for 2 means, got \[5\]"),
            ({"edges": [0, 1, 1, 2, 3]}, "bins of increasing distance"),
            ({"error": [0.1]}, r"error of shape \[4\], got \[1\]"),
            ({"error": ([0.1], [0.2])}, r"low of shape \[4\], got \[1\]"),
            ({"count": [1, 2]}, r"count of shape \[4\], got \[2\]"),
            ({"measure": "dot"}, "measure to be one of 'cos', 'sign'"),
            ({"theme": ""}, "theme to be one of 'light', 'dark', got ''"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, arguments, message):
        values = {"edges": EDGES, "mean": MEAN, "error": STDERR, "count": COUNT} | arguments
        with pytest.raises(ValueError, match=message):
            distance_curve(**values)


class TestResults:
    def test_the_matrix_of_a_result(self):
        figure = class_matrix_figure(make_result(), "train-val", "sign")
        assert_allclose(image_of(figure).get_array(), MATRIX.T / 2)
        found = texts(figure)
        assert "sign stiffness, train → val · epoch 3, step 1200" in found
        assert {"step taken on (train examples)", "effect on (val examples)"} <= set(found)
        assert "Each cell is a mean over 4 to 9 pairs of examples." in found
        assert tick_names(figure.axes[0].yaxis) == NAMES

    def test_the_curve_of_a_result(self):
        figure = distance_curve_figure(
            make_result(settings={"distance": "cosine", "distance_layer": None}), "train-val"
        )
        found = texts(figure)
        assert "cosine stiffness, train → val · epoch 3, step 1200" in found
        assert "ξ = 0.6: examples nearer to each other than ξ improve together." in found
        assert "cosine distance between the two inputs (pairs of the same class)" in texts(figure)

    def test_the_curve_says_between_what_the_distance_is(self):
        settings = {"distance": "euclidean", "distance_layer": "body.3"}
        figure = distance_curve_figure(make_result(settings=settings, class_names=None), "train-val")
        label = "euclidean distance between the outputs of body.3 (pairs of any two examples)"
        assert label in texts(figure)

    @pytest.mark.parametrize("make", [class_matrix_figure, distance_curve_figure])
    def test_a_block_or_measure_that_is_not_there(self, make):
        with pytest.raises(ValueError, match=r"\(train-val/cos.*\), got val-val/cos"):
            make(make_result(), "val-val")
        with pytest.raises(ValueError, match="got train-val/dot"):
            make(make_result(), "train-val", "dot")
        with pytest.raises(ValueError, match="it holds none"):
            make(StiffnessResult(step=0, epoch=0), "val-val")


class TestMatplotlib:
    @pytest.mark.parametrize("theme", THEMES)
    def test_pixels(self, theme):
        figure = heatmap(MATRIX, theme=theme)
        rgb = figure_to_rgb(figure)
        width, height = figure.get_size_inches() * figure.dpi
        assert rgb.dtype == np.uint8
        assert rgb.shape == (int(height), int(width), 3)
        corner = tuple(int(THEMES[theme].background[i : i + 2], 16) for i in (1, 3, 5))
        assert tuple(rgb[0, 0]) == corner

    @pytest.mark.parametrize(
        "names", [["cat", "ελιά", "naïve"], ["猫", "שלום", "a\u0301b"], ["$x$", "a_b", "50 %"]]
    )
    def test_letters_are_those_of_agg(self, names):
        """Outlines laid out once differ from Agg's own letters by the shades of their edges alone."""
        rgb = figure_to_rgb(heatmap(MATRIX[:3, :3], class_names=names)).astype(float)
        figure = heatmap(MATRIX[:3, :3], class_names=names)
        with plain_style():
            FigureCanvasAgg(figure).draw()
        plain = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(float)
        assert rgb.shape == plain.shape
        # No letter is missing, more, or elsewhere: squares of 24 pixels hold as much ink. Older versions of Agg put
        # texts on whole pixels, which moves some.
        height, width = (side // 24 * 24 for side in rgb.shape[:2])
        ink = (rgb - plain).mean(2)[:height, :width].reshape(height // 24, 24, -1, 24).mean((1, 3))
        assert np.abs(ink).max() < 8

    @pytest.mark.parametrize(
        "text",
        [
            *(f"{sign}{k / 100:.2f}" for k in (0, 17, 41, 100) for sign in ("", "−")),
            "epoch 3, step 1,407: cosine stiffness",
            "within 0.72 [0.70, 0.75], between −0.07 (2.5% of 12,250 pairs)",
            "VA4Ty1 ξ=2",
            "  7 ",
        ],
    )
    def test_outlines_in_pieces_are_those_of_the_whole_text(self, text):
        whole = TextPath((0, 0), text, size=1, prop=FontProperties(family=list(PLAIN[0])))
        found = outline(text)
        assert_array_equal(found.codes, whole.codes)
        assert_allclose(found.vertices, whole.vertices, atol=1e-9)

    def test_a_figure_drawn_before_is_saved_at_another_size(self, tmp_path):
        figure = heatmap(MATRIX)
        small = figure_to_rgb(figure)
        figure.savefig(tmp_path / "large.png", dpi=2 * figure.dpi)
        large = mpl.image.imread(tmp_path / "large.png")
        assert large.shape[:2] == pytest.approx([2 * side for side in small.shape[:2]], abs=2)
        assert_array_equal(figure_to_rgb(figure), small)

    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [
            (-0.021, 0.012, ["−0.02", "−0.015", "−0.01", "−0.005", "0", "0.005", "0.01"]),
            (0, 26_400, ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
            (0.45, 0.65, ["0.45", "0.475", "0.5", "0.525", "0.55", "0.575", "0.6", "0.625", "0.65"]),
            (3.0, 3.00004, ["3", "3.000005", "3.00001", "3.000015", "3.00002", "3.000025", "3.00003", "3.000035"]),
        ],
    )
    def test_round_numbers(self, low, high, words):
        found = round_numbers(low, high, 8)
        assert list(found.values())[: len(words)] == words
        assert all(low - 1e-6 <= value <= high + 1e-6 for value in found)
        assert [float(word.replace("−", "-").replace(",", "")) for word in found.values()] == list(found)

    def test_the_users_own_style_neither_leaks_in_nor_is_changed(self):
        plain = figure_to_rgb(heatmap(MATRIX))
        with mpl.rc_context({"text.usetex": True, "axes.grid": True, "font.weight": "bold", "hatch.linewidth": 4}):
            before = dict(mpl.rcParams)
            styled = figure_to_rgb(heatmap(MATRIX))
            assert dict(mpl.rcParams) == before
        assert_array_equal(plain, styled)

    def test_no_pyplot_and_no_figure_left_open(self):
        code = (
            "import sys, numpy as np\n"
            "from lightning_stiffness.figures import heatmap, distance_curve, figure_to_rgb\n"
            "for _ in range(3):\n"
            "    figure_to_rgb(heatmap(np.eye(3)))\n"
            "    figure_to_rgb(distance_curve([0, 1], [0.5], [0.1], [3], critical_length=0.5))\n"
            "assert 'matplotlib' in sys.modules\n"
            "print('matplotlib.pyplot' in sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


class TestIntervals:
    def result(self, **changes):
        low, high = MEAN - 0.1, MEAN + 0.05
        curve = Curve(EDGES, MEAN, COUNT, STDERR, low, high)
        length = Length(0.6, -0.75, 0.45, 70, False, "", low=0.5, high=0.8)
        interval = {"within_class": (0.55, 0.66), "between_class": (-0.05, 0.01)}
        interval |= {"within_superclass": (0.1, 0.3), "between_superclass": (-0.1304, -0.1196)}
        values = {
            "curve": {"train-val": {"cos": curve}},
            "critical_length": {"train-val": {"cos": length}},
            "interval": {"train-val": {"cos": interval}},
            "superclass_p_value": {"train-val": {"cos": [0.0125]}},
            "superclass_names": [["animal", "thing"]],
        }
        return make_result(**(values | changes))

    def test_the_band_and_the_bars_end_where_the_intervals_end(self):
        axes = distance_curve_figure(self.result(), "train-val", "cos").axes[0]
        bars = next(c for c in axes.collections if c.get_gid() == "intervals")
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        assert_allclose(ends, [[m - 0.1, m + 0.05] for m in MEAN if not math.isnan(m)])
        band = next(c for c in axes.collections if isinstance(c, PolyCollection))
        corners = np.concatenate([path.vertices for path in band.get_paths()])
        for center, mean in zip((0.125, 0.375), MEAN[:2], strict=True):
            at = corners[np.isclose(corners[:, 0], center), 1]
            assert_allclose([at.min(), at.max()], [mean - 0.1, mean + 0.05])
        assert not np.isclose(corners[:, 0], 0.625).any()  # the empty bin

    def test_the_interval_of_the_length_in_words_and_on_the_axis(self):
        figure = distance_curve_figure(self.result(), "train-val", "cos")
        assert "ξ = 0.6 (95% interval: 0.5 to 0.8): examples nearer to each other than ξ" in " ".join(texts(figure))
        line = next(x for x in figure.axes[0].lines if x.get_label() == "95% interval of ξ")
        assert list(line.get_xdata()) == [0.5, 0.8]
        caps = next(x for x in figure.axes[0].lines if x.get_marker() == "|")
        assert list(caps.get_xdata()) == [0.5, 0.8]

    @pytest.mark.parametrize(
        ("low", "high", "words", "caps"),
        [
            (0.5, math.inf, "0.5 or more", [0.5]),
            (-math.inf, 0.8, "0.8 or less", [0.8]),
            (-math.inf, math.inf, "any length", []),
            (-3.0, 7.0, "−3 to 7", []),
        ],
    )
    def test_open_ends(self, low, high, words, caps):
        length = Length(0.6, -0.75, 0.45, 70, False, "", low=low, high=high)
        figure = distance_curve_figure(
            self.result(critical_length={"train-val": {"cos": length}}), "train-val", "cos"
        )
        assert f"(95% interval: {words})" in " ".join(texts(figure))
        marks = next(x for x in figure.axes[0].lines if x.get_marker() == "|")
        assert list(marks.get_xdata()) == caps
        assert np.isfinite(figure_to_rgb(figure)).all()

    def test_without_an_interval_nothing_is_said_of_one(self):
        figure = distance_curve_figure(make_result(), "train-val", "cos")
        assert "95% interval:" not in " ".join(texts(figure))
        assert not [x for x in figure.axes[0].lines if x.get_label() == "95% interval of ξ"]
        assert "In brackets" not in " ".join(texts(class_matrix_figure(make_result(), "train-val", "cos")))

    def test_the_caption_of_the_matrix(self):
        caption = " ".join(texts(class_matrix_figure(self.result(), "train-val", "cos")))
        assert "(mean 0.60 [0.55, 0.66])" in caption
        assert "other classes (mean −0.02 [−0.05, 0.01])" in caption
        assert "(outlined) 0.20 [0.10, 0.30]" in caption
        assert "different groups −0.125 [−0.130, −0.120] (chance alone: p = 0.013)" in caption
        assert "In brackets: 95% intervals, over the choice of examples." in caption


class TestOrder:
    def test_by_name_or_as_given(self):
        C = np.eye(4)
        C[0, 2] = C[2, 0] = C[1, 3] = C[3, 1] = 0.5
        names, groups = list("abcd"), [1, 0, 0, 1]
        shown = lambda **options: tick_names(heatmap(C, class_names=names, **options).axes[0].yaxis)  # noqa: E731
        assert shown() == names
        assert shown(groups=groups) == list("bcad") == shown(groups=groups, order="group")
        assert shown(groups=groups, order="given") == names
        assert sorted((shown(order="cluster")[:2], shown(order="cluster")[2:]), key=min) in (
            [[*x], [*y]] for x in ("ac", "ca") for y in ("bd", "db")
        )
        with pytest.raises(ValueError, match="order='group' needs superclasses="):
            heatmap(C, order="group")

    def test_two_levels_keep_the_coarse_groups_together(self):
        result = StiffnessResult(
            step=1,
            epoch=0,
            class_names=list("abcd"),
            superclasses=[0, 1, 2, 3],
            further_superclasses=[[0, 1, 0, 1]],
            class_matrix={"val-val": {"cos": np.eye(4)}},
        )
        assert tick_names(class_matrix_figure(result, "val-val").axes[0].yaxis) == list("acbd")
        assert tick_names(class_matrix_figure(result, "val-val", order="given").axes[0].yaxis) == list("abcd")


class TestLayerCurve:
    NUMBERS = {"within_class": [0.2, math.nan, 0.6], "between_class": [0.0, -0.1, 0.1]}  # noqa: RUF012

    def test_each_layer_has_its_marks_and_the_whole_network_its_lines(self):
        figure = layer_curve(NAMES, self.NUMBERS, whole={"within_class": 0.4, "overall": 0.9}, title="epoch 3")
        (axes,) = figure.axes
        assert tick_names(axes.yaxis) == NAMES
        within, between = (line for line in axes.lines if line.get_marker() in ("o", "s"))
        assert_array_equal(within.get_xdata(), [0.2, math.nan, 0.6])
        assert_array_equal(between.get_xdata(), [0.0, -0.1, 0.1])
        low, high = axes.get_xlim()
        assert low < -0.1 < 0.6 < high < 0.9
        labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert labels == ["within a class", "the whole network: 0.40", "between classes"]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first layer on top
        assert {"In which layers do examples agree?", "epoch 3"} <= set(texts(figure))
        assert figure_to_rgb(figure).std() > 0

    def test_without_classes_it_shows_all_pairs(self):
        figure = layer_curve(["a"], {"overall": [0.3]}, theme="dark")
        assert [line.get_label() for line in figure.axes[0].lines if line.get_marker() == "o"] == ["all pairs"]

    @pytest.mark.parametrize("layers", [1, 30, 200])
    def test_names_never_overlap(self, layers):
        figure = layer_curve([f"encoder.layer.{i}.output" for i in range(layers)], {"overall": [0.1] * layers})
        figure_to_rgb(figure)
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        assert all(lower.y1 <= upper.y0 + 1 for upper, lower in pairwise(boxes))
        assert all(box.x0 >= 0 for box in boxes)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"layers": [], "numbers": {"overall": []}}, "at least one layer"),
            ({"layers": ["a"], "numbers": {"overall": [0.1, 0.2]}}, r"overall of shape \[1\], got \[2\]"),
            ({"layers": ["a"], "numbers": {"overall": [0.1]}, "measure": "dot"}, "got 'dot'"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            layer_curve(**arguments)
