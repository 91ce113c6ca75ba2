"""Colours of stiffness, the same in figures, in the browser and in the terminal."""

# Most stiffness lies near 0. The colours change fastest there, so that 0.05 differs from 0 at a glance,
# while the scale itself stays linear and ends at -1 and 1. Orange against blue is told apart by
# readers with any of the common colour-vision deficiencies.
STOPS = (-1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0)
"""Stiffness at which the colours below stand; between them they are mixed."""
LIGHT = ("#6b1d00", "#b8430c", "#ee9457", "#fbe2d0", "#ffffff", "#d8e8f5", "#79b2dc", "#2468ad", "#08285c")
DARK = ("#ffdcbd", "#f39a4a", "#a9541d", "#4d3426", "#2a2a2c", "#25394a", "#2b6ea8", "#56aeef", "#cfe9ff")


def colour_of(value: float, colours: tuple[str, ...] = LIGHT) -> tuple[int, int, int]:
    """Red, green and blue of a stiffness, 0 to 255; below -1 and above 1 those of the ends.

    Example:
        >>> colour_of(0.0), colour_of(0.5), colour_of(7.0) == colour_of(1.0)
        ((255, 255, 255), (36, 104, 173), True)
    """
    value = min(1.0, max(-1.0, value))
    right = next(i for i in range(1, len(STOPS)) if value <= STOPS[i])
    part = (value - STOPS[right - 1]) / (STOPS[right] - STOPS[right - 1])
    ends = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (colours[right - 1], colours[right]))
    red, green, blue = (round(low + part * (high - low)) for low, high in zip(*ends, strict=True))
    return red, green, blue
