"""The data formats, one module each. A new one is a module here and a line in `DATA_FORMATS`."""

from __future__ import annotations

from importlib import import_module

from edgekit.choices import DATA_FORMATS
from edgekit.data.formats.format import Argument, Format

__all__ = ["FORMATS", "Argument", "Format"]

FORMATS: tuple[Format, ...] = tuple(
    import_module(f"{__name__}.{module}").FORMAT for module in DATA_FORMATS
)
"""In the order in which they are tried."""
