"""A real TensorBoard and a real browser, where there is one."""

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser on the PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@functools.cache
def browser_or_reason() -> str | None:
    """None where there is a browser to drive, else why not."""
    lacks = []
    if importlib.util.find_spec("playwright") is None:
        lacks.append("playwright is not installed: pip install 'lightning-stiffness[browser]'")
    if chromium() is None:
        lacks.append("there is no Chromium on the PATH: apt install chromium")
    if not lacks:
        return _does_not_start()
    return f"needs the extra [browser] and a Chromium: {'; '.join(lacks)}" if lacks else None


def _does_not_start() -> str | None:
    """None where the browser starts, else why not, such as without shared memory or a place for its profile."""
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as driver:
            driver.chromium.launch(**chromium_options()).close()
    except Error as error:
        return f"{chromium()} does not start: {str(error).splitlines()[0]}"
    return None


def chromium_options() -> dict[str, Any]:
    """How the browser is started; nothing is downloaded."""
    # As root, in a container, Chromium has no sandbox to set up.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return {"executable_path": chromium(), "args": arguments}


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser that runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(**chromium_options())
        yield started
        started.close()


@contextmanager
def tensorboard(logdir: Path, *options: str) -> Iterator[str]:
    """TensorBoard in a process of its own; its address. The plugin comes through its entry point."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
    # Elsewhere than in the checkout, whose files would come before those installed.
    process = subprocess.Popen(
        [*command, "--port", str(port), *options],
        cwd=logdir,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"TensorBoard ended at once: {process.stderr.read() if process.stderr else ''}")
            try:
                urllib.request.urlopen(f"{address}/data/plugins_listing", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        else:
            raise RuntimeError("TensorBoard did not answer within a minute")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)
        if process.stderr:
            process.stderr.close()


def choose(page, *names):
    """Show exactly these runs."""
    page.locator(f"[id='run {names[0]}']").check()  # first of all, so that there is always one
    checked = page.evaluate("[...document.querySelectorAll('.run input:checked')].map(box => box.id)")
    for box in {*checked} - {f"run {name}" for name in names}:
        page.locator(f"[id='{box}']").uncheck()
    for name in names[1:]:
        page.locator(f"[id='run {name}']").check()
    page.wait_for_function("n => document.querySelectorAll('.panel').length === n", arg=len(names))
    page.wait_for_function(
        "names => [...document.querySelectorAll('.panel h3 .name')].every(e => names.includes(e.textContent))",
        arg=list(names),
    )


def go(page, index):
    """Move the slider."""
    page.locator("#step").focus()
    page.locator("#step").fill(str(index))
    page.locator(".player output", has_text=f"{index + 1} of").wait_for()


def text(value, digits=3):
    """A number as the page prints it."""
    shown = f"{value:.{digits}f}"
    return (shown.lstrip("-") if float(shown) == 0 else shown).replace("-", "−")
