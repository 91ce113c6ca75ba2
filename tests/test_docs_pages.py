"""The documentation pages: their code runs, the messages they explain exist, their images are there."""

import ast
import re
import warnings
from pathlib import Path

import pytest
from pytorch_lightning import Trainer

import lightning_stiffness
from lightning_stiffness import StiffnessCallback

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def messages():
    """Every string in the package's code, with ``…`` for what is filled in."""
    for file in (ROOT / "lightning_stiffness").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted():
    """Messages on the page of messages: those of its headings, and of the first cells of its tables."""
    lines = (DOCS / "troubleshooting.md").read_text("utf-8").splitlines()
    places = [line for line in lines if line.startswith("### ")]
    places += [line.split(" | ")[0] for line in lines if line.startswith("| `")]
    return [quote for place in places for quote in re.findall("`([^`]+)`", place)]


def pattern_of(quote):
    """Finds the messages that a quote is from; "…" in it stands for parts filled in and the words between them."""
    return re.compile(".*".join(re.escape(part) for part in quote.strip("…").split("…")), flags=re.DOTALL)


@pytest.fixture(scope="module")
def known():
    return [re.sub(r"…+", "…", message) for message in messages()]


@pytest.mark.parametrize("quote", quoted())
def test_a_message_explained_is_one_that_the_package_gives(quote, known):
    assert any(pattern_of(quote).search(message) for message in known)


def test_messages_are_explained_once():
    assert len(quoted()) > 120
    assert sorted(quoted()) == sorted(set(quoted()))


OTHERWISE = {"functional", "figures", "metrics", "plugin", "report", "cli", "rules", "arguments"}
"""Rooms whose errors are about the shapes of what is passed, or all of one form; some are explained anyway."""
SAYING = {"warn", "say", "append", "misconfiguration"}
"""Functions and methods that a message is handed to, besides errors."""


def told():
    """What the package raises, warns of or notes while it measures: file and message."""
    package = ROOT / "lightning_stiffness"
    for file in sorted(package.rglob("*.py")):
        if OTHERWISE & set(file.relative_to(package).with_suffix("").parts):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            raised = isinstance(node, ast.Raise)
            call = node.exc if raised else node
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                for argument in call.args if raised or name in SAYING else ():
                    yield file.name, in_words(argument)


def in_words(node):
    """The text of an argument, with ``…`` for what is filled in; "" for what is no text."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return re.sub(r"…+", "…", text)
    if isinstance(node, ast.BinOp):
        return in_words(node.left) + in_words(node.right)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


SELF_EVIDENT = re.compile(
    r"expected (dataloaders|on_error|distance_layer|per_layer|superclasses|module|parameters=?|…) to |"
    r"module … has no attribute|process … of … has given up"
)
"""Settings, of which the message says what they take; and what is told in other words, or to nobody."""


def test_what_the_package_says_is_explained():
    patterns = [pattern_of(quote) for quote in quoted() if max(map(len, quote.split("…"))) > 12]
    said = [(file, message) for file, message in told() if message.count(" ") > 2]
    assert len(said) > 80
    missing = [
        f"{file}: {message}"
        for file, message in said
        if not SELF_EVIDENT.match(message) and not any(pattern.search(message) for pattern in patterns)
    ]
    assert missing == []


def test_what_lightning_says_of_two_callbacks_is_quoted_with_a_way_out_that_works():
    with pytest.raises(RuntimeError, match="stateful callback") as raised:
        Trainer(callbacks=[StiffnessCallback(), StiffnessCallback()], logger=False)
    page = " ".join((DOCS / "troubleshooting.md").read_text("utf-8").split())
    first, hint = re.split(r" In the current .* HINT:", str(raised.value))
    assert f"{first} […] HINT:{hint}" in page
    Trainer(callbacks=[StiffnessCallback(), StiffnessCallback(name="other")], logger=False)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_extras_are_installed_from_a_clone(page):
    """The package is on no index yet."""
    assert not re.findall(r"pip install '?lightning[-_]stiffness", page.read_text("utf-8"))


def test_public_functions_named_on_pages_are_on_the_page_of_public_names():
    listed = (DOCS / "api.md").read_text("utf-8")
    for page in set(PAGES) - {DOCS / "api.md"}:
        for name in re.findall(r"`lightning_stiffness\.(gram\.\w+)`", page.read_text("utf-8")):
            assert f"lightning_stiffness.{name}\n" in listed, (page.name, name)


def test_python_blocks_of_your_own_module_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "your-own-module.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) > 5
    exec(compile("\n".join(blocks), "your-own-module.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_python_blocks_of_logging_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "logging.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 4
    scope = {"__name__": "page"}
    exec(compile("\n".join(blocks), "logging.md", "exec"), scope)
    assert scope["history"].steps.tolist() == [0, 5, 10, 15]
    assert scope["history"].class_matrix("train-val", "cos").shape == (4, 3, 3)


def test_python_blocks_of_distributed_run():
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "distributed.md").read_text("utf-8"), flags=re.DOTALL)
    scope = {"__name__": "page"}
    exec(compile(block, "distributed.md", "exec"), scope)
    assert scope["trainer"].world_size == 2


def test_the_message_that_refuses_a_strategy_is_quoted_as_it_is():
    (quote,) = re.findall(r"```text\n(.*?)```", (DOCS / "distributed.md").read_text("utf-8"), flags=re.DOTALL)
    assert " ".join(quote.split()).replace("FSDPStrategy", "…", 1) in set(messages())


def test_the_version_to_cite_is_this_one():
    text = (DOCS / "citing.md").read_text("utf-8")
    assert f"version = {{{lightning_stiffness.__version__}}}" in text


def test_python_blocks_of_transformers_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers", reason="the page is about models of this library")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "transformers.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 5
    scope = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*exact but slow.*")
        exec(compile("\n".join(blocks), "transformers.md", "exec"), scope)
    assert scope["by_words"].result.probe_indices["val"].shape == (40,)
    for callback in (scope["by_words"], scope["by_layer"]):
        assert callback.failures == 0
        assert len(callback.history) == 2
        assert callback.result.engine == "layerwise"
        assert callback.result.curve["train-val"]["cos"].count.sum() > 40
    assert capsys.readouterr().out.count("layerwise") == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    missing = [target for target in targets if not (DOCS / target).exists()]
    assert not missing


def test_every_image_is_shown():
    text = "".join(page.read_text("utf-8") for page in (*PAGES, DOCS.parent / "README.md"))
    assert [image.name for image in (DOCS / "images").glob("*.png") if f"images/{image.name})" not in text] == []
