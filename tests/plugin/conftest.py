import pytest
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from lightning_stiffness.plugin.routes import StiffnessPlugin
from tests.plugin.browser import browsing, tensorboard


@pytest.fixture
def serve():
    """A log directory → a client that asks TensorBoard's own application with the plugin in it."""

    def start(logdir):
        return Client(TensorBoardWSGI([StiffnessPlugin(TBContext(logdir=str(logdir)))]))

    return start


@pytest.fixture(scope="module")
def address(logs):
    """A real TensorBoard of the runs that a module has in its `logs`."""
    with tensorboard(logs) as where:
        yield where


@pytest.fixture(scope="module")
def browser():
    with browsing() as started:
        yield started


def is_error(message):
    # The frame by itself, without TensorBoard's page around it, has no icon; the browser asks for one.
    return message.type == "error" and "favicon" not in message.location.get("url", "")


@pytest.fixture
def open_page(browser, address):
    """Opens pages; at the end no console may have told of an error, and no other server been asked."""
    opened, errors, asked = [], [], []

    def start(path="/data/plugin_entry.html?name=stiffness", **options):
        page = browser.new_page(viewport={"width": 1300, "height": 1000}, **options)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address + path)
        opened.append(page)
        return page

    yield start
    for page in opened:
        page.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
