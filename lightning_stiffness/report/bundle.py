"""The page's modules as one script, so that a file can hold them."""

import re
from collections.abc import Mapping
from importlib import resources

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";$', flags=re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", flags=re.MULTILINE)
_REST = re.compile(r"^(?:import|export)\b.*|\bimport\.meta\b.*", flags=re.MULTILINE)
START = "page.js"
"""The module that the script begins with."""


def page_files() -> dict[str, str]:
    """Name → text of every file of the page: the tab's own, and in place of some of them those of reports."""
    files = {}
    for package in ("lightning_stiffness.plugin", "lightning_stiffness.report"):
        for file in resources.files(package).joinpath("static").iterdir():
            if file.name.endswith((".js", ".css")):
                files[file.name] = file.read_text("utf-8")
    return files


def bundle(files: Mapping[str, str], start: str = START) -> str:
    """One script that does what a module does, together with all that it imports.

    Each module becomes a function of its own, so that names may repeat, and runs once, after those it imports.

    Args:
        files: name → text of modules, which import each other by ``import { … } from "./name.js";`` and export
            functions, constants and classes where they are declared.
        start: the module to begin with.

    Returns:
        The script.

    Raises:
        ValueError: for an import or export of another form, a module that is missing, or modules that import
            each other.

    Example:
        >>> files = {"a.js": 'import { one } from "./b.js";\\nshow(one);', "b.js": "export const one = 1;"}
        >>> print(bundle(files, "a.js"))
        const $b = (() => {
        const one = 1;
        return { one };
        })();
        const $a = (() => {
        const { one } = $b;
        show(one);
        return {};
        })();
    """
    done: dict[str, str] = {}
    _add(start, files, done, ())
    return "\n".join(done.values())


def _add(name: str, files: Mapping[str, str], done: dict[str, str], within: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in within:
        raise ValueError(f"expected modules that do not import each other, got {' → '.join((*within, name))}")
    if name not in files:
        raise ValueError(f"expected a module {name}, imported by {within[-1] if within else 'the page'}")
    text = files[name]
    for _, other in _IMPORT.findall(text):
        _add(other, files, done, (*within, name))
    exported = _EXPORT.findall(text)
    text = _IMPORT.sub(lambda found: f"const {{{_renamed(found[1])}}} = {_variable(found[2])};", text)
    text = _EXPORT.sub("", text)
    rest = _REST.search(text)
    if rest is not None:
        raise ValueError(
            f"expected imports and exports of the forms that can be put into one file, got {rest[0]!r}"
        )
    returned = f"return {{ {', '.join(exported)} }};" if exported else "return {};"
    done[name] = f"const {_variable(name)} = (() => {{\n{text.rstrip()}\n{returned}\n}})();"


def _renamed(names: str) -> str:
    return re.sub(r"\bas\b", ":", names)


def _variable(name: str) -> str:
    return "$" + name.removesuffix(".js").replace("-", "_")
