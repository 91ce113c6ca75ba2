"""Coloured shapes and patterns, drawn in the place of CIFAR, whose licence does not let it come along."""

from collections.abc import Callable

import numpy as np
from _images import Array, Images

SIDE = 32
PER_CLASS = {10: (500, 100), 100: (50, 10)}
"""Images of each class for training and for testing, by the number of classes: as many as a tenth of CIFAR."""
COLOURS = {
    "red": (215, 55, 50),
    "green": (60, 165, 75),
    "blue": (50, 95, 210),
    "yellow": (230, 200, 60),
    "grey": (130, 130, 135),
}

# Where a figure is, seen from its middle: x to the right and y down, both about -1 to 1 across it.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: x**2 + y**2 < 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (y < 0.8) & (y > 2 * abs(x) - 1),
    "ring": lambda x, y: (x**2 + y**2 < 1) & (x**2 + y**2 > 0.35),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.28) & (np.maximum(abs(x), abs(y)) < 1),
    "diamond": lambda x, y: abs(x) + abs(y) < 1,
    "bar": lambda x, y: (abs(y) < 0.35) & (abs(x) < 1.1),
    "arch": lambda x, y: (x**2 + y**2 < 1) & (x**2 + y**2 > 0.35) & (y < 0.1),
    "corner": lambda x, y: (np.maximum(abs(x), abs(y)) < 0.9) & ((x < -0.25) | (y > 0.25)),
    "pair": lambda x, y: (abs(x) - 0.6) ** 2 + y**2 < 0.2,
}
PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "rows": lambda x, y: np.sin(9 * y) > 0,
    "columns": lambda x, y: np.sin(9 * x) > 0,
    "slopes": lambda x, y: np.sin(6.5 * (x + y)) > 0,
    "checks": lambda x, y: np.sin(8 * x) * np.sin(8 * y) > 0,
    "dots": lambda x, y: np.cos(9 * x) + np.cos(9 * y) > 0.7,
    "grid": lambda x, y: np.maximum(np.cos(8 * x), np.cos(8 * y)) > 0.75,
    "rings": lambda x, y: np.sin(10 * np.hypot(x, y)) > 0,
    "rays": lambda x, y: np.sin(9 * np.arctan2(y, x)) > 0,
    "waves": lambda x, y: np.sin(8 * y + 2 * np.sin(6 * x)) > 0,
    "zigzag": lambda x, y: np.sin(8 * y + 5 * abs(np.mod(x, 1) - 0.5)) > 0,
}


def draw_shapes(classes: int, why: str, seed: int = 0) -> Images:
    """Images of 10 classes (five shapes, five patterns) or of 100 (ten of either in five colours each).

    The hundred classes are in 20 groups, one for each shape and pattern, and on a second level in two: shapes and
    patterns. Place, size, turn, shade, background and noise are drawn by chance, always the same for one seed.

    Args:
        classes: 10 or 100.
        why: why they are used, for :attr:`Images.source`.
        seed: of the draws; no global random state is read or changed.
    """
    generator = np.random.default_rng(seed)
    take = 5 if classes == 10 else 10
    figures = {**dict(list(SHAPES.items())[:take]), **dict(list(PATTERNS.items())[:take])}
    colours = [None] if classes == 10 else list(COLOURS)
    names, groups, drawn = [], [], []
    train, test = PER_CLASS[classes]
    for group, (figure, inside) in enumerate(figures.items()):
        for colour in colours:
            names.append(figure if colour is None else f"{colour} {figure}")
            groups.append(group)
            drawn.append(_draw(inside, figure in SHAPES, colour, train + test, generator))
    pictures = np.stack(drawn, axis=1)  # [n, c, 32, 32, 3]: the classes take turns
    labels = np.tile(np.arange(classes, dtype=np.uint8), train + test)
    pictures, cut = pictures.reshape(-1, SIDE, SIDE, 3), train * classes
    levels = [] if classes == 10 else [groups, [int(group >= take) for group in groups]]
    return Images(
        *(pictures[:cut], labels[:cut], pictures[cut:], labels[cut:]),
        source=f"coloured shapes and patterns drawn by the example, not CIFAR ({why})",
        class_names=names,
        superclasses=levels,
        superclass_names=[list(figures), ["shapes", "patterns"]] if levels else [],
    )


def _draw(
    inside: Callable[[Array, Array], Array],
    alone: bool,
    colour: str | None,
    count: int,
    generator: np.random.Generator,
) -> Array:
    """Images ``[count, 32, 32, 3]`` of one figure, alone on its ground or, as a pattern, all over the image."""

    def chance(low: float, high: float, *axes: int) -> Array:
        return generator.uniform(low, high, (count, *(axes or (1, 1))))

    grid = np.linspace(-1, 1, SIDE)
    x, y = grid[None, None, :] - chance(-0.3, 0.3), grid[None, :, None] - chance(-0.3, 0.3)
    turn, size = chance(-0.35, 0.35), chance(0.4, 0.75) if alone else chance(0.8, 1.25)
    x, y = (np.cos(turn) * x + np.sin(turn) * y) / size, (np.cos(turn) * y - np.sin(turn) * x) / size
    mask = inside(x, y)[..., None]
    palette = np.array(list(COLOURS.values()), float)
    own = palette[generator.integers(0, len(palette), count)] if colour is None else np.array([COLOURS[colour]])
    figure = own[:, None, None] * chance(0.7, 1.15, 1, 1, 1)
    ground = chance(30, 225, 1, 1, 3)
    noise = generator.normal(0, 18, (count, SIDE, SIDE, 3))
    return np.clip(np.where(mask, figure, ground) + noise, 0, 255).astype(np.uint8)
