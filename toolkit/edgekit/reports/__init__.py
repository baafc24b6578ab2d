"""Reports: the same rows in the terminal, as JSON, Markdown, CSV, HTML and pictures.

write(report, folder)              report.html and report.json, each whole or not at all
render(report, "md")               one of FORMATS as text or bytes
read_reports([a, b])               row files, merged
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from edgekit.errors import UsageError
from edgekit.files import writing
from edgekit.records import Report
from edgekit.reports.csv_table import csv
from edgekit.reports.merge import read_reports
from edgekit.reports.tables import markdown, terminal, terminal_inspection, terminal_per_class
from edgekit.schema import report_to_json

__all__ = [
    "FORMATS",
    "Format",
    "read_reports",
    "render",
    "terminal",
    "terminal_inspection",
    "terminal_per_class",
    "write",
]

Format = Literal["terminal", "json", "md", "html", "csv", "png", "svg"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(report: Report, format: Format) -> str | bytes:  # noqa: A002  the option's name
    """Return the report in one format; `png` and `svg` are its first chart.

    Raises:
        UsageError: An unknown format, or a picture of a report that has nothing to draw.
    """
    if format == "terminal":
        from rich.console import Console

        stream = io.StringIO()
        terminal(report, Console(file=stream, width=80, no_color=True))
        return stream.getvalue()
    if format == "json":
        return json.dumps(report_to_json(report), allow_nan=False) + "\n"
    if format == "md":
        return markdown(report)
    if format == "csv":
        return csv(report)
    if format == "html":
        from edgekit.reports.page import html

        return html(report)
    if format in ("png", "svg"):
        return next(iter(_pictures(report, format).values()))
    raise UsageError(
        f"There is no report format {format!r}.", hint=f"Choose one of {', '.join(FORMATS)}."
    )


def write(
    report: Report, folder: Path, *, formats: Iterable[Format] = ("html", "json")
) -> tuple[Path, ...]:
    """Write `report.<format>` into the folder; `png` and `svg` become one file a chart.

    Returns:
        The files, in the order of `formats`.

    Raises:
        OutputError: The folder cannot be written.
        UsageError: As `render`.
    """
    files: dict[Path, str | bytes] = {}
    for name in formats:
        if name in ("png", "svg"):
            for chart, picture in _pictures(report, name).items():
                files[folder / f"{chart}.{name}"] = picture
        else:
            files[folder / f"report.{'txt' if name == 'terminal' else name}"] = render(report, name)
    for path, content in files.items():
        with writing(path) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return tuple(files)


def _pictures(report: Report, name: Format) -> dict[str, str | bytes]:
    from edgekit.reports import charts

    drawn = charts.charts(report)
    if not drawn:
        raise UsageError(
            "There is nothing to draw in this report.",
            found="Its rows hold no score, no latency and no inspection.",
            hint="Give rows of quantize, eval or bench.",
        )
    return {
        chart: charts.png(drawing) if name == "png" else charts.svg(drawing)
        for chart, drawing in drawn.items()
    }
