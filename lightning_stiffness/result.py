"""What one measurement found: labelled arrays, saved without pickle."""

import json
import math
import os
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "lightning-stiffness/1"
"""Marks a file as ours; the number goes up when older readers could not understand it."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Curve:
    """Stiffness against distance, in ``b`` bins (see ``functional.distance_curve``)."""

    edges: Array
    """Bin borders ``[b + 1]``."""
    mean: Array
    """Mean stiffness ``[b]``; NaN in an empty bin."""
    count: Array
    """Number of pairs ``[b]``."""
    stderr: Array
    """Standard error of the mean ``[b]``, with the pairs taken as independent."""

    @property
    def centers(self) -> Array:
        """Bin centres ``[b]``."""
        return (self.edges[:-1] + self.edges[1:]) / 2


@dataclass(frozen=True)
class Length:
    """A dynamical critical length (see ``functional.critical_length``)."""

    value: float
    slope: float
    intercept: float
    pairs: int
    extrapolated: bool
    reason: str


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
    probe_indices: dict[str, Array] = field(default_factory=dict)
    """Split → indices ``[n]`` of its examples in its dataset; -1 where there is no index."""
    probe_labels: dict[str, Array] = field(default_factory=dict)
    """Split → class of each example ``[n]``, as a position in ``class_names``."""
    class_matrix: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → class matrix ``[c, c]``."""
    pair_counts: dict[str, Array] = field(default_factory=dict)
    """Block → number of pairs behind each cell ``[c, c]``."""
    superclass_matrix: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Block → measure → coarse class matrix ``[s, s]``."""
    summary: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Block → measure → ``within_class``, ``between_class``, ``overall``, … → value."""
    curve: dict[str, dict[str, Curve]] = field(default_factory=dict)
    """Block → measure → stiffness against distance."""
    critical_length: dict[str, dict[str, Length]] = field(default_factory=dict)
    """Block → measure → dynamical critical length."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Split → number of examples whose gradient is zero or not finite."""
    seconds: float = math.nan
    """Time the measurement took."""
    engine: str = ""
    """Engine that computed the gradients' inner products."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it was measured: plain values."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages at work."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know: what was left out, and why."""

    @property
    def blocks(self) -> list[str]:
        """The blocks measured, in order."""
        return list(self.summary)

    def scalars(self) -> dict[str, float]:
        """Every number that is logged, by the name it is logged under."""
        values = {
            f"stiffness/{block}/{measure}/{name}": value
            for block, measures in self.summary.items()
            for measure, numbers in measures.items()
            for name, value in numbers.items()
        }
        for block, measures in self.critical_length.items():
            for measure, length in measures.items():
                values[f"stiffness/{block}/{measure}/critical_length"] = length.value
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
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = StiffnessResult(step=3, epoch=1).save(Path(folder) / "result.npz")
            ...     StiffnessResult.load(path).step
            3
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays, meta = self._to_arrays()
        # Written beside its place and moved there: a run killed meanwhile leaves no half file.
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez_compressed(stream, meta=np.array(json.dumps(meta)), **arrays)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return path

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
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            meta = json.loads(str(arrays.pop("meta")[()]))
            if meta.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls._from_arrays(arrays, meta)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is damaged or no stiffness result ({type(error).__name__}: {error}): expected a file "
                f"written by StiffnessResult.save, format {FORMAT}"
            ) from error

    def _to_arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays: dict[str, Array] = {}
        for split, indices in self.probe_indices.items():
            arrays[f"probe_indices/{split}"] = indices
        for split, labels in self.probe_labels.items():
            arrays[f"probe_labels/{split}"] = labels
        for block, counts in self.pair_counts.items():
            arrays[f"pair_counts/{block}"] = counts
        for kind in ("class_matrix", "superclass_matrix"):
            for block, measures in getattr(self, kind).items():
                for measure, matrix in measures.items():
                    arrays[f"{kind}/{block}/{measure}"] = matrix
        for block, curves in self.curve.items():
            for measure, curve in curves.items():
                for name in ("edges", "mean", "count", "stderr"):
                    arrays[f"curve/{block}/{measure}/{name}"] = getattr(curve, name)
        plain = ("step", "epoch", "class_names", "superclasses", "summary", "excluded", "seconds", "engine")
        meta = {name: getattr(self, name) for name in (*plain, "settings", "versions", "notes")}
        meta["critical_length"] = {
            block: {measure: vars(length) for measure, length in lengths.items()}
            for block, lengths in self.critical_length.items()
        }
        return arrays, {"format": FORMAT, **meta}

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array], meta: dict[str, Any]) -> "StiffnessResult":
        nested: dict[str, Any] = {}
        for name, array in arrays.items():
            *parents, last = name.split("/")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = array
        curves = {
            block: {measure: Curve(**fields) for measure, fields in measures.items()}
            for block, measures in nested.pop("curve", {}).items()
        }
        lengths = {
            block: {measure: Length(**fields) for measure, fields in measures.items()}
            for block, measures in meta.pop("critical_length").items()
        }
        return cls(**meta, **nested, curve=curves, critical_length=lengths)
