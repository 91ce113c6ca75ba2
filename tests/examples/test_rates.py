"""Learning rates compared: the table and the figure say which critical lengths are extrapolated."""

import importlib
import math
from types import ModuleType

import pytest

from lightning_stiffness import StiffnessResult
from lightning_stiffness.result import Length

from .conftest import EXAMPLES


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_rates")


def result(xi: float, *, extrapolated: bool = False, low: float = 1.5, high: float = 3.5) -> StiffnessResult:
    numbers = {"within_class": 0.61234, "between_class": -0.05}
    ends = {"within_class": (0.6121, 0.6124), "between_class": (-0.05, -0.05)}
    length = Length(xi, -0.1, 0.2, 99, extrapolated, "", low=low, high=high)
    return StiffnessResult(
        step=9, epoch=1, summary={"train-val": {"cos": numbers}}, interval={"train-val": {"cos": ends}},
        critical_length={"train-val": {"cos": length}},
    )  # fmt: skip


def test_extrapolated_lengths_have_a_star(rates: ModuleType) -> None:
    found = {1e-3: [result(2.5, extrapolated=True)], 1e-2: [result(2.25)], 1e-1: [result(math.nan)]}
    lines = rates.rates_table(found).splitlines()
    assert lines[2].endswith("2.5* [1.5, 3.5]")
    assert lines[3].endswith("2.25 [1.5, 3.5]")
    assert lines[4].endswith("–")
    assert lines[5] == "  * outside the distances that occur in the data, so extrapolated"
    _, axes = rates.rates_figure(found).axes
    assert [text.get_text() for text in axes.texts] == ["*", "no ξ"]
    assert axes.get_ylabel().endswith("* extrapolated")


def test_without_extrapolated_lengths_nothing_is_said_of_any(rates: ModuleType) -> None:
    found = {1e-3: [result(2.25)]}
    assert "*" not in rates.rates_table(found)
    assert "*" not in rates.rates_figure(found).axes[1].get_ylabel()


def test_means_lie_within_their_intervals_as_they_are_printed(rates: ModuleType) -> None:
    line = rates.rates_table({1e-3: [result(2.0, low=2.0, high=2.0)]}).splitlines()[2]
    assert line.split(maxsplit=1)[1].split("  ")[0] == "0.6123 [0.6121, 0.6124]"
    assert line.endswith(" 2")  # the ends are the same: there was nothing to resample
    assert " -0.05 " in line
