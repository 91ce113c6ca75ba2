"""Results that look like a run's, made in no time."""

from pathlib import Path

import numpy as np

from lightning_stiffness.result import Curve, Length, StiffnessResult

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BLOCKS = ("train-train", "train-val", "val-val")


def result(
    step: int,
    *,
    classes: int = 10,
    groups: int | None = None,
    layers: int = 0,
    progress: float = 0.0,
    fade: float = 0.3,
    seed: int = 0,
) -> StiffnessResult:
    """A network at ``progress`` (0 to 1) through its training that keeps ``fade`` of its stiffness to the end."""
    rng = np.random.default_rng([seed, step])
    fixed = np.random.default_rng(seed).normal(size=(classes, 6))  # what makes classes alike
    kin = fixed @ fixed.T / 6
    np.fill_diagonal(kin, 0)
    mapping = None if groups is None else [i * groups // classes for i in range(classes)]
    names = NAMES[:classes] if classes <= len(NAMES) else [f"class {i}" for i in range(classes)]
    made = StiffnessResult(
        step=step, epoch=step // 100, class_names=names, superclasses=mapping, excluded={"train": 0, "val": 0},
        engine="layerwise", seconds=1.5, settings={"distance": "cosine", "distance_layer": None},
    )  # fmt: skip
    for block in BLOCKS:
        counts = np.full((classes, classes), 2500 if block == "train-val" else 2450)
        for measure in ("cos", "sign"):
            scale = 1.0 if measure == "cos" else 1.6
            keeps = fade if block != "train-train" else min(1.0, fade * 1.6)
            own = 0.74 * (1 - (1 - keeps) * progress)
            matrix = scale * (0.05 * kin * (0.4 + progress) - 0.07 * (1 - progress))
            if mapping is not None:
                same = np.equal.outer(mapping, mapping)
                matrix += scale * 0.25 * progress * same
            matrix += rng.normal(scale=0.01, size=(classes, classes))
            matrix[np.diag_indices(classes)] = scale * (own + 0.05 * fixed[:, 0])
            if block != "train-val":
                matrix = (matrix + matrix.T) / 2
            matrix = matrix.clip(-1, 1)
            own_mean = float(np.diag(matrix).mean())
            other = float(matrix[~np.eye(classes, dtype=bool)].mean()) if classes > 1 else float("nan")
            summary = {"overall": float(matrix.mean()), "within_class": own_mean, "between_class": other}
            if mapping is not None:
                summary["within_superclass"] = float(matrix[same & ~np.eye(classes, dtype=bool)].mean())
                summary["between_superclass"] = float(matrix[~same].mean())
            made.summary.setdefault(block, {})[measure] = summary
            made.class_matrix.setdefault(block, {})[measure] = matrix
            edges = np.linspace(0.05, 1.35, 21)
            centers = (edges[1:] + edges[:-1]) / 2
            slope = -0.25 - 0.6 * progress
            heights = own_mean - slope * 0.7 + slope * centers + rng.normal(scale=0.01, size=20)
            count = (3000 * np.exp(-((centers - 0.8) ** 2) / 0.1)).astype(int)
            mean = np.where(count > 0, heights, np.nan).clip(-1, 1)
            made.curve.setdefault(block, {})[measure] = Curve(
                edges, mean, count, 0.2 / np.sqrt(np.maximum(count, 1))
            )
            xi = 0.7 - own_mean / slope
            made.critical_length.setdefault(block, {})[measure] = Length(
                xi, slope, own_mean - slope * 0.7, int(count.sum()), bool(xi > 1.35), ""
            )
        made.pair_counts[block] = counts
    if layers:
        add_layers(made, layers)
    return made


def add_layers(made: StiffnessResult, layers: int) -> None:
    """Layers that differ from each other and from step to step."""
    made.layer_names[:] = [f"body.block_{i}.attention.projection" for i in range(layers - 1)] + ["head"]
    rng = np.random.default_rng([layers, made.step])
    for block, measures in made.summary.items():
        for measure in measures:
            own, other = rng.uniform(0.1, 0.7, size=layers), rng.uniform(-0.2, 0.1, size=layers)
            numbers = {"overall": own / 2, "within_class": own, "between_class": other}
            table = {name: values.tolist() for name, values in numbers.items()}
            made.layer_summary.setdefault(block, {})[measure] = table


def write_run(folder: Path, steps: int = 5, every: int = 100, **shape) -> Path:
    """A run under ``folder``: ``steps`` results, ``every`` so many batches."""
    for i in range(steps):
        made = result(i * every, progress=i / max(1, steps - 1), **shape)
        made.save(folder / "stiffness" / f"step_{made.step:08d}.npz")
    return folder
