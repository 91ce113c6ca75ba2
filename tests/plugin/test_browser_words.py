"""The tab's numbers: nothing unmeasured as if it were, no mean outside its interval, like beside like."""

import math
import re

import numpy as np
import pytest

from lightning_stiffness.figures.moment import NO_EPOCH
from lightning_stiffness.result import Length, StiffnessResult
from tests.plugin.browser import browser_or_reason, choose, go
from tests.plugin.synthetic import result, write_run

REASON = browser_or_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

FINE = {"within_class": (-0.0881, -0.0861), "between_class": (0.2, 0.2)}


def only(made, *blocks):
    """A result with these blocks only."""
    for table in (made.summary, made.class_matrix, made.pair_counts, made.curve, made.critical_length):
        for block in set(table) - set(blocks):
            del table[block]
    return made


def saved(folder, made):
    made.save(folder / "stiffness" / f"step_{made.step:08d}.npz")


def without_classes(value, **changes):
    """A result of any two examples."""
    blocks = {block: {"cos": {"overall": value}} for block in ("train-train", "train-val")}
    return StiffnessResult(6, 1, summary=blocks, **changes)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_run(folder / "whole", 2, classes=4)
    write_run(folder / "other", 2, classes=4, fade=0.9)
    only_train = only(result(6, classes=4, layers=3), "train-train")
    only_train.critical_length["train-train"]["cos"] = Length(1.64, -0.5, 0.82, 99, False, "")
    saved(folder / "only train", only_train)
    none = result(6, classes=4)
    none.critical_length["train-val"]["cos"] = Length(math.nan, 0.1, 0.2, 99, False, "it rises")
    saved(folder / "no length", none)
    fine = result(6, classes=4)
    fine.summary["train-val"]["cos"] |= {"within_class": -0.0871, "between_class": 0.2}
    fine.interval["train-val"] = {"cos": FINE}
    fine.critical_length["train-val"]["cos"] = Length(1.0002, -0.5, 0.5, 99, False, "", low=1.0001, high=1.0004)
    fine.pair_counts["train-val"][:] = 1
    fine.class_interval["train-val"] = {"cos": np.stack([fine.class_matrix["train-val"]["cos"]] * 2)}
    saved(folder / "fine", fine)
    for name, value in (("any 1", 0.9), ("any 2", 0.8)):
        saved(folder / name, without_classes(value))
    signs = result(6, classes=4)
    for table in (signs.summary, signs.class_matrix, signs.curve, signs.critical_length):
        for measures in table.values():
            del measures["cos"]
    saved(folder / "signs", signs)
    saved(folder / "checkpoint", without_classes(0.9, notes=[NO_EPOCH]))
    return folder


def facts(page):
    return dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))


REACH = "reach ξ to unseen examples (a distance)"


def test_a_reach_that_was_not_measured_is_not_none(open_page):
    page = open_page()
    choose(page, "only train")
    page.locator(".panel .says", has_text="ξ = 1.64").wait_for()
    assert facts(page)[REACH] == "–"
    assert facts(page)["unseen examples, same class"] == "–"
    choose(page, "no length")
    page.locator(".panel .says", has_text="No ξ: it rises.").wait_for()
    assert facts(page)[REACH] == "none"


def test_a_mean_has_the_digits_of_its_interval(open_page):
    page = open_page()
    choose(page, "fine")
    page.locator(".panel .says", has_text="ξ = 1.0002 (95%: 1.0001 to 1.0004)").wait_for()
    found = facts(page)
    assert found["unseen examples, same class"].split("\n") == ["−0.087", "95%: −0.088 to −0.086"]
    assert found["unseen examples, other classes"] == "0.20"  # both ends are the same
    assert found[REACH].split("\n") == ["1.0002", "95%: 1.0001 to 1.0004"]
    page.get_by_text("All numbers of this step").click()
    row = page.locator(".numbers tr", has_text="same class, train-val, cos").first
    assert "−0.087 (95%: −0.088 to −0.086)" in row.inner_text()
    page.locator("canvas.cells").focus()
    page.keyboard.press("ArrowDown")
    readout = page.locator(".readout", has_text="1 pair of examples").inner_text()
    assert "interval" not in readout


