"""Reports as text: a terminal table for 80 columns, Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Inspection, Report, Score
from edgekit.reports.device_comparison import RULE, Across, Cell, across, compared_groups
from edgekit.reports.figures import (
    VERDICTS,
    Group,
    Line,
    compared,
    count_text,
    drop_unit,
    lines,
    metric_title,
    plain,
    size_text,
    times,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BEST = "*"
# The widest a variant's and a device's name get before they are folded, in characters.
MOST_LABEL, MOST_NAME = 24, 20
# The most operators that are listed on a terminal, where nobody reads more.
_MOST_OPERATORS = 1000


def terminal(report: Report, console: Console) -> None:
    """Print the report; nothing in it is told by colour alone."""
    from rich.text import Text

    parts, devices = compared_groups(report), across(report)
    for group in parts:
        if len(parts) > 1:
            console.print(Text(group.name, style="bold"))
        console.print(_rows_table(group))
    for one in devices:
        _print_across(one, console)
    shown = [line for group in parts for line in lines(group)]
    legend = [f"{BEST} best of its column"] if any(line.best for line in shown) else []
    if devices or any(line.size_ratio for line in shown):
        legend.append("x: times smaller or faster than float32")
    if legend:
        console.print(Text("; ".join(legend)))
    if devices:
        console.print(Text(RULE))
    for verdict in ("unproven", "lost"):
        if any(row.drop and row.drop.verdict == verdict for row in report.rows):
            console.print(Text(f"{verdict}: {VERDICTS[verdict]}"))
    if report.reason:
        console.print()
        console.print(Text(plain(report.reason), style="bold"))
    for warning in report.warnings:
        console.print(Text(f"Warning: {plain(warning)}", style="yellow"))


def _print_across(one: Across, console: Console) -> None:
    """Print a column a device, as many beside each other as there is room for."""
    from rich.text import Text

    console.print()
    console.print(
        Text(f"{printable(one.model)}: p50 latency on {len(one.devices)} devices", "bold")
    )
    labels = 2 + min(MOST_LABEL, max(len(line.label) for line in one.lines))
    positions: list[int] = []
    left = console.width - labels
    for position, name in enumerate(one.devices):
        width = 3 + max(
            min(len(name), MOST_NAME),
            *(
                max(len(cell.latency), len(cell.score))
                for line in one.lines
                if (cell := line.cells[position])
            ),
        )
        if positions and width > left:
            console.print(_across_table(one, positions))
            positions, left = [], console.width - labels
        positions.append(position)
        left -= width
    console.print(_across_table(one, positions))
    for name, described in one.devices.items():
        console.print(Text(f"{name}: {described}", style="dim"))


def _across_table(one: Across, positions: list[int]) -> Table:
    from rich.text import Text

    names = list(one.devices)
    table = _table()
    table.add_column("variant", overflow="fold", max_width=MOST_LABEL)
    for position in positions:
        # A space for the mark, as in the cells.
        table.add_column(
            Text(f"{names[position]} "), justify="right", overflow="fold", max_width=MOST_NAME
        )
    for line in one.lines:
        style = "bold green" if line.recommended else ""
        mark = "=> recommended" if line.recommended else ""
        table.add_row(
            Text(f"{line.label}\n{mark}", style=style),
            *(_across_cell(line.cells[position]) for position in positions),
        )
    return table


def _across_cell(cell: Cell | None) -> Any:
    if cell is None:
        return _cell("-", "")
    return _cell(
        cell.latency, "\n".join(filter(None, (times(cell.ratio), cell.score))), best=cell.best
    )


def terminal_inspection(inspection: Inspection, console: Console) -> None:
    """Print what is inside a file: totals first, then one line an operator."""
    from rich.text import Text

    console.print(Text(printable(inspection.path, MOST_PATH), style="bold"))
    for side, tensors in (("in", inspection.inputs), ("out", inspection.outputs)):
        for tensor in tensors:
            shape = " x ".join(map(str, tensor.shape))
            grid = (
                "" if tensor.scale is None else f", {tensor.scale:.6g} x (q - {tensor.zero_point})"
            )
            console.print(
                Text(
                    f"{side:>4}  {printable(tensor.name)}: {printable(tensor.dtype)} {shape}{grid}"
                )
            )
    kinds = ", ".join(f"{size_text(n)} {kind}" for kind, n in inspection.weight_dtypes.items())
    shares = ", ".join(f"{size_text(n)} {part}" for part, n in inspection.bytes.items())
    console.print(Text(f"size  {size_text(inspection.size_bytes)}: {shares}"))
    console.print(Text(f"work  {inspection.macs:,} MACs, {inspection.parameters:,} parameters"))
    if kinds:
        console.print(Text(f"data  {kinds}"))
    targets = list(dict.fromkeys(name for op in inspection.ops for name in op.targets))
    for target in targets:
        mapped = sum(op.targets[target].mapped for op in inspection.ops if target in op.targets)
        console.print(
            Text(
                f"fit   {printable(target)}, predicted: {mapped} of {len(inspection.ops)} operators"
            )
        )
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("operator", no_wrap=True)
    table.add_column("layer", overflow="ellipsis", no_wrap=True, max_width=22)
    table.add_column("type", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    for target in targets:
        table.add_column(Text(printable(target)), min_width=6)
    for op in inspection.ops[:_MOST_OPERATORS]:
        fits = [op.targets.get(target) for target in targets]
        table.add_row(
            str(op.index),
            Text(printable(op.name)),
            Text(printable(op.layer)),
            Text(printable(op.dtype)),
            size_text(op.bytes) if op.bytes else "",
            count_text(op.macs) if op.macs else "",
            *(
                Text("" if fit is None else "yes" if fit.mapped else plain(fit.reason or "no"))
                for fit in fits
            ),
        )
    console.print(table)
    left = len(inspection.ops) - _MOST_OPERATORS
    if left > 0:
        console.print(Text(f"... and {left:,} more operators; --json lists all of them"))


def terminal_per_class(score: Score, console: Console) -> None:
    """Print recall and precision of every class, the weakest recall marked."""
    from rich.text import Text

    table = _table()
    table.add_column("class", overflow="fold")
    for name in ("n", "recall", "precision"):
        table.add_column(name, justify="right", no_wrap=True)
    weakest = min((one.recall for one in score.per_class if one.n), default=None)
    for one in score.per_class:
        mark = " < weakest" if one.n and one.recall == weakest else ""
        table.add_row(
            Text(printable(one.label)),
            f"{one.n:,}",
            f"{100 * one.recall:.2f} %",
            f"{100 * one.precision:.2f} %{mark}",
        )
    console.print(table)


def markdown(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown, best values in bold."""
    text = [f"# {_escaped(printable(report.title))}", ""]
    if report.reason:
        text += [_escaped(report.reason), ""]
    parts = compared_groups(report)
    for group in parts:
        if len(parts) > 1:
            text += [f"## {_escaped(group.name)}", ""]
        metric = metric_title(group.metric)
        text += [
            f"| variant | size | smaller | {metric} (95 % interval) "
            f"| drop ({drop_unit(group.metric)}, 95 % interval) | verdict | agreement "
            "| p50 latency | faster |".replace("(, ", "("),
            "|---|--:|--:|--:|--:|---|--:|--:|--:|",
        ]
        if group.staged:
            text[-2:] = [f"{text[-2]} download | smaller | MACs |", f"{text[-1]}--:|--:|--:|"]
        text += [_markdown_row(line, staged=group.staged) for line in lines(group)]
        text.append("")
    for one in across(report):
        text += _markdown_across(one)
    text += [f"> {_escaped(warning)}\n" for warning in report.warnings]
    described = [("Data", report.data), ("Device", report.device), *report.devices.items()]
    for name, table in described:
        if table:
            text.append(
                f"{_escaped(name)}: "
                + "; ".join(f"{_escaped(key)} {_escaped(value)}" for key, value in table.items())
                + "\n"
            )
    return "\n".join(text)


