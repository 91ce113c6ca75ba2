"""What one measurement found: labelled arrays, saved without pickle."""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lightning_stiffness.curves import Curve, Interval, Length
from lightning_stiffness.storage import DAMAGE, Array, read_file, write_file

FORMAT = "lightning-stiffness/1"
"""Marks a file as ours; the number goes up when older readers could not understand it."""

T = TypeVar("T")


@dataclass(frozen=True)
class StiffnessResult:
    """Stiffness of a network at one moment of its training.

    Blocks are ``"train-train"``, ``"train-val"`` and ``"val-val"``, measures ``"cos"`` and ``"sign"``.

    Example:
        >>> result = StiffnessResult(step=3, epoch=0, summary={"train-train": {"cos": {"within_class": 0.5}}})
        >>> result.scalars()["stiffness/train-train/cos/within_class"]
        0.5
    """

    step: int
    """Batches trained on before."""
    epoch: int
    """Epochs trained before."""
    class_names: list[str] | None = None
    """Names of the ``c`` classes; None where the examples have no classes."""
    superclasses: list[int] | None = None
    """Group of each class; None where no groups were given."""
    further_superclasses: list[list[int]] = field(default_factory=list)
    """Group of each class on the second level of groups, the third, …"""
    superclass_names: list[list[str]] = field(default_factory=list)
    """Names of the groups, level by level; empty where none were given."""
    probe_indices: dict[str, Array] = field(default_factory=dict)
    """Split → indices ``[n]`` of its examples in its dataset; -1 where there is no index."""
    probe_labels: dict[str, Array] = field(default_factory=dict)
    """Split → class of each example ``[n]``, as a position in ``class_names``."""
    class_matrix: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → class matrix ``[c, c]``."""
    class_interval: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → ends of the 95% interval of each cell ``[2, c, c]``, bootstrapped over examples; NaN where
    the pairs leave it open."""
    pair_counts: dict[str, Array] = field(default_factory=dict)
    """Block → number of pairs behind each cell ``[c, c]``."""
    superclass_matrix: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → coarse class matrix ``[s, s]``, of the first level of groups."""
    superclass_p_value: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Block → measure → for each level of groups, how likely chance makes it as visible
    (see ``functional.grouping_test``)."""
    layer_names: list[str] = field(default_factory=list)
    """Names of the ``l`` layers that are told apart; empty where none are."""
    layer_class_matrix: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → class matrix of each layer's gradients ``[l, c, c]``."""
    layer_summary: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    """Block → measure → ``within_class``, ``between_class``, ``overall`` → value of each layer."""
    summary: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Block → measure → ``within_class``, ``between_class``, ``overall``, … → value. The names of a second level
    of groups end in ``_2``."""
    interval: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    """Block → measure → the same names → ends of the 95% interval, bootstrapped over examples."""
    curve: dict[str, dict[str, Curve]] = field(default_factory=dict)
    """Block → measure → stiffness against distance."""
    critical_length: dict[str, dict[str, Length]] = field(default_factory=dict)
    """Block → measure → dynamical critical length."""
    class_critical_length: dict[str, dict[str, list[Length]]] = field(default_factory=dict)
    """Block → measure → that of each class, in the order of ``class_names``."""
    diagnostics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Split → ``gradient_coherence``, ``gradient_diversity``, ``gradient_confusion``, ``effective_rank``."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Split → number of examples whose gradient is zero or not finite."""
    seconds: float = math.nan
    """Time the measurement took."""
    engine: str = ""
    """Engine that computed the gradients' inner products."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Plain values that say how it was measured."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages at work."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know, such as what was left out, and why."""

    @property
    def blocks(self) -> list[str]:
        """The blocks measured, in order."""
        return list(self.summary)

    @property
    def superclass_levels(self) -> list[list[int]]:
        """Group of each class on every level of groups, the finest first."""
        return [] if self.superclasses is None else [self.superclasses, *self.further_superclasses]

    def scalars(self) -> dict[str, float]:
        """Every number that is logged, by the name it is logged under."""
        values = {
            f"stiffness/{block}/{measure}/{name}": value
            for block, measures in self.summary.items()
            for measure, numbers in measures.items()
            for name, value in numbers.items()
        }
        for block, measures in self.layer_summary.items():
            for measure, numbers in measures.items():
                told = {
                    name: numbers[name] for name in ("within_class", "between_class") if name in numbers
                } or numbers
                for name, of_layers in told.items():
                    for layer, value in zip(self.layer_names, of_layers, strict=True):
                        values[f"stiffness/{block}/{measure}/{name}/{layer}"] = value
        for block, measures in self.critical_length.items():
            for measure, length in measures.items():
                values[f"stiffness/{block}/{measure}/critical_length"] = length.value
        for split, numbers in self.diagnostics.items():
            values |= {f"stiffness/{split}/{name}": value for name, value in numbers.items()}
        values["stiffness/excluded_examples"] = float(sum(self.excluded.values()))
        values["stiffness/seconds"] = self.seconds
        return values

    def save(self, path: str | Path) -> Path:
        """Write the result to one ``.npz`` file, whole or not at all.

        Args:
            path: the file; its folder is made where it is missing.

        Returns:
            The path written.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = StiffnessResult(step=3, epoch=1).save(Path(folder) / "result.npz")
            ...     StiffnessResult.load(path).step
            3
        """
        arrays, meta = self._to_arrays()
        return write_file(path, arrays, {"format": FORMAT, **meta})

    @classmethod
    def load(cls, path: str | Path) -> "StiffnessResult":
        """Read a result that :meth:`save` wrote.

        Args:
            path: the ``.npz`` file.

        Returns:
            The result.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged or was not written by :meth:`save`; the message names it.
        """
        try:
            arrays, meta = read_file(path)
            if (found := meta.pop("format")) != FORMAT:
                raise ValueError(f"format {found}")
            return cls._from_arrays(arrays, meta)
        except FileNotFoundError:
            raise
        except DAMAGE as error:
            raise ValueError(
                f"{path} is damaged or no stiffness result: expected a file written by StiffnessResult.save, "
                f"format {FORMAT}, got {_what_came(Path(path), error)}"
            ) from error

    def _to_arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays: dict[str, Array] = {}
        for split, indices in self.probe_indices.items():
            arrays[f"probe_indices/{split}"] = indices
        for split, labels in self.probe_labels.items():
            arrays[f"probe_labels/{split}"] = labels
        for block, counts in self.pair_counts.items():
            arrays[f"pair_counts/{block}"] = counts
        for kind in MATRICES:
            for block, measures in getattr(self, kind).items():
                for measure, matrix in measures.items():
                    arrays[f"{kind}/{block}/{measure}"] = matrix
        for block, curves in self.curve.items():
            for measure, curve in curves.items():
                for name, array in vars(curve).items():
                    if array is not None:
                        arrays[f"curve/{block}/{measure}/{name}"] = array
        meta = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NOT_PLAIN}
        meta["critical_length"] = _each(self.critical_length, vars)
        meta["class_critical_length"] = _each(self.class_critical_length, lambda listed: [vars(x) for x in listed])
        return arrays, meta

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array], meta: dict[str, Any]) -> "StiffnessResult":
        nested: dict[str, Any] = {}
        for name, array in arrays.items():
            *parents, last = name.split("/")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = array
        nested["curve"] = _each(nested.pop("curve", {}), lambda values: _of(Curve, values))
        values = {**meta, **nested}
        values["critical_length"] = _each(meta["critical_length"], lambda values: _of(Length, values))
        per_class = meta.get("class_critical_length", {})
        values["class_critical_length"] = _each(
            per_class, lambda listed: [_of(Length, values) for values in listed]
        )
        intervals = meta.get("interval", {})
        values["interval"] = _each(intervals, lambda named: {name: tuple(ends) for name, ends in named.items()})
        return _of(cls, values)


