"""The results of a run, one after the other: arrays over steps, and the sign of overfitting."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lightning_stiffness.dataset import dataset_parts
from lightning_stiffness.result import StiffnessResult
from lightning_stiffness.storage import Array

FILES = "step_*.npz"
"""Names of the files that the callback saves results in."""


@dataclass(frozen=True)
class Peak:
    """Where within-class stiffness was highest, and how far it has fallen since."""

    step: int
    """Batches trained on at the peak."""
    epoch: int
    """Epochs trained at the peak."""
    value: float
    """Within-class stiffness at the peak."""
    drop: float
    """Peak less the last value, at least 0; NaN where the last one is."""


def within_class_peak(results: Sequence[StiffnessResult], block: str, measure: str) -> Peak | None:
    r"""The peak of within-class stiffness so far, and its fall since then: a sign of overfitting.

    .. math:: \text{drop} = \max_{t \le T} \text{within}(t) - \text{within}(T)

    While features are learned that serve whole classes, within-class stiffness stays high; in the paper it falls
    towards 0 as the network begins to fit single examples (Fort et al., arXiv:1901.09491v3, section 3).

    Args:
        results: the measurements so far, in the order of their steps.
        block: ``"train-train"``, ``"train-val"`` or ``"val-val"``.
        measure: ``"cos"`` or ``"sign"``.

    Returns:
        The peak, the first one of several as high; None where no result has a within-class stiffness there.

    Example:
        >>> run = [StiffnessResult(t, t, summary={"val-val": {"cos": {"within_class": v}}})
        ...        for t, v in enumerate([0.75, 0.5, 0.25])]
        >>> within_class_peak(run, "val-val", "cos")
        Peak(step=0, epoch=0, value=0.75, drop=0.5)
    """
    values = [one.summary.get(block, {}).get(measure, {}).get("within_class", math.nan) for one in results]
    known = [(value, -place) for place, value in enumerate(values) if not math.isnan(value)]
    if not known:
        return None
    highest, place = max(known)
    at = results[-place]
    return Peak(at.step, at.epoch, highest, highest - values[-1])


def within_class(result: StiffnessResult) -> dict[str, Any]:
    """Step, epoch and within-class stiffness of a result as plain values: arguments of a result of its own."""
    summary = {
        block: {m: {"within_class": n["within_class"]} for m, n in measures.items() if "within_class" in n}
        for block, measures in result.summary.items()
    }
    return {"step": result.step, "epoch": result.epoch, "summary": summary}


def drop_from_peak(results: Sequence[StiffnessResult]) -> dict[str, float]:
    """How far within-class stiffness has fallen from its highest value, for every block and measure.

    With ``EarlyStopping(monitor="stiffness/train-val/cos/drop_from_peak", mode="min", divergence_threshold=0.1,
    patience=…)`` a run ends once it has fallen by more than 0.1.

    Args:
        results: the measurements so far, in the order of their steps.

    Returns:
        ``stiffness/{block}/{measure}/drop_from_peak`` → the fall, at least 0, for the blocks and measures of the
        last result that have a within-class stiffness; NaN where it is NaN.

    Example:
        >>> run = [StiffnessResult(t, t, summary={"val-val": {"cos": {"within_class": v}}})
        ...        for t, v in enumerate([0.75, 0.5])]
        >>> drop_from_peak(run)
        {'stiffness/val-val/cos/drop_from_peak': 0.25}
    """
    if not results:
        return {}
    drops = {}
    for block, measures in results[-1].summary.items():
        for measure, numbers in measures.items():
            if "within_class" in numbers:
                peak = within_class_peak(results, block, measure)
                name = f"stiffness/{block}/{measure}/drop_from_peak"
                drops[name] = math.nan if peak is None else peak.drop
    return drops


class StiffnessHistory(Sequence[StiffnessResult]):
    """The results of one run in the order of their steps.

    Args:
        results: the measurements, in any order; of several at one step the last one counts.

    Example:
        >>> run = [StiffnessResult(t, 0, summary={"val-val": {"cos": {"within_class": v}}})
        ...        for t, v in [(10, 0.5), (0, 0.75)]]
        >>> history = StiffnessHistory(run)
        >>> history.steps.tolist(), history.scalar("stiffness/val-val/cos/within_class").tolist()
        ([0, 10], [0.75, 0.5])
    """

    def __init__(self, results: Sequence[StiffnessResult] = ()) -> None:
        by_step = {result.step: result for result in results}
        self.results = [by_step[step] for step in sorted(by_step)]

    @classmethod
    def load(cls, run_dir: str | Path) -> "StiffnessHistory":
        """Every result saved below a run's directory.

        Files that are damaged, such as those of a run killed by the machine, are left out with a warning that
        names them.

        Args:
            run_dir: the log directory of one run, or the folder of its results.

        Raises:
            FileNotFoundError: if there is no such directory, or no result in it.
            ValueError: if there are results of several runs below it, or none of them can be read.
        """
        folder = Path(run_dir)
        if not folder.is_dir():
            raise FileNotFoundError(f"expected the log directory of a run, but there is no directory {folder}")
        files = sorted(folder.rglob(FILES))
        if not files:
            raise FileNotFoundError(
                f"no results {FILES} below {folder}: expected the log directory of a run with StiffnessCallback"
            )
        places = sorted({file.parent for file in files})
        if len(places) > 1:
            raise ValueError(
                f"expected the log directory of one run, but {folder} holds results in {len(places)} folders: "
                f"{', '.join(map(str, places[:5]))}{', …' if len(places) > 5 else ''}. Load each by itself"
            )
        read = [_read(file) for file in files]
        results = [one for one in read if isinstance(one, StiffnessResult)]
        damaged = [one for one in read if isinstance(one, str)]
        if not results:
            raise ValueError(f"none of the {len(files)} results below {folder} can be read: {damaged[0]}")
        if damaged:
            warnings.warn(
                f"{len(damaged)} of {len(files)} results are left out: {'; '.join(damaged)}", stacklevel=2
            )
        return cls(results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __iter__(self) -> Iterator[StiffnessResult]:
        return iter(self.results)

    @property
    def steps(self) -> Array:
        """Batches trained on at each measurement ``[t]``."""
        return np.array([result.step for result in self.results], dtype=np.int64)

    @property
    def epochs(self) -> Array:
        """Epochs trained at each measurement ``[t]``."""
        return np.array([result.epoch for result in self.results], dtype=np.int64)

    @property
    def tags(self) -> list[str]:
        """Names of all numbers that any result has, as they are logged."""
        return list(dict.fromkeys(tag for result in self.results for tag in result.scalars()))

    def scalar(self, tag: str) -> Array:
        """A number over the run ``[t]``; NaN where a result does not have it.

        Args:
            tag: its name as it is logged, such as ``"stiffness/train-val/cos/within_class"``.

        Raises:
            KeyError: if no result has it; the message lists those there are.
        """
        if tag not in self.tags:
            raise KeyError(f"no result has {tag!r}; there are {', '.join(self.tags)}")
        return np.array([result.scalars().get(tag, math.nan) for result in self.results])

    def class_matrix(self, block: str, measure: str) -> Array:
        """The class matrix over the run ``[t, c, c]``; NaN where a result does not have it.

        Raises:
            KeyError: if no result has it.
            ValueError: if results differ in their classes.
        """
        held = [result.class_matrix.get(block, {}).get(measure) for result in self.results]
        shapes = {matrix.shape for matrix in held if matrix is not None}
        if not shapes:
            raise KeyError(f"no result has a class matrix {block}/{measure}")
        if len(shapes) > 1:
            raise ValueError(f"expected the same classes in every result, got matrices of {sorted(shapes)}")
        missing = np.full(shapes.pop(), math.nan)
        return np.stack([missing if matrix is None else matrix for matrix in held])

    def peak(self, block: str = "train-val", measure: str = "cos") -> Peak | None:
        """Where within-class stiffness was highest, and its fall since; see :func:`within_class_peak`."""
        return within_class_peak(self.results, block, measure)

    def to_xarray(self) -> Any:
        """The run as an ``xarray.Dataset`` over steps.

        Variables: every summary, such as ``within_class``, with the ends of its interval as ``within_class_low``
        and ``within_class_high``, and ``critical_length`` with its ends (step, block, measure);
        ``class_matrix`` (step, block, measure, class_from, class_to); curves as ``curve_mean``, ``curve_low``,
        ``curve_high``, ``curve_count`` and ``distance``, the bin centres (step, block, measure, bin);
        ``seconds`` (step). Coordinates: ``step``, ``epoch``, and class names where there are classes.

        Raises:
            ModuleNotFoundError: without xarray.
            ValueError: if results differ in their classes or their number of bins.
        """
        try:
            xarray = import_module("xarray")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_xarray needs xarray: pip install xarray, or pip install '.[history]' in a clone of the "
                "project; the arrays are in scalar(tag) and class_matrix(block, measure) without it"
            ) from error
        return xarray.Dataset(*dataset_parts(self.results))


def _read(file: Path) -> StiffnessResult | str:
    """The result, or what is wrong with the file."""
    try:
        return StiffnessResult.load(file)
    except ValueError as error:
        return str(error)
