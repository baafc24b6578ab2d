"""The page's tables: variants, devices, classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekit.printable import printable
from edgekit.reports.columns import Column, blank, present_columns, stacked
from edgekit.reports.device_comparison import RATIO_NOTE, DeviceComparison, DeviceLatency
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows
from edgekit.reports.formatting import class_figures, compared, timing_text
from edgekit.reports.groups import Group
from edgekit.reports.page_scores import chosen_file
from edgekit.reports.page_text import capitalized, escaped, fact_list, typographic


def variants_table(group: Group, *, several: bool) -> str:
    """Tabulate the rows of a group; intervals and ratios below the figures."""
    rows = formatted_rows(group)
    columns = [
        (column, others, _title(column, group))
        for column, others in stacked(present_columns(group, rows), "page")
    ]
    head = "".join(
        f'<th scope="col">{title}<small>{escaped(_subtitle(column, others, group))}</small></th>'
        for column, others, title in columns
    )
    body = "".join(
        f"<tr{f' class={row.mark}' if row.mark else ''}>"
        f'<th scope="row">{escaped(row.label)}'
        f"{f'<small>{row.mark}</small>' if row.mark else ''}</th>"
        + "".join(
            f"<td{' class=blank' if blank(row) and not column.cell(row).figure else ''} "
            f'data-label="{title}">{_cell(column, others, row, group)}</td>'
            for column, others, title in columns
        )
        + "</tr>"
        for row in rows
    )
    heading = f"<h3>{escaped(group.name)}</h3>" if several else ""
    timed = next((row.row.timing for row in rows if row.row.timing), None)
    caption = ""
    if timed is None or group.device:
        text = f"Latency: {escaped(timing_text(timed))}." if timed else "Latency: not measured."
        caption = f"<caption>{text}</caption>"
    return (
        f'{heading}<div class="card variants scroll" tabindex="0"><table>{caption}'
        f'<thead><tr><th scope="col">Variant</th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def device_table(comparison: DeviceComparison, *, several: bool) -> str:
    """Tabulate the latencies of a model on several devices, a column per device."""

    def cell(found: DeviceLatency | None) -> str:
        if found is None:
            return "\u2013"
        figure = typographic(found.latency)
        ratio = compared(found.ratio, "faster", "slower", equal=found.as_fast)
        below = (ratio, f"p90 {found.p90}", found.score)
        return (f'<span class="best">{figure}</span>' if found.best else figure) + "".join(
            f"<small>{typographic(text)}</small>" for text in below if text
        )

    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in comparison.devices)
    rows = "".join(
        f"<tr{' class=recommended' if file.recommended else ''}>"
        f'<th scope="row">{escaped(file.label)}'
        f"{'<small>recommended</small>' if file.recommended else ''}</th>"
        + "".join(
            f'<td data-label="{escaped(name)}">{cell(found)}</td>'
            for name, found in zip(comparison.devices, file.cells, strict=True)
        )
        + "</tr>"
        for file in comparison.files
    )
    of = f"{escaped(printable(comparison.model))}: latency" if several else "Latency"
    return (
        f"<h3>{of} on {len(comparison.devices)} devices</h3>"
        '<div class="card variants scroll" tabindex="0"><table>'
        f"<caption>p50, against float32, p90. {RATIO_NOTE}</caption>"
        f'<thead><tr><th scope="col">Variant</th>{head}</tr></thead><tbody>{rows}</tbody>'
        f"</table></div>{fact_list(comparison.devices, names=True)}"
    )


def per_class(group: Group) -> str:
    """Tabulate the figures of each class, of the recommended (else first) scored classifier."""
    line = chosen_file(group, lambda score: score.per_class)
    if line is None:
        return ""
    score, base = line.row.score, group.baseline
    assert score is not None
    told = class_figures(score)
    before = {}
    if base and base.score and base is not line.row:
        before = {one.label: told.first(one) for one in base.score.per_class}
    heads = [capitalized(told.counted), capitalized(told.name)]
    heads += [f"{capitalized(told.name)}, float32"] if before else []
    head = "".join(
        f'<th scope="col">{one}</th>' for one in (*heads, *map(capitalized, told.further))
    )
    rows = "".join(
        f'<tr><th scope="row">{escaped(printable(one.label))}</th><td>{one.n:,}</td>'
        f"{_percent(told.first(one))}"
        + (_percent(before.get(one.label)) if before else "")
        + "".join(map(_percent, told.others(one)))
        + "</tr>"
        for one in score.per_class
    )
    return (
        f'<details class="card"><summary>Per-class scores: {escaped(line.label)}</summary>'
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Class</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _percent(share: float | None) -> str:
    return "<td></td>" if share is None else f"<td>{100 * share:.2f} %</td>"


def _title(column: Column, group: Group) -> str:
    unit = column.unit(group)
    title = capitalized(column.heading(group))
    return escaped(f"{title}, {unit}" if unit else title)


def _subtitle(column: Column, others: Sequence[Column], group: Group) -> str:
    ratio = "against float32" if column.better else ""
    below = (
        other.heading(group) + (f" ({below})" if (below := other.subheading(group)) else "")
        for other in others
    )
    return ", ".join(filter(None, (column.subheading(group), ratio, *column.details, *below)))


def _cell(column: Column, others: Sequence[Column], row: FormattedRow, group: Group) -> str:
    cell = column.cell(row)
    if not cell.figure and blank(row):
        return "\u2013"
    figure = typographic(escaped(cell.figure))
    style = "best" if cell.best else cell.css_class
    if figure and style:
        figure = f'<span class="{escaped(style)}">{figure}</span>'
    ratio = compared(cell.ratio, column.better, column.worse, equal=cell.equal)
    below = [ratio, cell.note, *cell.details]
    below = below if figure else []
    for other in others:
        if shared := other.cell(row).figure:
            below.append(f"{other.heading(group)} {shared}")
    return figure + "".join(map(_small, below))


def _small(text: str) -> str:
    # Where lines are broken, a unit stays with its number.
    whole = re.sub(r"(?<=\d) (?=\S+$)", "\N{NO-BREAK SPACE}", escaped(text))
    return f"<small>{typographic(whole)}</small>" if text else ""