MATRICES = ("class_matrix", "class_interval", "superclass_matrix", "layer_class_matrix")
"""Fields that hold block → measure → matrices."""

_NOT_PLAIN = {
    *("probe_indices", "probe_labels", "pair_counts", *MATRICES, "curve"),
    *("critical_length", "class_critical_length"),
}
"""Fields that hold arrays or dataclasses; the others are kept as JSON."""


def _what_came(path: Path, error: Exception) -> str:
    """What a file is that is no result. NumPy's own words are kept back: they advise to load it unsafely."""
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        return "a folder" if path.is_dir() else told
    if not path.stat().st_size:
        return "an empty file"
    if not zipfile.is_zipfile(path):
        return "an .npz file that breaks off" if path.read_bytes()[:2] == b"PK" else "a file of another kind"
    if isinstance(error, KeyError) and error.args == ("meta",):
        return "an .npz file of something else"
    return "objects that only pickle could read" if "pickle" in str(error) else told


def _each(table: dict[str, dict[str, Any]], change: Callable[[Any], Any]) -> dict[str, dict[str, Any]]:
    """Every entry of block → measure → entry, changed."""
    return {block: {name: change(entry) for name, entry in entries.items()} for block, entries in table.items()}


def _of(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from its fields; what a later version added is left aside."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})
