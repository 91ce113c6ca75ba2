"""The house: data flows one way through the files, and few of them know Lightning."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lightning_stiffness"

# A file imports only from lines above its own.
ORDER = [
    "arguments",
    "contents",
    "reach",
    "generators",
    "functional",
    "gram",
    "fields",
    "settings",
    "storage",
    "curves",
    "result",
    "dataset",
    "history",
    "probeset",
    "labelling",
    "inputs",
    "distances",
    "blocks",
    "checks",
    "measure",
    "palette",
    "figures",
    "metrics",
    "plugin",
    "report",
    "compat",
    "refusal",
    "surroundings",
    "strata",
    "sources",
    "rows",
    "chosen",
    "probe",
    "trainer_view",
    "rebind",
    "hush",
    "guard",
    "shadow",
    "steploss",
    "transfer",
    "loggers",
    "pictures",
    "runlog",
    "rundata",
    "moments",
    "processes",
    "progress",
    "measuring",
    "callback",
    "cli",
    "__main__",
]
KNOW_LIGHTNING = {"compat", "probe", "shadow", "loggers", "runlog", "callback"}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py" or file.parent != PACKAGE)


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_up_only(file):
    own = ORDER.index(room(file))
    for name in imports_of(file):
        if name.startswith("lightning_stiffness."):
            other = name.split(".")[1]
            if other in ORDER:
                assert ORDER.index(other) <= own, f"{room(file)} imports {name}, which stands below it"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_outer_rooms_know_lightning(file):
    if room(file) not in KNOW_LIGHTNING:
        used = {name.split(".")[0] for name in imports_of(file)}
        assert not used & {"lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities"}


@pytest.mark.parametrize(
    "file", [f for f in FILES if room(f) in ("functional", "gram")], ids=lambda file: file.stem
)
def test_the_mathematics_needs_torch_alone(file):
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "jaxtyping", "lightning_stiffness"}
    assert {name.split(".")[0] for name in imports_of(file)} <= allowed


def test_public_names_load_on_first_use():
    code = (
        "import sys, lightning_stiffness as s\n"
        "heavy = {'pytorch_lightning', 'lightning', 'matplotlib', 'tensorboard', 'torchmetrics'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "s.gradient_gram, s.measure_stiffness, s.StiffnessResult\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert s.StiffnessCallback.__name__ in dir(s)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name():
    import lightning_stiffness

    with pytest.raises(AttributeError, match="no attribute 'Stiffness'"):
        lightning_stiffness.Stiffness  # noqa: B018
