"""The tab in a real TensorBoard and browser: what is shown is what was saved, and the console stays silent."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lightning_stiffness.figures.style import THEMES
from lightning_stiffness.plugin.routes import StiffnessPlugin
from lightning_stiffness.result import StiffnessResult
from tests.plugin.browser import browser_or_reason, choose, go, tensorboard, text
from tests.plugin.synthetic import NAMES, result, write_run

REASON = browser_or_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

STEPS = [0, 100, 200, 300, 400]
HOSTILE = ["<b>bold</b>", "<img src=x onerror=alert(1)>", "c" * 80]

# The colour of a cell in the middle of its left half, where no number is printed.
PIXEL = """(canvas) => {
  const box = canvas.parentElement.querySelector(".box.hover");
  const pitch = parseFloat(box.style.width);
  const x = parseFloat(box.style.left) + 0.06 * pitch;
  const y = parseFloat(box.style.top) + 0.1 * pitch;
  const ratio = canvas.width / canvas.getBoundingClientRect().width;
  return [...canvas.getContext("2d").getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data];
}"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_run(folder / "lr=1e-3", len(STEPS), fade=0.9)
    write_run(folder / "lr=1e-2", len(STEPS), fade=0.05)
    write_run(folder / "layers", len(STEPS), classes=4, layers=60)
    write_run(folder / "groups", 2, classes=20, groups=4)
    for i in range(9):
        write_run(folder / "many" / f"run {i}", 1, classes=3, seed=i)
    odd = result(0, classes=3)
    odd.class_names[:] = HOSTILE
    odd.class_matrix["train-val"]["cos"][1, 2] = np.nan
    odd.save(folder / "odd" / "stiffness" / "step_00000000.npz")
    StiffnessResult(7, 1, summary={"train-train": {"cos": {"overall": 0.4}}}).save(
        folder / "plain" / "stiffness" / "step_00000007.npz"
    )
    return folder


def saved(logs, run, step):
    return StiffnessResult.load(logs / run / "stiffness" / f"step_{step:08d}.npz")


def point(page, i, j, panel=0, size=10):
    """Move the pointer onto the cell in row i and column j, finding the first column as a person would."""
    canvas = page.locator("canvas.cells").nth(panel)
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()

    def in_a_cell(x):
        page.mouse.move(place["x"] + x, place["y"] + 12)
        return page.locator(".tooltip").is_visible()

    near = next(x for x in range(10, int(place["width"]), 10) if in_a_cell(x))
    left = next(x for x in range(near - 10, near + 1, 2) if in_a_cell(x))
    pitch = (place["width"] - left - 2) / size
    page.mouse.move(place["x"] + left + (j + 0.5) * pitch, place["y"] + 5 + (i + 0.5) * pitch)
    # Until it is drawn; unlike an evaluation this ends with an error where a page no longer draws.
    page.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true))))")
    return canvas


def colour(value, theme="light"):
    """The figures' colour of a value."""
    return np.array(THEMES[theme].colormap((value + 1) / 2)[:3]) * 255


def told(one, row, column, block="train-val", measure="cos"):
    """How the page should tell of a cell."""
    value = one.class_matrix[block][measure][row, column]
    pairs = f"{one.pair_counts[block][row, column]:,}".replace(",", "\u202f")
    return f"{one.class_names[row]} → {one.class_names[column]}: {text(value)}", f"{pairs} pairs of examples"


def test_the_tab_in_tensorboard(open_page, logs):
    page = open_page("/")
    page.get_by_role("tab", name="Stiffness").click()
    frame = page.frame_locator("iframe[src*='stiffness']")
    choose_in = frame.locator(".run input")
    choose_in.first.wait_for()
    names = [box.get_attribute("id").removeprefix("run ") for box in choose_in.all()]
    assert names == ["groups", "layers", "lr=1e-2", "lr=1e-3", *(f"many/run {i}" for i in range(9)), "odd", "plain"]
    assert [box.is_checked() for box in choose_in.all()].count(True) == 1
    frame.get_by_role("heading", name="Is the network learning what generalises?").wait_for()
    # TensorBoard's own switch and its own reload button reach into the frame.
    root = frame.locator("html")
    assert "dark" not in (root.get_attribute("class") or "")
    page.evaluate("document.body.classList.add('dark-mode')")
    frame.locator("html.dark").wait_for()
    page.evaluate("document.body.classList.remove('dark-mode')")
    frame.locator("html:not(.dark)").wait_for()
    frame.locator("#auto").uncheck()
    write_run(logs / "new", 1, classes=2)
    page.get_by_role("button", name="Reload").or_(page.locator("app-header-reload button")).first.click()
    frame.locator("[id='run new']").wait_for()
    shutil.rmtree(logs / "new")


