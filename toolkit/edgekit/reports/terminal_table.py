"""Reports as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.printable import printable
from edgekit.records import Report, Score
from edgekit.reports.chosen_ranges import choice_line
from edgekit.reports.columns import blank, present_columns, stacked
from edgekit.reports.device_comparison import (
    RATIO_NOTE,
    DeviceComparison,
    DeviceLatency,
    compare_devices,
    table_groups,
)
from edgekit.reports.findings import collapsed_files
from edgekit.reports.fit_table import fit_rows
from edgekit.reports.formatted_rows import FAILED, RECOMMENDED, FormattedRow, formatted_rows
from edgekit.reports.formatting import class_figures, plain, times
from edgekit.reports.glossary import VERDICTS
from edgekit.reports.groups import Group
from edgekit.reports.plain_table import GAP, plain_table, say, show
from edgekit.reports.recovery_text import precision_line, recovery_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BEST = "*"
CHOSEN = "=> recommended"
_MARKS = {"": ("", ""), RECOMMENDED: (CHOSEN, "bold green"), FAILED: (FAILED, "red")}
# The widest a variant's and a device's name get before they are folded, in characters.
MOST_LABEL, MOST_NAME = 24, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedColumn:
    """A column of the terminal: two lines a cell, from one or more of `COLUMNS`.

    Attributes:
        title: The first one's.
        heading: Two lines.
        optional: Whether it is left out where there is no room.
        cells: One per row: figure, the line below it, whether it is the best.
    """

    title: str
    heading: str
    optional: bool
    cells: tuple[tuple[str, str, bool], ...]

    @property
    def width(self) -> int:
        """Characters of its widest line; a mark or a space follows every figure."""
        lines = [*self.heading.split("\n")]
        for figure, below, _ in self.cells:
            lines += [f"{line} " for line in (figure, *below.split("\n"))]
        return max(map(len, lines))


def print_report(report: Report, console: Console) -> None:
    """Print the report; colour only repeats what the text shows."""
    groups, comparisons = table_groups(report), compare_devices(report)
    left_out: dict[str, None] = {}
    for group in groups:
        if len(groups) > 1:
            say(console, group.name, "bold")
        rows = formatted_rows(group)
        columns = list(_stacked_columns(group, rows))
        left_out |= dict.fromkeys(_fit(columns, rows, console.width))
        for beside in _beside(columns, rows, console.width):
            show(console, _rows_table(rows, beside))
    for comparison in comparisons:
        _print_comparison(comparison, console)
    shown = [row for group in groups for row in formatted_rows(group)]
    legend = [f"{BEST} best of its column"] if any(row.best for row in shown) else []
    if comparisons or any(row.size_ratio for row in shown):
        legend.append("x: times smaller or faster than float32")
    if left_out:
        legend.append(f"too narrow to show: {', '.join(left_out)}")
    if legend:
        say(console, "; ".join(legend))
    if comparisons:
        say(console, RATIO_NOTE)
    _print_fits(report, console)
    for verdict in ("unproven", "lost"):
        if any(row.drop and row.drop.verdict == verdict for row in report.rows):
            say(console, f"{verdict}: {VERDICTS[verdict]}")
    _print_findings(report, console)
    for warning in report.warnings:
        say(console, f"Warning: {plain(warning)}", "yellow")


def _print_fits(report: Report, console: Console) -> None:
    """Print which file runs on which of the targets that were named."""
    targets, rows = fit_rows(report)
    if not targets:
        return
    table = plain_table()
    table.add_column("variant", no_wrap=True)
    for target in targets:
        table.add_column(plain(target))
    for row, cells in rows:
        table.add_row(plain(row.artifact.variant), *map(plain, cells))
    console.print()
    show(console, table)


def _print_findings(report: Report, console: Console) -> None:
    """Print why nothing can be recommended, what the files lost, and what is recommended."""
    lost = collapsed_files(report)
    if report.alerts or lost or report.reason:
        console.print()
    for alert in report.alerts:
        say(console, plain(alert), "bold red")
    for name, texts in lost.items():
        say(console, _collapse_line(name, texts, console.width), "red")
    for line in report.reason.split("\n"):
        if line:
            say(console, plain(line), "bold")
    for row in report.files:
        for said in (choice_line(row), precision_line(row), recovery_line(row)):
            if said:
                say(console, plain(said))
    if adapted := report.asked.get("adapted"):
        for number, line in enumerate(adapted.split("\n")):
            say(console, f"{'  ' if number else 'Adapted to '}{plain(line)}")
    if origins := report.data.get("read from"):
        say(console, plain(origins))
    if pixels := report.data.get("preprocessing"):
        say(console, f"Pixels: {plain(pixels)}")


def _collapse_line(name: str, texts: Sequence[str], width: int) -> str:
    """Name as many of what a file lost as fit into a line, at least one, and how many more."""
    line = f"{name}: {texts[0]}"
    for position, text in enumerate(texts[1:], start=1):
        more = len(texts) - position
        rest = f"; and {more - 1} more" if more > 1 else ""
        if len(line) + len(f"; {text}{rest}") > width:
            return f"{line}; and {more} more"
        line += f"; {text}"
    return line


def print_per_class(score: Score, console: Console) -> None:
    """Print the figures of every class, the weakest marked."""
    from rich.text import Text

    told = class_figures(score)
    table = plain_table()
    table.add_column("class", overflow="fold")
    for name in (told.counted, told.name, *told.further):
        table.add_column(name, justify="right", no_wrap=True)
    firsts = {
        figure for one in score.per_class if (figure := told.first(one)) is not None and one.n
    }
    weakest = min(firsts) if len(firsts) > 1 else None
    for one in score.per_class:
        figures = [
            "" if value is None else f"{100 * value:.2f} %"
            for value in (told.first(one), *told.others(one))
        ]
        if one.n and told.first(one) == weakest and weakest is not None:
            figures[-1] += " < weakest"
        table.add_row(Text(printable(one.label)), f"{one.n:,}", *figures)
    show(console, table)


def _stacked_columns(group: Group, rows: Sequence[FormattedRow]) -> Iterator[StackedColumn]:
    """Stack figure and interval or ratio, and the columns that have no room of their own."""
    for column, others in stacked(present_columns(group, rows), "terminal"):
        own = [column.cell(row) for row in rows]
        figures = [
            cell.figure or (blank(row) if column.terminal == "own" else "")
            for cell, row in zip(own, rows, strict=True)
        ]
        # The output or column that a drop is of has a line of its own: its name may be long.
        below = [(cell.note or times(cell.ratio)).replace(": ", ":\n") for cell in own]
        unit, subtitle = column.unit(group), column.subheading(group)
        for other in others:
            added = [other.cell(row).figure for row in rows]
            if other.terminal == "below":
                subtitle, below = other.heading(group), added
            else:
                pairs = zip(added, figures, strict=True)
                figures = [f"{before} {figure}".strip() for before, figure in pairs]
        title = column.heading(group)
        heading = column.terminal_heading(group) or "\n".join(
            filter(None, (f"{title} ({unit})" if unit else title, subtitle))
        )
        yield StackedColumn(
            title=title,
            heading=heading,
            optional=column.optional,
            cells=tuple(zip(figures, below, (cell.best for cell in own), strict=True)),
        )


def _label_width(rows: Sequence[FormattedRow]) -> int:
    """Return what the variants' names need: they are folded to the width of `CHOSEN` at most."""
    from rich.cells import cell_len

    marks = [CHOSEN for row in rows if row.row.recommended]
    labels = max(map(cell_len, (*(row.label for row in rows), *marks)), default=0)
    return min(labels, len(CHOSEN))


