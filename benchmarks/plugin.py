"""How long the tab "Stiffness" takes to open, and the slider to move: 100 classes, 50 steps.

    python benchmarks/plugin.py [--classes 100] [--steps 50] [--runs 1]

Needs the extra [browser] and a Chromium. The browser and TensorBoard run on this machine, headless.
"""

import argparse
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lightning_stiffness.plugin.payload import run_payload, view_payload  # noqa: E402
from lightning_stiffness.plugin.store import Store  # noqa: E402
from tests.plugin.browser import browser_or_reason, chromium_options, tensorboard  # noqa: E402
from tests.plugin.synthetic import write_run  # noqa: E402

# Moves the slider through every step and back; each time from the event to the frame that shows it.
SLIDE = """async () => {
  const slider = document.querySelector("#step");
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (const value of [...Array(Number(slider.max) + 1).keys()].reverse()) {
    await frame();
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await frame();
    times.push(performance.now() - start);
  }
  return times;
}"""


def server(logs: Path) -> None:
    store = Store({"": logs})
    started = time.perf_counter()
    name = store.list_runs()[0][0].name
    listed = time.perf_counter()
    history = store.history(name)
    read = time.perf_counter()
    run_payload(history)
    packed = view_payload(history, "train-val", "cos")
    sent = time.perf_counter()
    times = [1e3 * (after - before) for before, after in pairwise((started, listed, read, sent))]
    print("server   list {:.0f} ms, read all files {:.0f} ms, pack {:.0f} ms".format(*times), end="")
    print(f" ({len(packed) / 1e6:.1f} MB)")


def browse(logs: Path, classes: int, runs: int) -> None:
    from playwright.sync_api import sync_playwright

    with tensorboard(logs) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(**chromium_options())
        for what in ("first time", "again"):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            started = time.perf_counter()
            page.goto(f"{address}/#stiffness")
            page.wait_for_selector("iframe", state="attached")
            framed = time.perf_counter()
            inside = page.frame_locator("iframe").last
            inside.locator(f'canvas[aria-label*="{classes} by {classes}"]').first.wait_for()
            drawn = time.perf_counter()
            print(f"open     {what}: {drawn - started:.2f} s, of which TensorBoard itself {framed - started:.2f} s")
            if what == "first time":
                page.close()
        for box in inside.locator(".run input").all()[:runs]:
            box.check()
        inside.locator("canvas.cells").nth(runs - 1).wait_for()
        page.wait_for_timeout(500)
        times = page.frames[-1].evaluate(SLIDE)
        print(
            f"slider   {runs} run(s): median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms a step"
        )
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.classes} classes, {options.steps} steps, {options.runs} run(s)")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.runs):
            write_run(Path(folder) / f"run {seed}", options.steps, classes=options.classes, groups=20, seed=seed)
        server(Path(folder))
        reason = browser_or_reason()
        if reason:
            print(f"browser  left out: {reason}")
        else:
            browse(Path(folder), options.classes, options.runs)


if __name__ == "__main__":
    main()
