"""What user code may change beside what it is given, kept while a measurement runs it."""

from lightning_stiffness.surroundings.kept import Surroundings, kept_surroundings

__all__ = ["Surroundings", "kept_surroundings"]
