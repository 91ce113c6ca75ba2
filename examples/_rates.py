"""Stiffness and critical length against the learning rate: a table and a figure."""

import math

import numpy as np
from matplotlib.figure import Figure

from lightning_stiffness import StiffnessResult

BLOCK, MEASURE = "train-val", "cos"
Found = dict[float, list[StiffnessResult]]
"""Learning rate → the measurements of its run."""


def rates_table(found: Found) -> str:
    """Learning rate against what was measured last, with 95% intervals over the probe's examples."""
    lines = [
        f"Stiffness at the end, {BLOCK}, {MEASURE}, with 95% intervals",
        f"{'rate':>8} {'within class':>26} {'between class':>28} {'critical length ξ':>28}",
    ]
    for rate, results in found.items():
        last = results[-1]
        within, between = (_mean(last, name) for name in ("within_class", "between_class"))
        length = last.critical_length[BLOCK][MEASURE]
        xi = _told(length.value, length.low, length.high, "*" if length.extrapolated else "")
        lines.append(f"{rate:>8g} {_told(*within):>26} {_told(*between):>28} {xi:>28}")
    if any("*" in line for line in lines):
        lines.append("  * outside the distances that occur in the data, so extrapolated")
    return "\n".join(lines)


def rates_figure(found: Found) -> Figure:
    """Stiffness and ξ at the end against the rate; bars are 95% intervals over the probe's examples."""
    rates = np.array(list(found))
    figure = Figure(figsize=(9, 4), layout="constrained")
    stiffness, length = figure.subplots(1, 2)
    lasts = [results[-1] for results in found.values()]
    for name, label, colour, marker in (
        ("within_class", "within a class", "#0072b2", "o"),
        ("between_class", "between classes", "#d55e00", "s"),
    ):
        _bars(stiffness, rates, [_mean(last, name) for last in lasts], colour, marker, label)
    stiffness.axhline(0, color="0.6", linewidth=0.8)
    stiffness.set_ylabel(f"{MEASURE} stiffness, {BLOCK}")
    stiffness.legend(frameon=False)
    lengths = [last.critical_length[BLOCK][MEASURE] for last in lasts]
    _bars(length, rates, [(one.value, one.low, one.high) for one in lengths], "#009e73", "D", "ξ")
    beyond = any(one.extrapolated and math.isfinite(one.value) for one in lengths)
    length.set_ylabel("critical length ξ (cosine distance)" + ("\n* extrapolated" if beyond else ""))
    for rate, one in zip(rates, lengths, strict=True):
        if math.isnan(one.value):
            length.annotate("no ξ", (rate, 0.02), xycoords=("data", "axes fraction"), ha="center", color="0.4")
        elif one.extrapolated:
            length.annotate("*", (rate, one.value), (7, 0), textcoords="offset points", size=14, color="#009e73")
    for axes in (stiffness, length):
        axes.set_xscale("log")
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set_xlabel("learning rate")
        axes.spines[["top", "right"]].set_visible(False)
    epoch = lasts[0].epoch
    figure.suptitle(f"What the learning rate does to stiffness, after {epoch} epoch{'s' if epoch != 1 else ''}")
    return figure


def _mean(result: StiffnessResult, name: str) -> tuple[float, float, float]:
    value = result.summary[BLOCK][MEASURE][name]
    return value, *result.interval[BLOCK][MEASURE][name]


def _told(value: float, low: float, high: float, mark: str = "") -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.4g}{mark}" + ("" if math.isnan(low) or low == high else f" [{low:.4g}, {high:.4g}]")


def _bars(axes, rates, values, colour: str, marker: str, label: str) -> None:
    middle, low, high = np.array(values, dtype=float).T
    # An end that the data leave open has no bar on its side.
    reach = [np.where(np.isfinite(end), np.abs(middle - end), 0) for end in (low, high)]
    axes.errorbar(rates, middle, reach, color=colour, marker=marker, capsize=4, label=label)
