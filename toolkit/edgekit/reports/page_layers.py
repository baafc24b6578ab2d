"""The page's section on layers: what each costs, and the ranges of its integers."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Final

from edgekit.printable import printable
from edgekit.records import LayerDifferences, OperatorDifference, Report
from edgekit.reports.charts import numbered
from edgekit.reports.formatting import decibels, significant
from edgekit.reports.next_command import sensitivity_command
from edgekit.reports.page_text import breakable, escaped
from edgekit.reports.sensitivity_chart import BARS, LINE, SENSITIVITY, recorded

_HEADS: Final = ("Layer", "Operator", "Type", "Range", "In float32", "Cut off", "SQNR, dB")
_NOTHING: Final = 1e-3
"""An end of a range that is nearer to 0, in shares of the other end, is written so."""
_KEPT: Final = "Blue: kept in a higher precision."


def layers(report: Report, figure: Callable[[str, str, str], str]) -> str:
    """Return the section; "" where nothing is known of layers.

    Args:
        report: The report.
        figure: Embeds a chart by its name, with heading and legend.
    """
    searched = recorded(report)
    parts = [
        figure(
            numbered("sensitivity", number),
            f"{SENSITIVITY} in {costs.mode}: {printable(row.artifact.variant)}",
            f"{BARS} {LINE} {_KEPT}",
        )
        for number, (row, costs) in enumerate(searched)
    ]
    tables = [
        _table(row.tensors, printable(row.artifact.variant)) for row in report.rows if row.tensors
    ]
    command = "" if searched else sensitivity_command(report)
    if command:
        parts.append(f"<p>{SENSITIVITY}: <code>{html.escape(command)}</code></p>")
    text = "".join((*parts, *tables))
    return f"<h2>Layers</h2>{text}" if text else ""


def _table(found: LayerDifferences, variant: str) -> str:
    clipped = [one for one in found.operators if one.saturated]
    cut = f"{len(clipped)} of {len(found.operators)} cut values off" if clipped else "none cut off"
    head = "".join(
        f'<th scope="col"{" class=text" if number in (1, 2) else ""}>{escaped(name)}</th>'
        for number, name in enumerate(_HEADS)
    )
    body = "".join(map(_row, found.operators))
    return (
        '<details class="card"><summary>'
        f"{escaped(f'Ranges and saturation in {variant}, tensor by tensor: {cut}')}</summary>"
        "<p>In float32: the least and the largest value. Cut off: share of its values that the "
        f"integers cannot hold, on {found.n} samples. SQNR: of the output of each operator, with "
        "the noise of those before it.</p>"
        f'<div class="scroll names" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _row(one: OperatorDifference) -> str:
    share = "" if one.saturated is None else f"{100 * one.saturated:.2f} %"
    words = (printable(one.operator), printable(one.types[1]))
    figures = (_span(one.limits), _span(one.seen), share, decibels(one.sqnr_db))
    return (
        f'<tr><th scope="row">{breakable(printable(one.layer))}</th>'
        + "".join(f'<td class="text">{escaped(word)}</td>' for word in words)
        + "".join(f"<td>{escaped(cell)}</td>" for cell in figures)
        + "</tr>"
    )


def _span(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return ""
    least = _NOTHING * max(map(abs, ends))
    return " to ".join(significant(end) if abs(end) >= least else "0" for end in ends)