def test_the_verdict_and_its_numbers(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    one = saved(logs, "lr=1e-3", 400)
    unseen = text(one.summary["train-val"]["cos"]["within_class"], 2)
    headline = page.locator(".headline")
    headline.wait_for()
    assert headline.inner_text().endswith(
        f"Yes: a step on one training example strongly helps unseen examples of its class ({unseen})."
    )
    facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert facts["unseen examples, same class"] == unseen
    assert facts["training examples, same class"] == text(one.summary["train-train"]["cos"]["within_class"], 2)
    assert facts["unseen examples, other classes"] == text(one.summary["train-val"]["cos"]["between_class"], 2)
    choose(page, "lr=1e-2")
    page.locator(".headline", has_text="Less and less").or_(page.locator(".headline", has_text="No:")).wait_for()
    go(page, 0)
    page.locator(".headline", has_text="Not trained yet").wait_for()


def test_the_slider_shows_each_step_as_it_was_saved(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    canvas = point(page, 3, 3)
    colours = set()
    slider = page.get_by_role("slider", name="Training step")
    slider.focus()
    for index in reversed(range(len(STEPS))):
        one = saved(logs, "lr=1e-3", STEPS[index])
        for part in told(one, 3, 3):
            page.locator(".readout", has_text=part).wait_for()
        assert slider.get_attribute("aria-valuetext") == f"step {STEPS[index]} · epoch {one.epoch}"
        value = one.class_matrix["train-val"]["cos"][3, 3]
        shown = canvas.evaluate(PIXEL)
        expected = colour(value)
        assert np.abs(np.array(shown[:3]) - expected).max() <= 3, (value, shown, expected)
        colours.add(tuple(shown))
        page.keyboard.press("ArrowLeft")
    assert len(colours) > 1


def test_play_goes_through_training_and_can_be_paused(open_page):
    page = open_page()
    choose(page, "lr=1e-3")
    page.get_by_label("Speed").select_option("slow")
    page.get_by_role("button", name="Play").click()
    page.locator(".player output", has_text="2 of 5").wait_for()
    page.get_by_role("button", name="Pause").click()
    here = page.locator(".player output").inner_text()
    page.wait_for_timeout(900)
    assert page.locator(".player output").inner_text() == here
    page.get_by_label("Speed").select_option("fast")
    page.get_by_role("button", name="Play").click()
    page.locator(".player output", has_text="5 of 5").wait_for()
    page.get_by_role("button", name="Play").wait_for()


def test_pointing_at_a_cell(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    point(page, 2, 7)
    for part in told(saved(logs, "lr=1e-3", 400), 2, 7):
        assert part in page.locator(".tooltip").inner_text()
        assert part in page.locator(".readout").inner_text()
    page.mouse.move(2, 2)
    page.locator(".tooltip").wait_for(state="hidden")


def test_block_and_measure(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    one = saved(logs, "lr=1e-3", 400)
    for block in ("val-val", "train-train", "train-val"):
        page.locator(f"input[name=block][value={block}]").check()
        for measure in ("sign", "cos"):
            page.locator(f"input[name=measure][value={measure}]").check()
            point(page, 1, 8)
            for part in told(one, 1, 8, block, measure):
                page.locator(".readout", has_text=part).wait_for()
            xi = one.critical_length[block][measure]
            sign = "≈" if xi.extrapolated else "="
            page.locator(".panel .says", has_text=f"ξ {sign} {xi.value:.3g}").wait_for()


def test_two_runs_side_by_side(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3", "lr=1e-2")
    rows = page.locator(".verdict tbody tr").all_inner_texts()
    assert len(rows) == 2
    for row, name in zip(rows, page.locator(".panel h3 .name").all_inner_texts(), strict=True):
        one = saved(logs, name, 400)
        assert name in row
        assert text(one.summary["train-val"]["cos"]["within_class"], 2) in row
    assert "most in lr=1e-3" in page.locator(".verdict").inner_text()
    point(page, 4, 5)
    names = page.locator(".panel h3 .name").all_inner_texts()
    for readout, name in zip(page.locator(".readout").all(), names, strict=True):
        assert told(saved(logs, name, 400), 4, 5)[0] in readout.inner_text()
        assert told(saved(logs, name, 400), 4, 5)[0] in page.locator(".tooltip").inner_text()
    # Two solid and two dashed lines: within and between classes of each run.
    lines = page.locator(".means path.line")
    assert sorted(bool(line.get_attribute("stroke-dasharray")) for line in lines.all()) == [
        False,
        False,
        True,
        True,
    ]


def test_layers(open_page, logs):
    page = open_page()
    choose(page, "layers")
    rows = page.locator(".layers .layer")
    rows.nth(59).wait_for()
    assert rows.all_inner_texts() == saved(logs, "layers", 0).layer_names
    for index in (4, 1, 3):
        go(page, index)
        one = saved(logs, "layers", STEPS[index])
        rows.nth(2).hover()
        for part in layer_told(one, 2):
            page.locator(".layers .readout", has_text=part).wait_for()
            page.locator(".tooltip", has_text=part).wait_for()
        for place in (0, 2, 59):
            assert_dots(page, rows.nth(place), one.layer_summary["train-val"]["cos"], place)
    page.locator("input[name=block][value=val-val]").check()
    page.locator("input[name=measure][value=sign]").check()
    page.locator(".layer-axis", has_text="sign stiffness").wait_for()
    rows.nth(7).hover()
    for part in layer_told(one, 7, "val-val", "sign"):
        page.locator(".layers .readout", has_text=part).wait_for()
    page.mouse.move(2, 2)
    page.locator(".tooltip").wait_for(state="hidden")
    choose(page, "layers", "lr=1e-3")  # which has none
    assert page.locator(".layers").count() == 1


def layer_told(one, place, block="train-val", measure="cos"):
    """How the page should tell of a layer."""
    numbers = one.layer_summary[block][measure]
    own, other = (text(numbers[name][place]) for name in ("within_class", "between_class"))
    return f"{one.layer_names[place]}: same class {own} (", f"), other classes {other} ("


def assert_dots(page, row, numbers, place):
    """The dots stand where the numbers below the axis say, to a pixel and a half."""
    middle = "e => { const box = e.getBoundingClientRect(); return box.left + box.width / 2; }"
    ticks = page.locator(".layer-ticks .layer-track > span")
    ends = [(float(tick.inner_text().replace("−", "-")), tick.evaluate(middle)) for tick in ticks.all()]
    (low, left), (high, right) = ends[0], ends[-1]
    for name in ("within_class", "between_class"):
        shown = row.locator(f".layer-dot.{name}").evaluate(middle)
        assert abs(shown - (left + (numbers[name][place] - low) / (high - low) * (right - left))) < 1.5
    assert row.locator(".layer-dot.overall").is_hidden()


def test_layers_by_keyboard(open_page, logs):
    page = open_page()
    choose(page, "layers")
    page.mouse.move(0, 0)  # what is drawn late may come to lie below it, and be told of
    one = saved(logs, "layers", 400)
    chart = page.get_by_role("application", name="Layers of layers, cosine stiffness, train-val: 60 layers.")
    chart.focus()
    for key, place in (
        ("ArrowDown", 1),
        ("ArrowDown", 2),
        ("ArrowUp", 1),
        ("End", 59),
        ("PageUp", 49),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        for part in layer_told(one, place):
            page.locator(".layers .readout", has_text=part).wait_for()
            page.locator(".spoken[aria-live=polite]", has_text=part).wait_for(state="attached")
        row, box = (e.bounding_box() for e in (page.locator(".layer.here"), chart))
        assert box["y"] <= row["y"] <= box["y"] + box["height"] - row["height"]
    page.keyboard.press("Escape")
    page.locator(".layers .readout", has_text="Point at a layer").wait_for()


def test_every_number_of_a_step(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3", "lr=1e-2")
    page.get_by_text("All numbers of this step").click()
    row = page.locator(".numbers tr", has_text="same class, train-val, cos").first
    for name in ("lr=1e-3", "lr=1e-2"):
        assert text(saved(logs, name, 400).summary["train-val"]["cos"]["within_class"]) in row.inner_text()
    go(page, 0)
    row.get_by_text(text(saved(logs, "lr=1e-3", 0).summary["train-val"]["cos"]["within_class"])).first.wait_for()


def test_a_click_shows_a_pair_of_classes_over_training(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    point(page, 3, 5)
    page.mouse.down()
    page.mouse.up()
    page.get_by_role("heading", name="cat → dog over training").wait_for()
    chart = page.locator(".pair .timeline")
    assert chart.locator("path.line").count() == 2  # cat → dog and dog → cat
    assert chart.locator("circle.mark").count() == 2 * len(STEPS)
    # A click into the picture goes to the step there.
    chart.locator("svg").click(position={"x": 44, "y": 60})
    page.locator(".player output", has_text="1 of 5").wait_for()
    page.get_by_role("button", name="clear").click()
    page.get_by_text("Click a cell of a class matrix").wait_for()


def test_by_keyboard_alone(open_page, logs):
    page = open_page()
    choose(page, "lr=1e-3")
    reached = set()
    page.locator("body").click(position={"x": 1, "y": 1})
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
                 if (e === document.body) return null;
                 return [e.tagName, e.id || e.className, s.outlineStyle, s.outlineWidth] }"""
        )
        if here:
            reached.add((here[0], here[1]))
            assert (here[2], here[3]) == ("solid", "3px"), f"the focus cannot be seen on {here}"
    focusable = page.evaluate(
        """() => [...document.querySelectorAll("input, button, select, canvas, summary")]
             .filter(e => e.offsetParent && !e.disabled && (e.type !== "radio" || e.checked))
             .map(e => [e.tagName, e.id || e.className])"""
    )
    assert {tuple(one) for one in focusable} <= reached
    page.locator("canvas.cells").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    expected = told(saved(logs, "lr=1e-3", 400), 1, 1)[0]
    page.locator(".readout", has_text=expected).wait_for()
    page.locator(".spoken[aria-live=polite]", has_text=expected).wait_for(state="attached")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"{NAMES[1]} → {NAMES[9]} over training").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="One pair of classes over training").wait_for()


def test_every_control_has_a_name(open_page):
    page = open_page()
    choose(page, "lr=1e-3", "groups")
    controls = page.locator(
        "input:visible, button:visible, select:visible, canvas:visible, svg:visible, summary:visible"
    )
    assert controls.count() > 20
    unnamed = [
        control.evaluate("e => e.outerHTML.slice(0, 120)")
        for control in controls.all()
        if not control.evaluate(
            """e => e.getAttribute("aria-label") || [...(e.labels ?? [])].map(l => l.textContent).join("").trim()
                 || e.textContent.trim()"""
        )
    ]
    assert unnamed == []


def test_orders(open_page):
    page = open_page()
    choose(page, "groups")
    page.get_by_label("Order of classes").select_option("clustered")
    page.get_by_label("Order of classes").select_option("group")
    point(page, 0, 1, size=20)
    page.locator(".readout", has_text="class 0 → class 1:").wait_for()
    # Shuffled blocks come together again, whatever the numbers of their classes.
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.arange(40) % 5)
    matrix = np.where(np.equal.outer(groups, groups), 0.4, 0.0) + rng.normal(scale=0.05, size=(40, 40))
    matrix[3, 4] = np.nan
    values = ["NaN" if np.isnan(value) else value for value in matrix.ravel().tolist()]
    order = page.evaluate(
        """async values => (await import(new URL("static/order.js", document.baseURI)))
             .clustered(Float32Array.from(values, Number), 40)""",
        values,
    )
    assert sorted(order) == list(range(40))
    assert (np.diff(groups[order]) != 0).sum() == 4


def test_names_are_text_and_missing_cells_are_grey(open_page):
    page = open_page()
    choose(page, "odd")
    canvas = point(page, 1, 2, size=3)
    page.locator(".readout", has_text="no pair of examples to measure").wait_for()
    readout = page.locator(".readout").inner_text()
    assert readout.startswith(f"{HOSTILE[1]} → {HOSTILE[2]}")
    assert canvas.evaluate(PIXEL)[:3] == [0xD2, 0xD2, 0xD2]
    assert page.locator("main img, main b").count() == 0


def test_a_run_without_classes_or_validation_data(open_page):
    page = open_page()
    choose(page, "plain")
    page.get_by_text("The examples of this run have no classes.").wait_for()
    page.get_by_text("No verdict: only one set of examples was measured.").wait_for()
    page.get_by_text("No distances were measured.", exact=True).wait_for()


def test_eight_runs_at_most(open_page):
    page = open_page()
    choose(page, *(f"many/run {i}" for i in range(8)))
    assert page.locator("[id='run many/run 8']").is_disabled()
    page.get_by_text("8 runs at most are shown side by side.").wait_for()
    page.get_by_label("Filter runs by name").fill("run 7")
    page.wait_for_function("document.querySelectorAll('.run').length === 8")
    page.locator("[id='run many/run 0']").click()  # and it leaves the filtered list
    page.get_by_label("Filter runs by name").fill("")
    page.wait_for_function("!document.getElementById('run many/run 8').disabled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, logs, scheme):
    page = open_page(color_scheme=scheme)
    choose(page, "lr=1e-3")
    canvas = point(page, 6, 6)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 150) is (scheme == "dark")
    value = saved(logs, "lr=1e-3", 400).class_matrix["train-val"]["cos"][6, 6]
    shown = np.array(canvas.evaluate(PIXEL)[:3])
    assert np.abs(shown - colour(value, scheme)).max() <= 3


def test_new_steps_and_damaged_files_while_training_goes_on(open_page, logs):
    page = open_page()
    choose(page, "groups")
    page.locator(".player output", has_text="2 of 2").wait_for()
    folder: Path = logs / "groups" / "stiffness"
    result(200, classes=20, groups=4, progress=1.0).save(folder / "step_00000200.npz")
    (folder / "step_00000300.npz").write_bytes((folder / "step_00000200.npz").read_bytes()[:999])
    page.get_by_role("button", name="Refresh").click()
    page.locator(".player output", has_text="step 200 · epoch 2 · 3 of 3").wait_for()  # the last step is followed
    page.locator("summary", has_text="1 note").click()
    page.get_by_text("groups: step_00000300.npz is skipped: damaged, half-written").wait_for()
    go(page, 0)
    (folder / "step_00000300.npz").unlink()
    result(300, classes=20, groups=4, progress=1.0).save(folder / "step_00000300.npz")
    page.get_by_role("button", name="Refresh").click()
    page.locator(".player output", has_text="1 of 4").wait_for()  # who looks at a step stays there
    for step in (200, 300):
        (folder / f"step_{step:08d}.npz").unlink()


def test_what_has_yet_to_arrive_is_not_said_to_be_missing(open_page):
    page = open_page()
    choose(page, "lr=1e-3")
    kept = []
    page.route("**/stiffness/view*", lambda route: kept.append(route))
    page.locator("input[name=block][value=val-val]").check()
    page.get_by_role("status").get_by_text("Loading …").wait_for()
    assert page.get_by_text("Nothing was measured").or_(page.get_by_text("No distances were")).count() == 0
    assert page.locator(".panel .empty").inner_text() == "Loading …"
    kept[0].continue_()
    page.locator(".status:empty").wait_for(state="attached")
    assert page.locator(".panel circle.dot").count() > 10


def test_a_server_that_is_gone_is_told(open_page):
    page = open_page()
    choose(page, "lr=1e-3")
    # An answer without content; a refused connection would show in the console, as it should.
    page.route("**/stiffness/runs", lambda route: route.fulfill(status=200, body=""))
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("status").get_by_text("TensorBoard does not answer").wait_for()
    page.unroute("**/stiffness/runs")
    page.get_by_role("button", name="Refresh").click()
    page.locator(".status:empty").wait_for(state="attached")
    assert page.locator("canvas.cells").is_visible()


def test_before_there_is_any_result(browser, tmp_path):
    with tensorboard(tmp_path) as where:
        page = browser.new_page()
        page.goto(f"{where}/data/plugin_entry.html?name={StiffnessPlugin.plugin_name}")
        page.get_by_role("heading", name="No results yet").wait_for()
        write_run(tmp_path / "run", 2, classes=2)
        page.get_by_role("button", name="Refresh").click()
        page.locator("canvas.cells").wait_for()
        page.close()
