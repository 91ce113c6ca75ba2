"""What a report says in words: digits that tell the ends of intervals apart, and no epoch that nobody knows."""

import json
import math
import re
from html import unescape

import pytest

from lightning_stiffness.figures.moment import NO_EPOCH
from lightning_stiffness.report import write_report
from lightning_stiffness.report.runs import Number, Run, standing
from lightning_stiffness.report.words import ranged, ranged_length
from lightning_stiffness.result import Length, StiffnessResult
from tests.plugin.synthetic import result


def plain(path):
    """The page as it is without scripts."""
    page = path.read_text("utf-8")
    return unescape(page[page.index('<main class="plain">') : page.index("</main>")])


def row(text, block, measure):
    """The cells of a row of its table."""
    found = re.search(rf"<tr><td>{block}</td><td>{measure}</td>(.*?)</tr>", text)
    return re.findall(r"<td>(.*?)</td>", found[1])


def unknown(step):
    """A result of a checkpoint that does not tell its epoch, as it is saved."""
    made = result(step, classes=3)
    made.notes.append(NO_EPOCH)
    return StiffnessResult(**{**vars(made), "epoch": 0})


def test_the_ends_of_an_interval_never_read_alike(tmp_path):
    one = result(9, classes=3)
    one.summary["train-val"]["cos"] |= {"within_class": -0.0871, "between_class": 0.2}
    one.interval["train-val"] = {"cos": {"within_class": (-0.0881, -0.0861), "between_class": (0.2, 0.2)}}
    one.critical_length["train-val"]["cos"] = Length(1.0002, -1, 1, 9, True, "", low=1.0001, high=1.0004)
    one.critical_length["val-val"]["cos"] = Length(math.nan, 0.1, 0.2, 9, False, "rises", low=0.5, high=math.inf)
    table = plain(write_report({"a": [one]}, tmp_path / "r.html"))
    assert row(table, "train-val", "cos") == [
        "−0.087 (−0.088 to −0.086)",
        "0.20",  # both ends are the same, as of resamples that had nothing to choose from
        "≈ 1.0002 (1.0001 to 1.0004)",
    ]
    assert row(table, "val-val", "cos")[-1] == "– (0.5 or more)"


@pytest.mark.parametrize("width", [0.3, 0.02, 0.004, 0.0003, 0.000011])
@pytest.mark.parametrize("least", [2, 3])
def test_a_mean_has_the_digits_of_its_interval(width, least):
    for middle in (-0.4567, 0.0, 0.123456):
        value, range_ = ranged(Number(middle, middle - width / 2, middle + width / 2), least)
        low, high = range_.split(" to ")
        assert low != high
        digits = {len(text.partition(".")[2]) for text in (value, low, high)}
        assert len(digits) == 1
        assert digits.pop() >= least


def test_what_there_is_not():
    assert ranged(Number()) == ("–", "")
    assert ranged(Number(0.5, math.nan, 0.6), 3) == ("0.500", "")
    assert ranged_length(Length(math.nan, 0.1, 0.2, 9, False, "it rises")) == ("–", "")
    assert ranged_length(Length(12_345.6, -1, 1, 9, False, "")) == ("12,346", "")


def test_an_epoch_that_nobody_knows_is_not_told(tmp_path):
    made = [unknown(200), unknown(1200)]
    path = write_report({"checkpoints": made, "run": [result(300, classes=3)]}, tmp_path / "r.html")
    text = plain(path)
    assert "<caption>step 1,200; in brackets" in text
    assert "<caption>step 300, epoch 3; in brackets" in text
    assert "epoch 0" not in text
    data = re.search(r'id="report">(.*?)</script>', path.read_text("utf-8"), flags=re.DOTALL)[1]
    assert [run["epochs"] for run in json.loads(data)["runs"]] == [[None, None], [3]]
    run = Run.of("checkpoints", made)
    at = standing(run, 1, "train-val", "cos")
    assert (at.epoch, at.peak_epoch, at.peak.step) == (None, None, 200)
    assert standing(Run.of("run", [result(300, classes=3)]), 0, "train-val", "cos").peak_epoch == 3
    assert [run.index(), run.index(step=500), run.index(epoch=5)] == [1, 0, -1]