def _fit(columns: list[StackedColumn], rows: Sequence[FormattedRow], width: int) -> list[str]:
    """Remove optional columns, the last first, until the table fits; return their titles.

    Names are folded to the width of `CHOSEN` before a column is left out.
    """
    needed = _label_width(rows) + sum(GAP + column.width for column in columns)
    left_out = []
    for column in reversed([column for column in columns if column.optional]):
        if needed <= width:
            break
        needed -= GAP + column.width
        columns.remove(column)
        left_out.append(column.title)
    return left_out[::-1]


def _beside(
    columns: Sequence[StackedColumn], rows: Sequence[FormattedRow], width: int
) -> Iterator[list[StackedColumn]]:
    """Yield as many columns as there is room for beside the names, then those that are left.

    Without this the names would be squeezed out, and figures cut.
    """
    fitting: list[StackedColumn] = []
    left = room = width - _label_width(rows)
    for column in columns:
        left -= GAP + column.width
        if fitting and left < 0:
            yield fitting
            fitting, left = [], room - GAP - column.width
        fitting.append(column)
    yield fitting


def _rows_table(rows: Sequence[FormattedRow], columns: Sequence[StackedColumn]) -> Table:
    from rich.text import Text

    table = plain_table()
    table.add_column("variant", overflow="fold", max_width=MOST_LABEL)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for position, row in enumerate(rows):
        mark, style = _MARKS[row.mark]
        label = Text(f"{row.label}\n{mark}", style=style)
        table.add_row(label, *(_cell(*column.cells[position]) for column in columns))
    return table


def _cell(figure: str, below: str, best: bool = False) -> Any:
    """Stack two figures; the space after one without a mark keeps the digits in line."""
    from rich.text import Text

    text = Text()
    text.append(figure + (BEST if best else " "), style="bold" if best else "")
    text.append("".join(f"\n{line} " for line in below.split("\n")), style="dim")
    return text


def _print_comparison(comparison: DeviceComparison, console: Console) -> None:
    """Print a column per device, as many beside each other as there is room for."""
    devices = comparison.devices
    console.print()
    title = f"{printable(comparison.model)}: p50 latency on {len(devices)} devices"
    say(console, title, "bold")
    labels = GAP + min(MOST_LABEL, max(len(file.label) for file in comparison.files))
    positions: list[int] = []
    left = console.width - labels
    for position, name in enumerate(devices):
        width = 1 + GAP + max(
            min(len(name), MOST_NAME),
            *(
                max(len(cell.latency), len(cell.score))
                for file in comparison.files
                if (cell := file.cells[position])
            ),
        )  # fmt: skip
        if positions and width > left:
            show(console, _comparison_table(comparison, positions))
            positions, left = [], console.width - labels
        positions.append(position)
        left -= width
    show(console, _comparison_table(comparison, positions))
    for name, described in devices.items():
        say(console, f"{name}: {described}", "dim")


def _comparison_table(comparison: DeviceComparison, positions: list[int]) -> Table:
    from rich.text import Text

    names = list(comparison.devices)
    table = plain_table()
    table.add_column("variant", overflow="fold", max_width=MOST_LABEL)
    for position in positions:
        # A space for the mark, as in the cells.
        table.add_column(
            Text(f"{names[position]} "), justify="right", overflow="fold", max_width=MOST_NAME
        )
    for file in comparison.files:
        style = "bold green" if file.recommended else ""
        mark = CHOSEN if file.recommended else ""
        table.add_row(
            Text(f"{file.label}\n{mark}", style=style),
            *(_comparison_cell(file.cells[position]) for position in positions),
        )
    return table


def _comparison_cell(cell: DeviceLatency | None) -> Any:
    if cell is None:
        return _cell("-", "")
    below = "\n".join(filter(None, (times(cell.ratio), cell.score)))
    return _cell(cell.latency, below, cell.best)
