"""Reports: the same rows for the terminal, as JSON, Markdown, CSV, HTML and images.

write(report, folder)              report.html and report.json, both or none
render(report, "md")               one of FORMATS as text or bytes
render_all(report, formats)        several of them, and a warning where charts are missing
read_reports([a, b])               report files, merged
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.reports.merge import read_reports
    from edgekit.reports.rendering import (
        FORMATS,
        NO_CHARTS,
        PICTURES,
        Format,
        encoded,
        render,
        render_all,
        write,
        write_pages,
    )
    from edgekit.reports.terminal_inspection import print_inspection
    from edgekit.reports.terminal_table import print_per_class, print_report

_HOMES = {
    "merge": "read_reports",
    "rendering": "FORMATS NO_CHARTS PICTURES Format encoded render render_all write write_pages",
    "terminal_inspection": "print_inspection",
    "terminal_table": "print_per_class print_report",
}
"""Module -> what is there. Each is imported when it is first used: inspecting needs no metrics."""

__all__ = [
    "FORMATS",
    "NO_CHARTS",
    "PICTURES",
    "Format",
    "encoded",
    "print_inspection",
    "print_per_class",
    "print_report",
    "read_reports",
    "render",
    "render_all",
    "write",
    "write_pages",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names.split():
            found = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
