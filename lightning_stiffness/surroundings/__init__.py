"""What user code may change beside what it is given, kept while a measurement runs it."""

from lightning_stiffness.surroundings.kept import Surroundings, kept_surroundings, unwatched

__all__ = ["Surroundings", "kept_surroundings", "unwatched"]
