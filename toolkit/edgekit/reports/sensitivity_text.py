"""What each operator costs: for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edgekit.folding import fold
from edgekit.printable import printable
from edgekit.records import OperatorCost, Sensitivity
from edgekit.reports.drawing import DrawingError, sensitivity_picture
from edgekit.reports.formatting import decibels, metric_title, plain, score_text
from edgekit.reports.page import document, themed
from edgekit.reports.page_text import breakable, escaped, fact_list
from edgekit.reports.plain_table import narrowed
from edgekit.reports.sensitivity_chart import BARS, LINE, SENSITIVITY, TICKS

MOST_LISTED: Final = 40
"""Most operators that are listed on a terminal."""
_LAYER, _OPERATOR, _CELL = 24, 18, 9


def sensitivity_lines(found: Sensitivity, width: int | None = None) -> Iterator[str]:
    """Yield a table, the most costly operator first.

    SQNR is in dB, the first two figures; the last two are the scores of the same files.

    Args:
        found: The costs.
        width: To which sentences are folded; None for 80 columns of the table, and no folding.
    """
    layer, operator = narrowed(width, _LAYER, _OPERATOR)
    for name, text in _facts(found).items():
        yield from fold(plain(text), width, label=f"{name}: ")
    scored = found.metric is not None
    yield ""
    yield f"{'':{layer + operator + 2}}{'SQNR, dB':>{2 * _CELL}}" + (
        f"{plain(metric_title(found.metric))[: 2 * _CELL]:>{2 * _CELL}}" if scored else ""
    )
    heads = ("only it", "but it") * (2 if scored else 1)
    yield f"{'layer':{layer + 1}}{'operator':{operator + 1}}" + "".join(
        f"{head:>{_CELL}}" for head in heads
    )
    for cost in found.costs[:MOST_LISTED]:
        cells = _cells(found, cost)
        yield (
            f"{printable(cost.layer, layer):{layer + 1}}"
            f"{printable(cost.operator, operator):{operator + 1}}"
            + "".join(f"{cell:>{_CELL}}" for cell in cells)
        )
    more = len(found.costs) - MOST_LISTED
    if more > 0:
        yield from fold(
            f"and {more} more, each of which costs less (--json, or -o FILE.html)", width
        )
    yield ""
    only = "only it: this operator in the precision, all others float; the ranking."
    for said in (only, "but it: all in the precision but this one.", *found.notes):
        yield from fold(plain(said), width)


def sensitivity_html(found: Sensitivity) -> str:
    """Return a page with the chart and all operators; without the chart where none is drawn."""
    try:
        picture = themed(sensitivity_picture(found))
    except DrawingError as error:
        picture = f"<p>No chart: {escaped(error.reason)}</p>"
    scored = found.metric is not None
    heads = ["Layer", "Operator", "SQNR, only it", "SQNR, all but it"]
    if scored:
        title = metric_title(found.metric)
        heads += [f"{title}, only it", f"{title}, all but it"]
    head = "".join(
        f'<th scope="col"{" class=text" if number == 1 else ""}>{escaped(one)}</th>'
        for number, one in enumerate(heads)
    )
    rows = "".join(
        f'<tr><th scope="row">{breakable(printable(cost.layer))}</th>'
        f'<td class="text">{escaped(printable(cost.operator))}</td>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in _cells(found, cost))
        + "</tr>"
        for cost in found.costs
    )
    notes = "".join(f"<p>{escaped(printable(note, 2000))}</p>" for note in found.notes)
    left = ", ".join(printable(name) for name in found.others)
    main = (
        f"{fact_list(_facts(found), names=True)}\n{notes}\n"
        f"<figure><figcaption><strong>{SENSITIVITY}</strong>{BARS} {TICKS} {LINE}</figcaption>"
        f'<div class="chart">{picture}</div></figure>\n'
        f'<div class="scroll names" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n"
        + (f"<p>Without a precision of their own: {escaped(left)}.</p>\n" if left else "")
    )
    name = f"{printable(found.model)}, {found.mode}"
    return document(f"{name}: edgekit sensitivity", "edgekit sensitivity", name, main)


def _facts(found: Sensitivity) -> dict[str, str]:
    """Return what stands above the table."""
    facts = {
        "model": f"{printable(found.model)}, {len(found.costs)} operators in {found.mode}",
        "samples": f"{found.n} calibration samples",
    }
    whole = f"SQNR {decibels(found.all_db)}{' dB' if found.all_db is not None else ''}"
    if found.metric is not None:
        title = metric_title(found.metric)
        facts["float32"] = f"{title} {_score(found, found.float_value)}"
        whole += f", {title} {_score(found, found.all_value)}"
    if len(found.all_per_output) > 1:
        each = ", ".join(
            f"{printable(name)} {decibels(value)}" for name, value in found.all_per_output.items()
        )
        whole += f" ({each})"
    facts[f"all {found.mode}"] = whole
    return facts


def _cells(found: Sensitivity, cost: OperatorCost) -> Sequence[str]:
    if cost.broken:
        return ["broken", *[""] * (3 if found.metric else 1)]
    cells = [decibels(cost.only_db), decibels(cost.without_db)]
    if found.metric is not None:
        cells += [_score(found, value) for value in (cost.only_value, cost.without_value)]
    return cells


def _score(found: Sensitivity, value: float | None) -> str:
    return "" if value is None or found.metric is None else score_text(found.metric, value)
