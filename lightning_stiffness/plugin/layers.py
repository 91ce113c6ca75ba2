"""What is shown of a result's layers: a few means of each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_stiffness.result import StiffnessResult

KINDS = ("within_class", "between_class", "overall")
"""Means of a layer that are shown; the last one only where there are no classes."""


def layer_means(result: StiffnessResult, block: str, measure: str) -> dict[str, NDArray[Any]]:
    """The means of each layer that are shown.

    Args:
        result: as it was loaded.
        block: such as ``"train-val"``.
        measure: such as ``"cos"``.

    Returns:
        ``within_class`` and ``between_class``, or ``overall`` where there are no classes → values ``[l]``, NaN
        where there is none; empty where no layers were told apart.

    Raises:
        ValueError: if there is not one value for each layer.

    Example:
        >>> numbers = {"val-val": {"cos": {"overall": [0.25], "within_class": [0.5], "between_class": [0.125]}}}
        >>> result = StiffnessResult(step=9, epoch=1, layer_names=["head"], layer_summary=numbers)
        >>> {name: values.tolist() for name, values in layer_means(result, "val-val", "cos").items()}
        {'within_class': [0.5], 'between_class': [0.125]}
    """
    names = result.layer_names
    numbers = result.layer_summary.get(block, {}).get(measure, {}) if names else {}
    kinds = [kind for kind in KINDS if kind in numbers]
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if kind != "overall"]
    means = {kind: np.array(numbers[kind], dtype=np.float64) for kind in kinds}
    for kind, values in means.items():
        if values.shape != (len(names),):
            raise ValueError(f"expected {kind} of {len(names)} layers, got shape {list(values.shape)}")
    return means
