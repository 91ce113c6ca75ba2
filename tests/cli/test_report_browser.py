"""The report in a real browser, from the disk: it does what the tab does, asks nothing, and stays silent."""

import re

import numpy as np
import pytest

from lightning_stiffness import StiffnessHistory
from lightning_stiffness.report import write_report
from tests.plugin.browser import browser_or_reason, browsing
from tests.plugin.synthetic import result, write_run
from tests.plugin.test_browser import PIXEL, colour, go, point, text

REASON = browser_or_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

HOSTILE = ["</script><script>window.broken = 1</script>", "<img src=x onerror='window.broken = 1'>", '"&<!--']

LOADED = "() => document.querySelector('.panel') && !document.querySelector('.status').textContent"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    names = {"lr=1e-3": 0.9, "lr=1e-2": 0.05, "lr=1e-4": 0.6}
    return {name: StiffnessHistory.load(write_run(folder / name, 5, fade=fade)) for name, fade in names.items()}


@pytest.fixture(scope="module")
def browser():
    with browsing() as started:
        yield started


@pytest.fixture
def open_report(browser, tmp_path):
    """Opens a report on runs; at the end no console may have told of anything, and nothing been asked for. That the
    tests read pixels is told too, and no fault of the page."""
    opened, said, asked = [], [], []

    def start(runs, **options):
        path = write_report(runs, tmp_path / "report.html")
        page = browser.new_page(viewport={"width": 1300, "height": 1000}, **options)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text) if "readback" not in message.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        opened.append((page, path.as_uri()))
        page.wait_for_function(LOADED)
        return page

    yield start
    addresses = [address for _, address in opened]
    for page, _ in opened:
        page.close()
    assert said == []
    assert asked == addresses


def read(page):
    """The number in the line below the matrix."""
    found = re.search(r": (−?\d\.\d{3}) ", page.locator(".readout").first.inner_text())
    return float(found[1].replace("−", "-"))


def test_one_run(open_report, runs):
    history = runs["lr=1e-3"]
    page = open_report({"lr=1e-3": history})
    unseen = text(history[-1].summary["train-val"]["cos"]["within_class"], 2)
    page.locator(".headline", has_text=f"strongly helps unseen examples of its class ({unseen})").wait_for()
    canvas = point(page, 3, 4)
    for index in (4, 2, 0):
        go(page, index)
        known = history[index].class_matrix["train-val"]["cos"]
        assert abs(read(page) - known[3, 4]) <= 0.0005 + 2e-5
        assert np.abs(np.array(canvas.evaluate(PIXEL)[:3]) - colour(known[3, 4])).max() <= 3
        assert page.locator(".tooltip").is_visible()
    page.get_by_role("radio", name=re.compile("unseen → unseen")).check()
    page.get_by_role("radio", name=re.compile("whether at all")).check()
    page.locator(".chart text", has_text="mean sign stiffness").wait_for()
    point(page, 3, 4)
    assert abs(read(page) - history[0].class_matrix["val-val"]["sign"][3, 4]) <= 0.0005 + 2e-5
    page.get_by_label("Order of classes").select_option("clustered")
    canvas.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=re.compile(" → .* over training")).wait_for()
    # What belongs to a server is not offered.
    assert page.get_by_role("button", name="Refresh").count() == 0
    page.get_by_role("button", name="Play").click()
    page.locator(".player output", has_text="5 of 5").wait_for()


def test_three_runs_side_by_side(open_report, runs):
    page = open_report(runs)
    page.locator(".panel").nth(2).wait_for()
    assert page.locator(".panel h3 .name").all_inner_texts() == list(runs)
    rows = page.locator(".verdict tbody tr").all_inner_texts()
    for row, history in zip(rows, runs.values(), strict=True):
        assert text(history[-1].summary["train-val"]["cos"]["within_class"], 2) in row
    page.get_by_text(
        "A step on one training example helps unseen examples of the same class most in lr=1e-3"
    ).wait_for()
    point(page, 2, 2, panel=1)
    assert page.locator(".tooltip div").count() == 3
    page.get_by_role("checkbox", name=re.compile("lr=1e-2")).uncheck()
    page.wait_for_function("() => document.querySelectorAll('.panel').length === 2")


def test_layers(open_report):
    results = [result(step, classes=4, layers=6) for step in (0, 100, 200)]
    results[1].layer_names[:] = results[0].layer_names[:] = results[2].layer_names[:] = [*"abcde", HOSTILE[1]]
    page = open_report({"deep": results, "plain": [result(0)]})
    assert page.locator(".layers").count() == 1
    for index in (2, 0, 1):
        go(page, index)
        page.locator(".layers .layer").nth(5).hover()
        value = results[index].layer_summary["train-val"]["cos"]["between_class"][5]
        page.locator(".layers .readout", has_text=f"{HOSTILE[1]}: same class ").wait_for()
        found = re.search(r"other classes (−?\d\.\d{3})", page.locator(".layers .readout").inner_text())
        assert abs(float(found[1].replace("−", "-")) - value) <= 0.0005 + 2e-5
        assert HOSTILE[1] in page.locator(".tooltip").inner_text()
    assert page.evaluate("window.broken") is None


def test_names_are_text(open_report):
    one = result(0, classes=3)
    one.class_names[:] = HOSTILE
    one.class_matrix["train-val"]["cos"][1, 2] = np.nan
    one.notes.append(HOSTILE[0])
    page = open_report({HOSTILE[1]: [one]})
    point(page, 0, 1, size=3)
    page.locator(".readout", has_text=f"{HOSTILE[0]} → {HOSTILE[1]}").wait_for()
    point(page, 1, 2, size=3)
    page.locator(".readout", has_text="no pair of examples to measure").wait_for()
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_hundred_classes_light_and_dark(open_report, scheme):
    results = [result(step, classes=100, groups=20, progress=step / 200) for step in (0, 100, 200)]
    page = open_report({"hundred": results}, color_scheme=scheme)
    canvas = point(page, 97, 96, size=100)
    value = results[-1].class_matrix["train-val"]["cos"][97, 96]
    assert abs(read(page) - value) <= 0.0005 + 2e-5
    assert np.abs(np.array(canvas.evaluate(PIXEL)[:3]) - colour(value, scheme)).max() <= 3


def test_without_scripts(browser, runs, tmp_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_report(runs, tmp_path / "report.html").as_uri())
    assert page.get_by_role("heading", level=2).all_inner_texts() == list(runs)
    assert page.get_by_role("table").count() == 3
    context.close()


def test_a_browser_that_cannot_unpack(browser, runs, tmp_path):
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(write_report(runs, tmp_path / "report.html").as_uri())
    page.get_by_text("This browser is from before 2023").wait_for()
    assert page.get_by_role("table").count() == 3
    page.close()