def test_digits_of_intervals(open_page):
    page = open_page()
    told = page.evaluate(
        """async (cases) => {
             const { ranged } = await import(new URL("static/words.js", document.baseURI));
             return cases.map((given) => Object.values(ranged(...given)));
           }""",
        [[0.5, 0.4, 0.6, 2], [-0.04, -0.0421, -0.0389, 2], [0.001, 0.0004, 0.0016, 3], [0.7, 0.7, 0.7, 2]],
    )
    assert told == [
        ["0.50", "0.40 to 0.60"],
        ["−0.040", "−0.042 to −0.039"],
        ["0.0010", "0.0004 to 0.0016"],
        ["0.70", ""],
    ]


def test_runs_without_classes_are_marked_and_compared_among_themselves(open_page):
    page = open_page()
    choose(page, "whole", "any 1")
    page.locator(".verdict thead", has_text="unseen examples, same class").wait_for()
    row = page.locator(".verdict tbody tr", has_text="any 1").inner_text()
    assert row.count("any two") == 2
    assert "any two" not in page.locator(".verdict tbody tr", has_text="whole").inner_text()
    assert "most in" not in page.locator(".verdict").inner_text()
    page.locator(".means .says", has_text="Dotted: a run without classes").wait_for()
    choose(page, "whole", "other", "any 1", "any 2")
    words = page.locator(".verdict .detail", has_text="most in").inner_text()
    same, anything = words.split(". ")
    numbers = r"\(\d: 0\.\d\d\)"
    assert same.startswith("A step on one training example helps unseen examples of the same class most in other (")
    assert re.fullmatch(rf".* most in other {numbers} and least in whole {numbers}", same)
    assert re.fullmatch(
        r".* helps unseen examples most in any 1 \(\d: 0\.90\) and least in any 2 \(.*\)\.", anything
    )
    choose(page, "any 1", "any 2")
    assert "any two" not in page.locator(".verdict tbody").inner_text()
    choose(page, "whole", "signs")
    go(page, 2)
    assert page.locator(".verdict tbody tr", has_text="signs").inner_text().count("sign\n") >= 2
    assert "most in" not in page.locator(".verdict").inner_text()


def test_a_block_that_a_run_lacks(open_page):
    page = open_page()
    choose(page, "whole", "only train")
    page.locator("input[name=block][value=train-val]").check()
    panel = page.locator(".panel", has=page.locator(".name", has_text="only train"))
    panel.locator(".empty", has_text="This block was not measured in this run.").wait_for()
    panel.locator("p.says", has_text="This block was not measured in this run.").wait_for()
    assert panel.locator("canvas.cells").is_hidden()
    assert panel.locator("svg").count() == 0
    assert panel.locator(".layers").is_hidden()
    assert "Point at" not in panel.inner_text()
    assert "No distances" not in panel.inner_text()
    page.locator("canvas.cells").first.focus()
    page.keyboard.press("ArrowDown")
    page.locator(".tooltip", has_text="airplane").wait_for()
    assert "no pair of examples" not in page.locator(".tooltip").inner_text()
    page.locator("input[name=block][value=train-train]").check()
    panel.locator("canvas.cells").wait_for()
    panel.locator(".readout", has_text="Point at a cell").wait_for()
    choose(page, "whole", "signs")
    page.locator("input[name=measure][value=cos]").check()
    page.locator(".panel .empty", has_text="This measure was not taken in this run.").wait_for()


def test_a_run_with_one_step_has_one_step_on_its_axis(open_page):
    page = open_page()
    choose(page, "no length")
    axis = page.locator(".means svg text.tick[text-anchor=middle]")
    axis.first.wait_for()
    assert axis.all_text_contents() == ["6"]


def test_an_epoch_that_nobody_knows_is_not_told(open_page):
    page = open_page()
    choose(page, "checkpoint")
    page.locator(".player output", has_text="1 of 1").wait_for()
    assert page.locator(".player output").inner_text() == "step 6 · 1 of 1"
    choose(page, "any 1", "checkpoint")
    rows = page.locator(".verdict tbody tr")
    assert rows.filter(has_text="checkpoint").locator("td").first.inner_text() == "step 6"
    assert rows.filter(has_text="any 1").locator("td").first.inner_text() == "step 6, epoch 1"


def test_long_names_of_classes_stay_apart(open_page):
    page = open_page()
    short = page.evaluate(
        """async (names) => {
             const { shortNames } = await import(new URL("static/matrix.js", document.baseURI));
             return shortNames({ measureText: (text) => ({ width: 7 * text.length }) }, names);
           }""",
        [*(f"a rather long class name {i}" for i in range(12)), "short"],
    )
    assert short[1] == "a rath…name 1"
    assert short[-1] == "short"
    assert len(set(short)) == 13
