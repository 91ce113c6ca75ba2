"""A run as reports and tables take it, and where it stands at one of its steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lightning_stiffness.history import Peak, StiffnessHistory, within_class_peak
from lightning_stiffness.plugin.frames import Frame, frame_of
from lightning_stiffness.plugin.verdict import Verdict, verdicts
from lightning_stiffness.result import Length, StiffnessResult


@dataclass(frozen=True)
class Run:
    """The results of a run by step, and what is shown of each."""

    name: str
    results: list[StiffnessResult]
    frames: list[Frame]
    notes: list[str] = field(default_factory=list)
    """Files that were left out, and why."""

    @classmethod
    def of(cls, name: str, results: Sequence[StiffnessResult]) -> "Run":
        """A run from its results, in any order; of several at one step the last one counts.

        Example:
            >>> Run.of("a", [StiffnessResult(9, 1), StiffnessResult(0, 0)]).frames[0].step
            0
        """
        ordered = StiffnessHistory(results).results
        return cls(name, ordered, [frame_of(result) for result in ordered])

    def index(self, step: int | None = None, epoch: int | None = None) -> int:
        """Position of the last result up to a step or an epoch, and of the last one where neither is given; -1
        where the first result comes later. A result whose epoch nobody knows is up to no epoch."""
        known = [
            i
            for i, frame in enumerate(self.frames)
            if (step is None or frame.step <= step)
            and (epoch is None or (frame.epoch is not None and frame.epoch <= epoch))
        ]
        return known[-1] if known else -1


@dataclass(frozen=True)
class Number:
    """A number with its 95% interval; NaN for what there is not."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Standing:
    """What a run's stiffness is at one step, for one block and measure."""

    name: str
    step: int
    epoch: int | None
    """None where nobody knows."""
    verdict: Verdict
    """Of train-val and train-train, whatever the block is."""
    own_name: str
    """``"within_class"``, or ``"overall"`` where there are no classes."""
    own: Number
    """Mean stiffness within classes, or of all pairs where there are no classes."""
    peak: Peak | None
    """Where ``within_class`` was highest up to here; None without classes."""
    peak_epoch: int | None
    """Epochs trained there; None where nobody knows."""
    between: Number
    length: Length | None
    excluded: int
    """Examples without a stiffness."""


def standing(run: Run, index: int, block: str, measure: str) -> Standing:
    """Where a run stands at one of its steps.

    Args:
        run: the run.
        index: position of the step.
        block: such as ``"train-val"``.
        measure: such as ``"cos"``.

    Returns:
        Its numbers, those that were not measured NaN or None.

    Example:
        >>> run = Run.of("a", [StiffnessResult(9, 1, summary={"train-val": {"cos": {"within_class": 0.5}}})])
        >>> standing(run, 0, "train-val", "cos").own.value
        0.5
    """
    result = run.results[index]
    summary = result.summary.get(block, {}).get(measure, {})
    own = "overall" if math.isnan(summary.get("within_class", math.nan)) else "within_class"
    peak = within_class_peak(run.results[: index + 1], block, measure)
    return Standing(
        name=run.name,
        step=result.step,
        epoch=run.frames[index].epoch,
        verdict=verdicts(run.frames[: index + 1])[-1],
        own_name=own,
        own=_number(result, block, measure, own),
        peak=peak,
        peak_epoch=None if peak is None else next(f.epoch for f in run.frames if f.step == peak.step),
        between=_number(result, block, measure, "between_class"),
        length=result.critical_length.get(block, {}).get(measure),
        excluded=sum(result.excluded.values()),
    )


def _number(result: StiffnessResult, block: str, measure: str, name: str) -> Number:
    ends = result.interval.get(block, {}).get(measure, {}).get(name, (math.nan, math.nan))
    return Number(result.summary.get(block, {}).get(measure, {}).get(name, math.nan), *ends)