def _markdown_across(one: Across) -> list[str]:
    def shown(cell: Cell | None) -> str:
        if cell is None:
            return ""
        figure = f"**{cell.latency}**" if cell.best else cell.latency
        faster = compared(cell.ratio, "faster", "slower")
        below = ", ".join(filter(None, (faster, cell.score)))
        return f"{figure} ({below})" if below else figure

    return [
        f"## {_escaped(printable(one.model))}: p50 latency on {len(one.devices)} devices",
        "",
        f"| variant | {' | '.join(map(_escaped, one.devices))} |",
        "|---|" + "--:|" * len(one.devices),
        *(
            f"| {_escaped(line.label)}{' (recommended)' if line.recommended else ''} | "
            f"{' | '.join(map(shown, line.cells))} |"
            for line in one.lines
        ),
        "",
        RULE,
        "",
        *(f"- {_escaped(name)}: {_escaped(told)}" for name, told in one.devices.items()),
        "",
    ]


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)


def _rows_table(group: Group) -> Table:
    """Two lines a row: the figure, and below it its interval or ratio."""
    from rich.text import Text

    shown = lines(group)
    metric = metric_title(group.metric)
    unit = drop_unit(group.metric)
    table = _table()
    table.add_column("variant", overflow="fold", max_width=24)
    table.add_column("size", justify="right", no_wrap=True)
    scored = any(line.score for line in shown)
    if scored:
        table.add_column(f"{metric}\n95 % interval", justify="right", no_wrap=True)
    dropped = any(line.drop for line in shown)
    if dropped:
        table.add_column(f"drop ({unit})\n95 % interval", justify="right", no_wrap=True)
    if group.staged:
        table.add_column("download\nMACs", justify="right", no_wrap=True)
    agreed = any(line.agreement for line in shown) and not group.staged
    if agreed:
        table.add_column("agrees\nwith f32", justify="right", no_wrap=True)
    timed = any(line.latency for line in shown)
    if timed:
        table.add_column("latency\np50", justify="right", no_wrap=True)
    for line in shown:
        chosen = line.row.recommended
        style = "bold green" if chosen else ""
        cells = [
            Text(f"{line.label}\n" + ("=> recommended" if chosen else ""), style=style),
            _cell(line.size, times(line.size_ratio), best="size" in line.best),
        ]
        if scored:
            cells.append(_cell(line.score, line.score_interval, best="score" in line.best))
        if dropped:
            verdict = f"{line.verdict} {line.drop}" if line.drop else ""
            cells.append(_cell(verdict, line.drop_interval))
        if group.staged:
            cells.append(_cell(line.download, line.macs))
        if agreed:
            cells.append(_cell(line.agreement, ""))
        if timed:
            cells.append(
                _cell(line.latency, times(line.latency_ratio), best="latency" in line.best)
            )
        table.add_row(*cells)
    return table


def _cell(figure: str, below: str, *, best: bool = False) -> Any:
    """Stack two figures; the space after one without a mark keeps the digits in line."""
    from rich.text import Text

    text = Text()
    text.append(figure + (BEST if best else " "), style="bold" if best else "")
    text.append(f"\n{below} ", style="dim")
    return text


def _markdown_row(line: Line, *, staged: bool) -> str:
    def best(name: str, figure: str) -> str:
        return f"**{figure}**" if name in line.best else figure

    label = _escaped(line.label)
    return (
        "| "
        + " | ".join(
            (
                f"**{label}** (recommended)" if line.row.recommended else label,
                best("size", line.size),
                times(line.size_ratio),
                f"{best('score', line.score)} ({line.score_interval})" if line.score else "",
                f"{line.drop} ({line.drop_interval})" if line.drop else "",
                line.verdict,
                line.agreement,
                best("latency", line.latency),
                times(line.latency_ratio),
                *((line.download, times(line.download_ratio), line.macs) if staged else ()),
            )
        )
        + " |"
    )


def _escaped(text: str) -> str:
    """Make text inert in Markdown: no markup, no HTML, no table cell of its own."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", safe)
