"""Figures of the gallery: those that a script keeps in its variables, as pyplot never hears of them."""

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def scrape(_: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Save the figures that are new since the last block."""
    found = [value for value in variables["example_globals"].values() if isinstance(value, Figure)]
    paths = []
    for figure in found:
        if not getattr(figure, "in_gallery", False):
            path = next(variables["image_path_iterator"])
            figure.savefig(path, dpi=110)
            figure.in_gallery = True  # type: ignore[attr-defined]
            paths.append(path)
    return str(figure_rst(paths, settings["src_dir"]))


def _get_sg_image_scraper() -> Any:
    return scrape
