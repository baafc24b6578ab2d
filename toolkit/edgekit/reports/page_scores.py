"""The page's tables of single outputs: scores of columns, fidelity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.printable import printable
from edgekit.records import Fidelity, Score
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows
from edgekit.reports.formatting import (
    drop_text,
    interval_text,
    metric_title,
    score_text,
    significant,
)
from edgekit.reports.groups import Group, is_float
from edgekit.reports.page_text import escaped, typographic

MOST_OPEN = 12
"""Columns of an output whose table is not folded."""
MOST_ACROSS = 5
"""Columns of an output that have room beside each other."""


def chosen_file(group: Group, has: Callable[[Score], object]) -> FormattedRow | None:
    """Return the file to describe: the recommended one, else float32, else the first.

    Args:
        group: The rows of a model.
        has: Whether a score holds what is to be described.
    """
    scored = [
        line
        for line in formatted_rows(group)
        if line.row.score and has(line.row.score) and not line.row.is_source
    ]
    scored.sort(key=lambda line: (not line.row.recommended, not is_float(line.row)))
    return scored[0] if scored else None


def columns_table(group: Group, *, several: bool) -> str:
    """Tabulate score and drop of each column of a regression's output, file by file.

    Args:
        group: The rows of a model.
        several: Whether the page is of several models, and each is named.
    """
    lines = [line for line in formatted_rows(group) if line.row.score and line.row.score.per_column]
    scores = [line.row.score for line in lines if line.row.score]
    labels = dict.fromkeys(one.label for score in scores for one in score.per_column)
    if not labels:
        return ""
    columns = [(escaped(printable(label)), label) for label in labels]
    files = [(escaped(line.label), line) for line in lines]
    # The longer side goes down the page.
    if len(columns) <= MOST_ACROSS:
        body = _grid(
            "Variant", [title for title, _ in columns],
            [(title, [_column_cell(line, label) for _, label in columns]) for title, line in files],
        )  # fmt: skip
    else:
        body = _grid(
            "Column", [title for title, _ in files],
            [(title, [_column_cell(line, label) for _, line in files]) for title, label in columns],
        )  # fmt: skip
    of = f"{printable(group.model)}, " if several else ""
    return (
        f'<details class="card"{" open" if len(labels) <= MOST_OPEN else ""}>'
        f"<summary>{escaped(of)}{metric_title(scores[0].metric)} by column</summary>"
        '<p class="note">Score with its 95 % interval; below it the verdict and the drop against '
        f"{escaped(group.compared_with)}.</p>{body}</details>"
    )


def fidelity(group: Group, *, several: bool) -> str:
    """Tabulate how near each output of each file is to the float graph's; folded."""
    text = ""
    for line in formatted_rows(group):
        if not line.row.fidelity:
            continue
        of = f"{printable(group.model)}, " if several else ""
        rows = "".join(
            f'<tr><th scope="row">{escaped(printable(one.output))}</th>'
            f"<td>{_sqnr(one)}</td><td>{_likeness(one)}</td>"
            f"<td>{'' if one.levels is None else f'{one.levels:,}'}</td></tr>"
            for one in line.row.fidelity
        )
        samples = max(one.n for one in line.row.fidelity)
        text += (
            f'<details class="card"><summary>Fidelity: {escaped(of + line.label)}'
            f'</summary><p class="note">Against the float graph, on {samples:,} real inputs.</p>'
            '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Output</th>'
            '<th scope="col">SQNR</th><th scope="col">Agreement<small>or correlation</small></th>'
            '<th scope="col">Levels<small>of a column</small></th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details>"
        )
    return text


def outputs_table(group: Group, *, several: bool) -> str:
    """Tabulate score, verdict and drop of each further output that has targets, file by file.

    Args:
        group: The rows of a model.
        several: Whether the page is of several models, and each is named.
    """
    lines = [line for line in formatted_rows(group) if line.row.score and line.row.score.per_output]
    names = dict.fromkeys(
        one.output for line in lines if line.row.score for one in line.row.score.per_output
    )
    if not names:
        return ""
    body = _grid(
        "Variant", [escaped(printable(name)) for name in names],
        [(escaped(line.label), [_output_cell(line, name) for name in names]) for line in lines],
    )  # fmt: skip
    of = f"{printable(group.model)}, " if several else ""
    return (
        f'<details class="card"{" open" if len(names) <= MOST_OPEN else ""}>'
        f"<summary>{escaped(of)}other outputs</summary>"
        '<p class="note">Score with its 95 % interval; below it the verdict and the drop against '
        f"{escaped(group.compared_with)}. The verdict on a file is the worst of all its outputs."
        f"</p>{body}</details>"
    )


def _output_cell(line: FormattedRow, name: str) -> str:
    scores = line.row.score.per_output if line.row.score else ()
    score = next((one.score for one in scores if one.output == name), None)
    if score is None:
        return ""
    text = f"{escaped(metric_title(score.metric))} {escaped(score_text(score.metric, score.value))}"
    text += f"<small>{typographic(interval_text(score.metric, score.ci95))}</small>"
    for one in line.row.drop.per_output if line.row.drop else ():
        if one.output == name:
            lost = typographic(drop_text(score.metric, one.drop.value))
            text += (
                f'<small class="verdict-{one.drop.verdict}">{one.drop.verdict}, drop {lost}</small>'
            )
    return text


def _grid(corner: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a table of cells that are HTML already; on a narrow page each row is a card."""
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "".join(
        f'<tr><th scope="row">{title}</th>'
        + "".join(
            f'<td data-label="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)
        )
        + "</tr>"
        for title, cells in rows
    )
    return (
        '<div class="variants scroll" tabindex="0"><table><thead><tr>'
        f'<th scope="col">{corner}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _column_cell(line: FormattedRow, label: str) -> str:
    score, drop = line.row.score, line.row.drop
    column = next((one for one in score.per_column if one.label == label), None) if score else None
    if score is None or column is None:
        return "\u2013"
    text = typographic(score_text(score.metric, column.value))
    text += f"<small>{typographic(interval_text(score.metric, column.ci95))}</small>"
    for lost in drop.per_column if drop else ():
        if lost.label == label:
            text += (
                f'<small class="verdict-{lost.verdict}">{lost.verdict} '
                f"{typographic(drop_text(score.metric, lost.value))}</small>"
            )
    return text


def _sqnr(one: Fidelity) -> str:
    return "exact" if one.sqnr_db is None else typographic(f"{one.sqnr_db:z.1f} dB")


def _likeness(one: Fidelity) -> str:
    if one.agreement is not None:
        return f"{100 * one.agreement:.2f} %"
    if one.correlation is not None:
        return typographic(significant(one.correlation, 4))
    return ""
