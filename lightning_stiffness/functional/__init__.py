"""Pure tensor maths of stiffness: tensors in, tensors out; needs torch alone."""

from lightning_stiffness.functional.classes import (
    class_stiffness_matrix,
    class_summary,
    overall_stiffness,
)
from lightning_stiffness.functional.curve import DistanceCurve, curve_crossing, distance_curve
from lightning_stiffness.functional.diagnostics import (
    effective_rank,
    gradient_coherence,
    gradient_confusion,
    gradient_diversity,
)
from lightning_stiffness.functional.distance import pairwise_distance, standardise
from lightning_stiffness.functional.grouping import Grouping, grouping_test
from lightning_stiffness.functional.intervals import Interval
from lightning_stiffness.functional.length import CriticalLength, class_critical_lengths, critical_length
from lightning_stiffness.functional.ordering import class_order
from lightning_stiffness.functional.pairwise import cosine_stiffness, sign_stiffness, valid_examples
from lightning_stiffness.functional.superclasses import superclass_stiffness_matrix, superclass_summary
from lightning_stiffness.functional.uncertainty import (
    BlockIntervals,
    block_intervals,
    bootstrap_interval,
    joint_intervals,
)

__all__ = [
    "BlockIntervals",
    "CriticalLength",
    "DistanceCurve",
    "Grouping",
    "Interval",
    "block_intervals",
    "bootstrap_interval",
    "class_critical_lengths",
    "class_order",
    "class_stiffness_matrix",
    "class_summary",
    "cosine_stiffness",
    "critical_length",
    "curve_crossing",
    "distance_curve",
    "effective_rank",
    "gradient_coherence",
    "gradient_confusion",
    "gradient_diversity",
    "grouping_test",
    "joint_intervals",
    "overall_stiffness",
    "pairwise_distance",
    "sign_stiffness",
    "standardise",
    "superclass_stiffness_matrix",
    "superclass_summary",
    "valid_examples",
]
