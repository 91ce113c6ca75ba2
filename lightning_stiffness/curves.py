"""What a result holds of stiffness at a distance: a curve in bins, and a critical length."""

import math
from dataclasses import dataclass

from lightning_stiffness.storage import Array

Interval = tuple[float, float]
"""Low and high end; NaN where the pairs leave it open."""


@dataclass(frozen=True)
class Curve:
    """Stiffness against distance, in ``b`` bins (see ``functional.distance_curve``)."""

    edges: Array
    """Bin borders ``[b + 1]``."""
    mean: Array
    """Mean stiffness ``[b]``; NaN in an empty bin."""
    count: Array
    """Number of pairs ``[b]``."""
    stderr: Array
    """Standard error of the mean ``[b]``, with the pairs taken as independent."""
    low: Array | None = None
    """Low ends of the bins' 95% intervals ``[b]``, bootstrapped over examples; None without intervals."""
    high: Array | None = None
    """High ends ``[b]``."""

    @property
    def centers(self) -> Array:
        """Bin centres ``[b]``."""
        return (self.edges[:-1] + self.edges[1:]) / 2


@dataclass(frozen=True)
class Length:
    """A dynamical critical length (see ``functional.critical_length``)."""

    value: float
    slope: float
    intercept: float
    pairs: int
    extrapolated: bool
    reason: str
    """Why ``value`` is NaN; empty otherwise."""
    low: float = math.nan
    """Low end of the 95% interval of ξ, bootstrapped over examples; NaN without one."""
    high: float = math.nan
    """High end; infinite where the resamples do not exclude that stiffness does not fall with distance."""
    binned: float = math.nan
    """A second estimate, where the binned curve falls to zero (see ``functional.curve_crossing``)."""
