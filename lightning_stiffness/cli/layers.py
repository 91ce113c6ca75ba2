"""The layers of a result as a table."""

from typing import Any

from lightning_stiffness.cli.heat import style_of
from lightning_stiffness.plugin.layers import layer_means
from lightning_stiffness.report.words import number
from lightning_stiffness.result import StiffnessResult

TITLES = {"within_class": "same class", "between_class": "other classes", "overall": "any two"}


def layer_table(result: StiffnessResult, block: str, measure: str) -> Any:
    """The mean stiffness of each layer, on the colours of the class matrix.

    Args:
        result: a measurement.
        block: such as ``"train-val"``.
        measure: such as ``"cos"``.

    Returns:
        A table of rich, or None where no layers were told apart.

    Example:
        >>> numbers = {"val-val": {"cos": {"overall": [0.25, -0.5]}}}
        >>> result = StiffnessResult(step=9, epoch=1, layer_names=["body", "head"], layer_summary=numbers)
        >>> table = layer_table(result, "val-val", "cos")
        >>> [column.header for column in table.columns], table.row_count
        (['layer', 'any two'], 2)
        >>> layer_table(result, "train-val", "cos") is None
        True
    """
    means = layer_means(result, block, measure)
    if not means:
        return None
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for kind in means:
        table.add_column(TITLES[kind], justify="right", no_wrap=True)
    for name, *values in zip(result.layer_names, *means.values(), strict=True):
        cells = (Text(f" {number(float(value), 3)} ", style_of(float(value))) for value in values)
        table.add_row(Text(" ".join(name.split())), *cells)
    return table
