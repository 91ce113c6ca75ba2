"""Stiffness as torchmetrics metrics: sums over updates and processes, thin over ``functional``."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_stiffness import arguments
from lightning_stiffness.arguments import real_tensor
from lightning_stiffness.functional import CriticalLength, DistanceCurve, class_summary
from lightning_stiffness.functional.classes import class_sums
from lightning_stiffness.functional.curve import observed
from lightning_stiffness.functional.length import length_of_line


class ClassStiffness(Metric):
    r"""Class matrix of stiffness over all pairs seen, or one of its means.

    .. math:: C(a, b) = \operatorname{mean}\{ S(i, j) : y_i = a,\ y_j = b,\ i \ne j \}

    (Fort et al., arXiv:1901.09491v3, section 2.3.) Pairs count where an update holds them: processes that share
    a probe each pass their own rows against all columns.

    Args:
        num_classes: number of classes ``c``.
        value: what :meth:`compute` returns: ``"matrix"``, ``"within_class"`` or ``"between_class"``; the last two
            are numbers that ``self.log`` takes.
        options: those of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for another ``value``, less than one class, or other types.

    Example:
        >>> metric = ClassStiffness(2)
        >>> S = torch.tensor([[1.0, 0.5, -0.2], [0.5, 1.0, 0.0], [-0.2, 0.0, 1.0]])
        >>> metric.update(S, torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor([[ 0.5000, -0.1000],
                [-0.1000,     nan]], dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    sums: Tensor
    counts: Tensor

    def __init__(self, num_classes: int, *, value: str = "matrix", **options: Any) -> None:
        super().__init__(**options)
        self.num_classes = arguments.whole("num_classes", num_classes, 1)
        self.value = arguments.choice("value", value, ("matrix", "within_class", "between_class"))
        shape = self.num_classes, self.num_classes
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        stiffness: Tensor,
        labels: Tensor,
        other_labels: Tensor | None = None,
        same_example: Tensor | None = None,
    ) -> None:
        """Add pairs; arguments and errors are those of ``functional.class_stiffness_matrix``.

        Args:
            stiffness: cosine or sign stiffness of every pair ``[n, m]``.
            labels: class of each row ``[n]``.
            other_labels: class of each column ``[m]``; left out, rows and columns are the same examples.
            same_example: mask ``[n, m]`` of the pairs of an example with itself.
        """
        sums, counts = class_sums(
            stiffness, labels, other_labels, num_classes=self.num_classes, same_example=same_example
        )
        self.sums += sums
        self.counts += counts

    def compute(self) -> Tensor:
        """Class matrix ``[c, c]`` in float64, or the mean asked for; NaN where there is no pair."""
        matrix = self.sums / self.counts
        if self.value == "matrix":
            return matrix
        return torch.tensor(class_summary(matrix)[self.value], dtype=matrix.dtype, device=matrix.device)

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> tuple[Any, Any]:
        """The class matrix as a heatmap, or the mean as a point (several values: a line).

        Args:
            val: what :meth:`compute` or ``forward`` returned; by default :meth:`compute` is called.
            ax: matplotlib axes to draw into; by default a new figure with names and caption.

        Returns:
            Figure and axes.
        """
        if self.value != "matrix":
            return self._plot(val, ax)
        matrix = _last(self.compute() if val is None else val, self.sums.shape).detach().cpu().numpy()
        figures = import_module("lightning_stiffness.figures")
        if ax is None:
            figure = figures.heatmap(matrix)
            return figure, figure.axes[0]
        theme = figures.THEMES["light"]
        ax.imshow(matrix, cmap=theme.colormap, vmin=-1, vmax=1)
        ax.set(xlabel="effect on class", ylabel="step taken on class")
        return ax.figure, ax


class DistanceStiffness(Metric):
    r"""Stiffness against distance over all pairs seen, in fixed bins, or its critical length.

    (Fort et al., arXiv:1901.09491v3, sections 2.4 and 2.5; see ``functional.distance_curve`` and
    ``functional.critical_length``.)

    Args:
        bins: number of bins ``b``, of equal width.
        limits: range of the bins, in units of distance. Pairs outside count for the critical length alone.
        value: what :meth:`compute` returns: ``"curve"``, the means ``[b]``, or ``"critical_length"``, a number that
            ``self.log`` takes.
        min_pairs: fewer pairs than this give no critical length.
        options: those of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for another ``value``, less than one bin or pair, limits out of order, or other types.

    Example:
        >>> metric = DistanceStiffness(bins=2, limits=(0.0, 1.0))
        >>> metric.update(torch.tensor([[0.9, 0.7, 0.1]]), torch.tensor([[0.0, 0.5, 1.0]]))
        >>> [round(mean, 3) for mean in metric.compute().tolist()]
        [0.9, 0.4]
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    per_bin: Tensor
    moments: Tensor
    nearest: Tensor
    farthest: Tensor

    def __init__(
        self,
        *,
        bins: int = 20,
        limits: tuple[float, float] = (0.0, 2.0),
        value: str = "curve",
        min_pairs: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        bins = arguments.whole("bins", bins, 1)
        self.limits = arguments.limits("limits", limits, apart=True)
        self.min_pairs = arguments.whole("min_pairs", min_pairs, 1)
        self.value = arguments.choice("value", value, ("curve", "critical_length"))
        # Of y in each bin: number, sum, sum of squares. Of all pairs: number, Σx, Σy, Σx², Σxy, Σy².
        self.add_state("per_bin", torch.zeros(3, bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("moments", torch.zeros(6, dtype=torch.float64), dist_reduce_fx="sum")
        infinity = torch.tensor(torch.inf, dtype=torch.float64)
        self.add_state("nearest", infinity, dist_reduce_fx="min")
        self.add_state("farthest", -infinity, dist_reduce_fx="max")

    def update(self, stiffness: Tensor, distance: Tensor, pairs: Tensor | None = None) -> None:
        """Add pairs.

        Args:
            stiffness: stiffness of every pair ``[n, m]``; NaN pairs are left out.
            distance: distance of every pair ``[n, m]``; NaN pairs are left out.
            pairs: mask ``[n, m]`` of the pairs to take, such as those of one class, each once; by default all.

        Raises:
            ValueError: if the shapes differ, or for other types.
        """
        stiffness = real_tensor("stiffness", stiffness, "n m")
        taken = observed(
            stiffness, distance, torch.ones_like(stiffness, dtype=torch.bool) if pairs is None else pairs
        )
        x, y = taken.distance, taken.stiffness
        if not len(x):
            return
        low, high = self.limits
        bins = self.per_bin.shape[1]
        edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=x.device)
        inside = (x >= low) & (x <= high)
        index = (torch.bucketize(x[inside], edges, right=True) - 1).clamp(0, bins - 1)
        powers = torch.stack([torch.ones_like(y), y, y * y])[:, inside]
        self.per_bin += torch.zeros_like(self.per_bin).index_add(1, index, powers)
        z = x - (low + high) / 2  # nearer to zero, where sums of squares keep their digits
        self.moments += torch.stack([torch.ones_like(y), z, y, z * z, z * y, y * y]).sum(1)
        self.nearest = torch.minimum(self.nearest, x.min())
        self.farthest = torch.maximum(self.farthest, x.max())

    def compute(self) -> Tensor:
        """Mean stiffness in each bin ``[b]``, NaN in an empty one; or the critical length, NaN without one."""
        if self.value == "curve":
            return self.per_bin[1] / self.per_bin[0]
        return torch.tensor(self._length().value, dtype=torch.float64, device=self.moments.device)

    def curve(self) -> DistanceCurve:
        """The means with bin borders, numbers of pairs and standard errors, over all processes."""
        with self.sync_context():
            count, total, squares = self.per_bin.clone()
        edges = torch.linspace(*self.limits, len(count) + 1, dtype=torch.float64, device=count.device)
        mean = total / count
        variance = torch.where(count > 1, (squares - count * mean**2).clamp(min=0.0) / (count - 1), torch.nan)
        return DistanceCurve(edges, mean, count.round().long(), (variance / count).sqrt())

    def critical_length(self) -> CriticalLength:
        """The critical length with its line, over all processes."""
        with self.sync_context():
            return self._length()

    def _length(self) -> CriticalLength:
        count, z, y, zz, zy, yy = self.moments.tolist()
        if not count:
            return length_of_line(0, *[torch.nan] * 7, min_pairs=self.min_pairs)
        return length_of_line(
            round(count),
            z / count + sum(self.limits) / 2,
            y / count,
            zz - z * z / count,
            zy - z * y / count,
            float(self.nearest),
            float(self.farthest),
            (yy / count) ** 0.5,
            min_pairs=self.min_pairs,
        )

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> tuple[Any, Any]:
        """The curve with its critical length, or the critical length as a point (several values: a line).

        Args:
            val: what :meth:`compute` or ``forward`` returned; by default the metric's own curve, with intervals.
            ax: matplotlib axes to draw into; by default a new figure with the counts of pairs.

        Returns:
            Figure and axes.
        """
        if self.value != "curve":
            return self._plot(val, ax)
        curve = self.curve()
        mean = curve.mean if val is None else _last(val, curve.mean.shape)
        if ax is not None:
            ax.plot(curve.centers.cpu(), mean.detach().cpu(), marker="o", linestyle="none")
            ax.axhline(0, color="black", linewidth=1)
            ax.set(xlabel="distance", ylabel="mean stiffness")
            return ax.figure, ax
        figures = import_module("lightning_stiffness.figures")
        if val is not None:
            figure = figures.distance_curve(curve.edges, mean, pairs="chosen", distance="distance")
        else:
            length = self.critical_length()
            figure = figures.distance_curve(
                curve.edges,
                mean,
                curve.stderr,
                curve.count,
                line=(length.slope, length.intercept),
                critical_length=length.value,
                reason=length.reason,
                extrapolated=length.extrapolated,
                pairs="chosen",
                distance="distance",
            )
        return figure, figure.axes[0]


def _last(values: Tensor | Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """The last of what was computed."""
    last = values[-1] if isinstance(values, list | tuple) and values else values
    if not isinstance(last, Tensor) or last.shape != tuple(shape):
        got = list(last.shape) if isinstance(last, Tensor) else arguments.shown(last)
        raise ValueError(
            f"expected val to be what compute() returned, a tensor {list(shape)}, or a list of such, got {got}"
        )
    return last
