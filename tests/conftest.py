"""Shapes written in the annotations are checked at run time while the tests run."""

from collections.abc import Iterator

import hypothesis
import pytest
from jaxtyping import config, install_import_hook

from lightning_stiffness.gram.familiar import forget

install_import_hook("lightning_stiffness.functional", "beartype.beartype")

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes and types unchecked, as users have it: the functions' own errors come through."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def nothing_proven() -> None:
    """What the engines remember of one test is not to decide about another."""
    forget()
