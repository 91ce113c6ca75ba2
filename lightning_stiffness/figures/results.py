"""The figures of one measurement."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lightning_stiffness.figures.curve import distance_curve
from lightning_stiffness.figures.layers import layer_curve
from lightning_stiffness.figures.matrix import heatmap
from lightning_stiffness.figures.moment import epoch_of
from lightning_stiffness.figures.style import MEASURES
from lightning_stiffness.result import StiffnessResult


def class_matrix_figure(
    result: StiffnessResult,
    block: str,
    measure: str = "cos",
    *,
    order: str | Sequence[int] | None = None,
    theme: str = "light",
) -> Figure:
    """Heatmap of one class matrix of a result; see :func:`heatmap`.

    Args:
        result: a measurement.
        block: ``"train-train"``, ``"train-val"`` or ``"val-val"``.
        measure: ``"cos"`` or ``"sign"``.
        order: ``"given"``, ``"group"``, ``"cluster"`` or the classes in the order to show; by default by group
            where there are groups, those of the coarsest level together.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if the result has no such matrix; the message lists those it has.

    Example:
        >>> import numpy as np
        >>> result = StiffnessResult(step=9, epoch=1, class_matrix={"val-val": {"cos": np.eye(2)}})
        >>> texts = [text.get_text() for text in class_matrix_figure(result, "val-val").texts]
        >>> "cosine stiffness, val → val · epoch 1, step 9" in texts
        True
    """
    matrix = _entry(result.class_matrix, "class matrix", block, measure)
    rows, columns = block.split("-")
    levels = result.superclass_levels
    if levels and order in (None, "group"):
        order = sorted(range(len(matrix)), key=lambda a: [groups[a] for groups in reversed(levels)])
    p_values = result.superclass_p_value.get(block, {}).get(measure, [])
    return heatmap(
        matrix,
        class_names=result.class_names,
        groups=result.superclasses,
        group_names=result.superclass_names[0] if result.superclass_names else None,
        order=order,
        counts=result.pair_counts.get(block),
        intervals=result.interval.get(block, {}).get(measure),
        p_value=p_values[0] if p_values else math.nan,
        measure=measure,
        title=_title(result, block, measure),
        row_label=f"step taken on ({rows} examples)",
        column_label=f"effect on ({columns} examples)",
        theme=theme,
    )


def distance_curve_figure(
    result: StiffnessResult, block: str, measure: str = "cos", *, theme: str = "light"
) -> Figure:
    """Stiffness against distance of a result, with ξ; see :func:`distance_curve`.

    Args:
        result: a measurement.
        block: ``"train-train"``, ``"train-val"`` or ``"val-val"``.
        measure: ``"cos"`` or ``"sign"``.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if the result has no such curve; the message lists those it has.

    Example:
        >>> import numpy as np
        >>> from lightning_stiffness.result import Curve
        >>> curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.4, -0.2]), np.array([3, 5]), np.array([0.1, 0.1]))
        >>> result = StiffnessResult(step=9, epoch=1, curve={"val-val": {"cos": curve}})
        >>> len(distance_curve_figure(result, "val-val").axes)
        2
    """
    curve = _entry(result.curve, "distance curve", block, measure)
    length = result.critical_length.get(block, {}).get(measure)
    return distance_curve(
        curve.edges,
        curve.mean,
        curve.stderr if curve.low is None or curve.high is None else (curve.low, curve.high),
        curve.count,
        line=None if length is None else (length.slope, length.intercept),
        critical_length=None if length is None else length.value,
        critical_interval=None if length is None else (length.low, length.high),
        reason="" if length is None else length.reason,
        extrapolated=length is not None and length.extrapolated,
        measure=measure,
        pairs="of any two examples" if result.class_names is None else "of the same class",
        distance=_distance(result),
        title=_title(result, block, measure),
        theme=theme,
    )


def layer_figure(result: StiffnessResult, block: str, measure: str = "cos", *, theme: str = "light") -> Figure:
    """Stiffness of each layer of a result; see :func:`layer_curve`.

    Args:
        result: a measurement with ``per_layer``.
        block: ``"train-train"``, ``"train-val"`` or ``"val-val"``.
        measure: ``"cos"`` or ``"sign"``.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        ValueError: if the result tells no layers apart.

    Example:
        >>> numbers = {"val-val": {"cos": {"within_class": [0.5], "between_class": [0.1]}}}
        >>> result = StiffnessResult(step=9, epoch=1, layer_names=["head"], layer_summary=numbers)
        >>> [label.get_text() for label in layer_figure(result, "val-val").axes[0].get_yticklabels()]
        ['head']
    """
    numbers = _entry(result.layer_summary, "table of layers", block, measure)
    whole = result.summary.get(block, {}).get(measure, {})
    return layer_curve(
        result.layer_names, numbers, whole=whole, measure=measure, title=_title(result, block, measure), theme=theme
    )


def _distance(result: StiffnessResult) -> str:
    """Between what the distance is, in words."""
    name, layer = result.settings.get("distance"), result.settings.get("distance_layer")
    kind = f"{name} distance" if name else "distance"
    return f"{kind} between the two inputs" if layer is None else f"{kind} between the outputs of {layer}"


def _entry(table: dict[str, dict[str, Any]], kind: str, block: str, measure: str) -> Any:
    if measure in table.get(block, {}):
        return table[block][measure]
    held = ", ".join(f"{known}/{name}" for known, measures in table.items() for name in measures)
    raise ValueError(f"expected a {kind} that the result holds ({held or 'it holds none'}), got {block}/{measure}")


def _title(result: StiffnessResult, block: str, measure: str) -> str:
    rows, columns = block.split("-")
    epoch = epoch_of(result)
    at = f"step {result.step}" if epoch is None else f"epoch {epoch}, step {result.step}"
    return f"{MEASURES[measure]}, {rows} → {columns} · {at}"
