"""Reports as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgekit.printable import printable
from edgekit.records import Report
from edgekit.reports.columns import Column, blank, present_columns
from edgekit.reports.device_comparison import (
    RATIO_NOTE,
    DeviceComparison,
    DeviceLatency,
    compare_devices,
    table_groups,
)
from edgekit.reports.findings import collapsed_files
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows
from edgekit.reports.formatting import compared, plain, times
from edgekit.reports.groups import Group


def markdown(report: Report) -> str:
    """Return the report as Markdown, best values in bold."""
    text = [f"# {escaped(printable(report.title))}", ""]
    for alert in report.alerts:
        text += [f"> **{escaped(alert)}**", ""]
    if lost := collapsed_files(report):
        text += [*(f"- {escaped(name)}: {escaped('; '.join(lost[name]))}" for name in lost), ""]
    for line in filter(None, report.reason.split("\n")):
        text += [escaped(line), ""]
    groups = table_groups(report)
    for group in groups:
        if len(groups) > 1:
            text += [f"## {escaped(group.name)}", ""]
        text += [*_table(group), ""]
    for comparison in compare_devices(report):
        text += _comparison(comparison)
    if adapted := report.asked.get("adapted"):
        text += [f"Adapted to {escaped(adapted)}\n"]
    text += [f"> {escaped(warning)}\n" for warning in report.warnings]
    described = [("Data", report.data), ("Device", report.device), *report.devices.items()]
    for name, table in described:
        if table:
            text.append(
                f"{escaped(name)}: "
                + "; ".join(f"{escaped(key)} {escaped(value)}" for key, value in table.items())
                + "\n"
            )
    return "\n".join(text)


def _table(group: Group) -> Iterator[str]:
    rows = formatted_rows(group)
    columns = present_columns(group, rows)
    headings, rules = ["variant"], ["---"]
    for column in columns:
        below = ", ".join(filter(None, (column.unit(group), column.subheading(group))))
        headings.append(column.heading(group) + (f" ({below})" if below else ""))
        rules.append("--:" if column.align == "right" else "---")
        if column.better:
            headings.append(column.better)
            rules.append("--:")
    yield f"| {' | '.join(map(escaped, headings))} |"
    yield f"|{'|'.join(rules)}|"
    for row in rows:
        label = escaped(row.label)
        label = f"**{label}**" if row.row.recommended else label
        label += f" ({row.mark})" if row.mark else ""
        cells = [text for column in columns for text in _cells(column, row)]
        yield f"| {' | '.join((label, *cells))} |"


def _cells(column: Column, row: FormattedRow) -> Iterator[str]:
    """The figure with its note, and its ratio as a column of its own."""
    cell = column.cell(row)
    figure, note = escaped(cell.figure or blank(row)), escaped(cell.note)
    figure = f"**{figure}**" if cell.best else figure
    yield f"{figure} ({note})" if figure and note else figure
    if column.better:
        yield times(cell.ratio)


def _comparison(comparison: DeviceComparison) -> list[str]:
    def shown(cell: DeviceLatency | None) -> str:
        if cell is None:
            return ""
        figure = f"**{cell.latency}**" if cell.best else cell.latency
        faster = compared(cell.ratio, "faster", "slower", equal=cell.as_fast)
        below = ", ".join(filter(None, (faster, cell.score)))
        return f"{figure} ({below})" if below else figure

    devices = comparison.devices
    return [
        f"## {escaped(printable(comparison.model))}: p50 latency on {len(devices)} devices",
        "",
        f"| variant | {' | '.join(map(escaped, devices))} |",
        "|---|" + "--:|" * len(devices),
        *(
            f"| {escaped(file.label)}{' (recommended)' if file.recommended else ''} | "
            f"{' | '.join(map(shown, file.cells))} |"
            for file in comparison.files
        ),
        "",
        RATIO_NOTE,
        "",
        *(f"- {escaped(name)}: {escaped(described)}" for name, described in devices.items()),
        "",
    ]


def escaped(text: str) -> str:
    """Make text inert in Markdown: no markup, no HTML, no table cell of its own."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", safe)
