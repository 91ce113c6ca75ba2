"""Take the pictures of the tabs "Stiffness" and "Images" and of a report, from real training in a real TensorBoard.

    python docs/images/shoot.py                            # MNIST at three learning rates
    python docs/images/shoot.py --cifar100 cifar100.npz    # and CIFAR-100, with its 20 super-classes
    python docs/images/shoot.py --logs folder              # keep the results there, for the next time

Needs the extra [browser] and a Chromium, and takes some minutes on a CPU. ``draw.py`` says what the file holds, and
how to get the pictures that are there.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from draw import EMBEDDED, HERE, fully_connected, images, load_mnist, loss, take, training
from PIL import Image
from torch import nn

sys.path.insert(0, str(HERE.parents[1]))

from lightning_stiffness import StiffnessHistory, measure_stiffness
from lightning_stiffness.report import write_report
from tests.plugin.browser import chromium_options, tensorboard

RATES = ("1e-4", "1e-3", "1e-2")
EPOCHS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20)


def main() -> None:
    """Train, measure, start TensorBoard, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar100", type=Path, help="also train on CIFAR-100, from this .npz file")
    parser.add_argument("--logs", type=Path, help="where the results are; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        logs = options.logs or Path(temporary) / "logs"
        for rate in RATES:
            mnist(logs / f"lr={rate}", float(rate))
        if options.cifar100 is not None:
            cifar100(logs / "cifar100", options.cifar100)
        shoot(logs)
        shoot_example(Path(temporary))


def mnist(run: Path, rate: float) -> None:
    """The paper's fully connected network on 5,000 digits."""
    if (run / "stiffness").exists():
        return
    torch.manual_seed(0)
    train, val = (data.tensors for data in load_mnist(EMBEDDED).datasets())
    net = fully_connected()
    for epoch, step in training(net, train, epochs=EPOCHS[-1], rate=rate):
        if epoch in EPOCHS:
            result = measure_stiffness(net, take(train, 500), take(val, 500), loss_fn=loss, step=step, epoch=epoch)
            print(result.save(run / "stiffness" / f"step_{step:08d}.npz"), flush=True)


def cifar100(run: Path, path: Path) -> None:
    """The paper's three-layer convolutional network on a hundred classes."""
    if (run / "stiffness").exists():
        return
    torch.manual_seed(0)
    with np.load(path, allow_pickle=False) as file:
        train, val = (images(file[f"x_{part}"], file[f"y_{part}_fine"]) for part in ("train", "test"))
        names, groups = file["fine_names"].tolist(), file["coarse_of_fine"].tolist()
        group_names = [name.replace("_", " ") for name in file["coarse_names"].tolist()]
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 100))
    for epoch, step in training(net, train, epochs=15):
        if epoch in EPOCHS:
            result = measure_stiffness(
                net, take(train, 1000), take(val, 1000), loss_fn=loss, class_names=names, superclasses=groups,
                superclass_names=group_names, step=step, epoch=epoch,
            )  # fmt: skip
            print(result.save(run / "stiffness" / f"step_{step:08d}.npz"), flush=True)


def shoot(logs: Path) -> None:
    """Open the tab as a reader would, and keep what is seen."""
    from playwright.sync_api import sync_playwright

    with tensorboard(logs) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(**chromium_options())
        for scheme, name in (("light", "plugin_mnist"), ("dark", "plugin_mnist_dark")):
            page, frame = opened(browser, address, scheme, 1180)
            choose(frame, ["lr=1e-3"])
            if scheme == "light":  # 4 and 9 look alike
                cell(frame, 4, 9, 10).click()
            keep(page, name)
        page, frame = opened(browser, address, "light", 1240)
        choose(frame, [f"lr={rate}" for rate in RATES])
        keep(page, "plugin_rates")
        if (logs / "cifar100").exists():
            for scheme, name in (("light", "plugin_cifar100"), ("dark", "plugin_cifar100_dark")):
                page, frame = opened(browser, address, scheme, 1100)
                choose(frame, ["cifar100"])
                frame.get_by_label("Order of classes").select_option("group")
                step_to(frame, 3)
                keep(page, name)
        report(browser, logs)
        browser.close()


def shoot_example(folder: Path) -> None:
    """Run the example of the README, and open the pictures that its logger was given."""
    from playwright.sync_api import sync_playwright

    script = HERE.parents[1] / "examples" / "mnist.py"
    arguments = ("--max_epochs", "10", "--data", EMBEDDED, "--log_dir", folder / "runs")
    subprocess.run([sys.executable, script, *arguments], check=True)
    # The page tells the log directory as it was named.
    with tensorboard(folder, "--logdir", "runs") as address, sync_playwright() as driver:
        browser = driver.chromium.launch(**chromium_options())
        page = browser.new_page(viewport={"width": 1240, "height": 960})
        page.goto(f"{address}/#images&tagFilter=train-val%2Fcos")
        page.get_by_text("Show actual image size").click()
        page.wait_for_timeout(3000)
        keep(page, "tensorboard")
        browser.close()


def report(browser, logs: Path) -> None:
    """The same runs in a file."""
    runs = {f"lr={rate}": StiffnessHistory.load(logs / f"lr={rate}") for rate in RATES}
    with tempfile.TemporaryDirectory() as folder:
        path = write_report(runs, Path(folder) / "report.html", title="Three learning rates")
        page = browser.new_page(viewport={"width": 1280, "height": 1240}, color_scheme="light")
        page.goto(path.as_uri())
        keep(page, "report")


def opened(browser, address: str, scheme: str, height: int):
    """A page with the tab in front, and the frame in it."""
    page = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme=scheme)
    page.goto(f"{address}/#stiffness")
    frame = page.frame_locator("iframe").last
    frame.locator(".run input").first.wait_for()
    return page, frame


def choose(frame, names: list[str]) -> None:
    """Show these runs, in this order."""
    boxes = {box.get_attribute("id").removeprefix("run "): box for box in frame.locator(".run input").all()}
    frame.locator(f"[id='run {names[0]}']").check()
    for name in boxes:
        if name != names[0]:
            frame.locator(f"[id='run {name}']").set_checked(False)
    for name in names[1:]:
        frame.locator(f"[id='run {name}']").check()


def cell(frame, row: int, column: int, size: int):
    """What to click for a cell: reached by the keyboard, so that no tooltip covers the picture."""
    canvas = frame.locator("canvas.cells").first
    canvas.focus()
    for key, count in (("ArrowDown", row), ("ArrowRight", column)):
        for _ in range(count):
            canvas.press(key)
    canvas.press("Enter")
    return frame.locator("h3").first


def step_to(frame, index: int) -> None:
    """Move the slider."""
    frame.locator("#step").fill(str(index))


def keep(page, name: str) -> None:
    """Save the page as a small PNG: its 96 commonest colours as they are, the others by 160 in between."""
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    counted = sorted(picture.getcolors(picture.width * picture.height), reverse=True)
    common = [part for _, colour in counted[:96] for part in colour]
    others = picture.quantize(160, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette(common + others)
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
