"""The documentation site: ``make docs`` builds it into docs/_build, and a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import lightning_stiffness  # noqa: E402

project = "lightning-stiffness"
author = "the authors of lightning-stiffness"
version = release = lightning_stiffness.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "images",
    "reproduction",
    "gallery/*.py",
    "gallery/README.rst",
    "sg_execution_times.rst",
]
html_theme = "furo"
html_title = "lightning-stiffness"
html_copy_source = False

# The pages are read on GitHub as well: plain Markdown, whose links name headings as GitHub does.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_built",
    "filename_pattern": r"/\w+\.py",
    "image_scrapers": ("gallery_figures",),
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "capture_repr": (),
}
