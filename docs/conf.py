"""Sphinx configuration of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / folder) for folder in ("toolkit", "device_scripts")
]

from edgekit import __version__  # noqa: E402  the path is set above

project = "edgekit"
release = __version__
copyright = "edgekit's authors, Apache-2.0"  # noqa: A001  Sphinx's own name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Links from a page to a heading of another one are checked down to this level.
myst_heading_anchors = 3
# Blocks without a language are commands and tables.
highlight_language = "none"
# Single backticks in docstrings are code, as in Markdown.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

html_theme = "pydata_sphinx_theme"
html_title = "edgekit"
html_theme_options = {
    "navbar_center": [],  # all pages are in the sidebar
    "navigation_with_keys": False,
    "show_prev_next": False,
}
html_sidebars = {"**": ["globaltoc.html"]}
html_copy_source = False
html_show_sphinx = False


def fences_to_directives(*event: Any) -> None:
    """Write the fenced code blocks of a docstring as Sphinx directives.

    The docstrings are Markdown, which autodoc does not read; their fences are all that it would
    take for something else.
    """
    lines: list[str] = event[-1]
    inside = False
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence and not inside:
            lines[number] = f"\n.. code-block:: {fence[1] or 'text'}\n"
        elif fence:
            lines[number] = ""
        elif inside:
            lines[number] = f"   {line}"
        inside ^= bool(fence)
    lines[:] = "\n".join(lines).split("\n")


def setup(app: Any) -> None:
    """Connect the docstrings' fences."""
    app.connect("autodoc-process-docstring", fences_to_directives)
