"""Render a report: as text for a terminal or a file, as a page, as pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from edgekit.errors import DeviceError, UsageError
from edgekit.files import staging
from edgekit.folding import TERMINAL
from edgekit.printable import one_line
from edgekit.records import Report
from edgekit.reports.csv_table import csv
from edgekit.reports.drawing import DrawingError, PageCharts, page_charts, pictures
from edgekit.reports.markdown_table import markdown
from edgekit.reports.terminal_table import print_report
from edgekit.schema import report_to_json

Format = Literal["terminal", "json", "md", "html", "csv", "png", "svg"]
FORMATS: tuple[Format, ...] = get_args(Format)
PICTURES: tuple[Format, ...] = ("png", "svg")
NO_CHARTS = "The charts could not be drawn"
_HINT = (
    "Run `edgekit report` on the same JSON with more free memory and without a limit on the "
    "address space (ulimit -v)."
)


def render(report: Report, format: Format) -> str | bytes:  # noqa: A002  the option's name
    """Return the report in one format; `png` and `svg` are its first chart.

    A page whose charts cannot be drawn has none, and a warning instead.

    Raises:
        UsageError: An unknown format, or an image of a report without anything to draw.
        DeviceError: An image that cannot be drawn on this machine.
    """
    return render_all(report, (format,))[1][format]


def render_all(
    report: Report, formats: Iterable[Format]
) -> tuple[Report, dict[Format, str | bytes]]:
    """Return the report in several formats, and the report itself.

    The report has one more warning, which begins with `NO_CHARTS`, where the page's charts cannot
    be drawn on this machine: everything else is rendered then.

    Raises:
        UsageError, DeviceError: As `render`.
    """
    wanted = tuple(formats)
    if unknown := [name for name in wanted if name not in FORMATS]:
        raise UsageError(
            f"Unknown report format: {unknown[0]!r}.",
            hint=f"Choose one of {', '.join(FORMATS)}.",
        )
    drawn = PageCharts()
    if "html" in wanted:
        warnings = tuple(text for text in report.warnings if not text.startswith(NO_CHARTS))
        report = replace(report, warnings=warnings)
        try:
            drawn = page_charts(report)
        except DrawingError as error:
            text = f"{NO_CHARTS} ({one_line(error.reason, 200)}). {_HINT}"
            report = replace(report, warnings=(*warnings, text))
    return report, {name: _rendered(report, name, drawn) for name in wanted}


def write(
    report: Report, folder: Path, *, formats: Iterable[Format] = ("html", "json")
) -> tuple[Path, ...]:
    """Write `report.<format>` into the folder; `png` and `svg` become one file per chart.

    Returns:
        The files, in the order of `formats`.

    Raises:
        OutputError: The folder cannot be written.
        UsageError, DeviceError: As `render`.
    """
    return _written(report, folder, tuple(formats))[1]


def write_pages(report: Report, folder: Path) -> Report:
    """Write `report.html` and `report.json`; return the report with its warnings.

    Raises:
        OutputError: The folder cannot be written.
    """
    return _written(report, folder, ("html", "json"))[0]


def encoded(content: str | bytes) -> bytes:
    """Return what was rendered as the bytes of a file."""
    return content.encode() if isinstance(content, str) else content


def _written(
    report: Report, folder: Path, formats: tuple[Format, ...]
) -> tuple[Report, tuple[Path, ...]]:
    report, texts = render_all(report, (name for name in formats if name not in PICTURES))
    files: dict[str, str | bytes] = {}
    for name in formats:
        if name in PICTURES:
            for chart, picture in _pictures(report, name).items():
                files[f"{chart}.{name}"] = picture
        else:
            files[f"report.{'txt' if name == 'terminal' else name}"] = texts[name]
    with staging(folder, replace=True) as stage:
        for file, content in files.items():
            (stage / file).write_bytes(encoded(content))
    return report, tuple(folder / file for file in files)


def _rendered(report: Report, name: Format, drawn: PageCharts) -> str | bytes:
    if name == "terminal":
        from rich.console import Console

        stream = io.StringIO()
        print_report(report, Console(file=stream, width=TERMINAL, no_color=True))
        return stream.getvalue()
    if name == "json":
        return json.dumps(report_to_json(report), allow_nan=False) + "\n"
    if name == "md":
        return markdown(report)
    if name == "csv":
        return csv(report)
    if name == "html":
        from edgekit.reports.page import html

        return html(report, drawn)
    return next(iter(_pictures(report, name).values()))


def _pictures(report: Report, name: Format) -> dict[str, str | bytes]:
    try:
        drawn = pictures(report, name)
    except DrawingError as error:
        raise DeviceError(
            f"{NO_CHARTS}.", found=f"The chart library failed: {error.reason}.", hint=_HINT
        ) from error
    if not drawn:
        raise UsageError(
            "There is nothing to draw in this report.",
            found="Its rows hold no score, no latency and no inspection.",
            hint="Give JSON of quantize, eval or bench.",
        )
    return drawn
