"""Pure tensor maths of stiffness: tensors in, tensors out; needs torch alone."""

from lightning_stiffness.functional.classes import (
    class_stiffness_matrix,
    class_summary,
    overall_stiffness,
    superclass_stiffness_matrix,
    superclass_summary,
)
from lightning_stiffness.functional.diagnostics import (
    effective_rank,
    gradient_coherence,
    gradient_confusion,
    gradient_diversity,
)
from lightning_stiffness.functional.distance import (
    CriticalLength,
    DistanceCurve,
    critical_length,
    distance_curve,
    pairwise_distance,
    standardise,
)
from lightning_stiffness.functional.intervals import Interval
from lightning_stiffness.functional.pairwise import cosine_stiffness, sign_stiffness, valid_examples
from lightning_stiffness.functional.uncertainty import BlockIntervals, block_intervals, bootstrap_interval

__all__ = [
    "BlockIntervals",
    "CriticalLength",
    "DistanceCurve",
    "Interval",
    "block_intervals",
    "bootstrap_interval",
    "class_stiffness_matrix",
    "class_summary",
    "cosine_stiffness",
    "critical_length",
    "distance_curve",
    "effective_rank",
    "gradient_coherence",
    "gradient_confusion",
    "gradient_diversity",
    "overall_stiffness",
    "pairwise_distance",
    "sign_stiffness",
    "standardise",
    "superclass_stiffness_matrix",
    "superclass_summary",
    "valid_examples",
]
