"""What a run's stiffness says about generalisation, in words; a reading aid, not a test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_stiffness.figures.intervals import number
from lightning_stiffness.plugin.frames import Frame, View

NOTHING, CLEAR, STRONG = 0.02, 0.1, 0.5
"""Mean stiffness from which a step slightly affects, affects, strongly affects another example."""
NOTED = 0.9
"""Share of its peak below which the peak is told."""
FADED = 2 / 3
"""Share of its peak, or of what training examples gain, below which the help to unseen examples has faded.

On 5,000 digits of MNIST with Adam at a learning rate of 0.001, the validation loss was lowest after 4 epochs and a
fifth higher after 20; the mean passed two thirds of its peak between the 11th and the 15th."""


@dataclass(frozen=True)
class Verdict:
    """Whether the network is learning what generalises."""

    kind: str
    """``"good"``, ``"fading"``, ``"bad"``, ``"start"`` (not trained yet) or ``"unknown"``."""
    headline: str
    detail: str


def verdicts(frames: Sequence[Frame]) -> list[Verdict]:
    """A verdict for every step, each from what was known by then.

    It rests on the mean stiffness of a training with a validation example, of the same class where there are
    classes. In Fort et al. (arXiv:1901.09491v3, section 3.1) it starts high and falls towards 0 as overfitting
    sets in, so its size, its fall from its peak, and its distance from the same among training examples count.

    Args:
        frames: the run's frames, by step.

    Returns:
        One verdict per frame.

    Example:
        >>> view = View({"within_class": 0.6, "between_class": 0.05})
        >>> frame = Frame(step=9, epoch=1, views={("train-val", "cos"): view})
        >>> verdicts([frame])[0].headline
        'Yes: a step on one training example strongly helps unseen examples of its class (0.60).'
    """
    found = []
    peak, peak_step = -math.inf, 0
    for frame in frames:
        value = _value(_view(frame, "train-val"))
        # A network that was never trained has learned nothing that it could lose.
        if value > peak and frame.step > 0:
            peak, peak_step = value, frame.step
        found.append(_verdict(frame, peak, peak_step))
    return found


def effect(value: float) -> str:
    """What a mean stiffness says, in words: the words of the figures.

    Example:
        >>> effect(0.6), effect(0.04), effect(-0.01), effect(-0.2)
        ('strongly helps', 'slightly helps', 'hardly affects', 'hurts')
    """
    if abs(value) < NOTHING:
        return "hardly affects"
    verb = "helps" if value > 0 else "hurts"
    return f"strongly {verb}" if abs(value) >= STRONG else verb if abs(value) >= CLEAR else f"slightly {verb}"


def _verdict(frame: Frame, peak: float, peak_step: int) -> Verdict:
    view, train = _view(frame, "train-val"), _value(_view(frame, "train-train"))
    value = _value(view)
    if view is None:
        return Verdict(
            "unknown",
            "No verdict: only one set of examples was measured.",
            "Whether steps on training examples help unseen ones needs both: give the Trainer validation data, and "
            'the callback splits=("train", "val").',
        )
    if math.isnan(value):
        return Verdict("unknown", "No verdict: no pair of examples could be measured.", _excluded(frame))
    kin = " of its class" if _name(view) == "within_class" else ""
    told = number(value)
    detail = _details(frame, view, train)
    if NOTED * peak > value:
        detail = f"It was {number(peak)} at step {peak_step:,}. {detail}"
    if frame.step == 0:
        return Verdict(
            "start",
            f"Not trained yet: a step on one training example {effect(value)} unseen examples{kin} ({told}).",
            "To a new network examples look alike, so that this is often high. What counts is whether it stays "
            "high while the network is trained.",
        )
    claim = f"a step on one training example {effect(value)} unseen examples{kin} ({told})"
    low, high = view.intervals.get(_name(view), (math.nan, math.nan))
    if value < NOTHING or low <= 0:
        doubt = f", which cannot be told from 0 (95%: {number(low)} to {number(high)})" if value >= NOTHING else ""
        return Verdict(
            "bad",
            f"No: {claim}{doubt}.",
            "The network now learns its examples one by one (memorises), or it has nothing left to learn. "
            + detail,
        )
    if value < FADED * peak:
        return Verdict(
            "fading",
            f"Less and less: {claim}.",
            f"{detail} When the training loss still falls, this is overfitting setting in.",
        )
    if value < FADED * train:
        return Verdict(
            "fading",
            f"Only in part: {claim}, but other training examples far more ({number(train)}).",
            "The network treats the two sets differently: part of what it learns serves training examples only. "
            + detail,
        )
    if value < CLEAR:
        return Verdict("fading", f"Barely: {claim}.", detail)
    return Verdict("good", f"Yes: {claim}.", detail)


def _details(frame: Frame, view: View, train: float) -> str:
    sentences = []
    if not math.isnan(train):
        sentences.append(f"Among training examples alone the same number is {number(train)}.")
    between = view.summary.get("between_class", math.nan)
    if not math.isnan(between):
        sentences.append(f"It {effect(between)} examples of other classes ({number(between)}).")
    if frame.excluded:
        sentences.append(_excluded(frame))
    return " ".join(sentences)


def _excluded(frame: Frame) -> str:
    few = "1 example is" if frame.excluded == 1 else f"{frame.excluded:,} examples are"
    return f"{few} left out, since their gradient is zero or not finite." if frame.excluded else ""


def _view(frame: Frame, block: str) -> View | None:
    return frame.views.get((block, "cos")) or frame.views.get((block, "sign"))


def _name(view: View) -> str:
    """The number that the verdict rests on; without a pair of the same class, it is the mean over all pairs."""
    return "overall" if math.isnan(view.summary.get("within_class", math.nan)) else "within_class"


def _value(view: View | None) -> float:
    return math.nan if view is None else view.summary.get(_name(view), math.nan)
