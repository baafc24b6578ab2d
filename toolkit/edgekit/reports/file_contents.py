"""The page's sections on the files: their size by part, their operators on accelerators."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.printable import printable
from edgekit.records import Report, Row
from edgekit.reports.charts import compared_files
from edgekit.reports.chosen_ranges import choice_card
from edgekit.reports.fit_table import fit_rows
from edgekit.reports.formatting import size_text
from edgekit.reports.groups import Group, groups_by_model
from edgekit.reports.npu_text import PREDICTED, fit_text, npu_text, said_by
from edgekit.reports.page_text import capitalized, escaped
from edgekit.reports.recovery_text import precision_line, recovery_card


def bytes_legend(group: Group) -> str:
    """Say which files are compared."""
    names = " and ".join(escaped(line.label) for line, _ in compared_files(group))
    return f"Weights and other constants, layer by layer, in {names}."


def bytes_table(group: Group) -> str:
    """Tabulate the size of each inspected file by part."""
    compared = compared_files(group)
    if not compared:
        return ""
    kinds = list(dict.fromkeys(kind for _, inspection in compared for kind in inspection.bytes))
    head = "".join(f'<th scope="col">{escaped(line.label)}</th>' for line, _ in compared)
    body = "".join(
        f'<tr><th scope="row">{escaped(kind)}</th>'
        + "".join(f"<td>{size_text(i.bytes.get(kind, 0))}</td>" for _, i in compared)
        + "</tr>"
        for kind in kinds
    )
    facts = [
        ("whole file", [size_text(inspection.size_bytes) for _, inspection in compared]),
        (
            "compressed (zlib)",
            [size_text(line.row.artifact.size_deflated_bytes) for line, _ in compared],
        ),
        ("parameters", [f"{inspection.parameters:,}" for _, inspection in compared]),
        ("multiply-accumulates", [f"{inspection.macs:,}" for _, inspection in compared]),
    ]
    body += "".join(
        f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{v}</td>" for v in values) + "</tr>"
        for name, values in facts
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Part</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def predictions(report: Report) -> str:
    """List what is predicted, how ranges were chosen, and what was kept in float."""
    groups = groups_by_model(report)
    files = [row for group in groups for row in group.files]
    rows = [row for row in files if row.recommended] or files[:1]
    text = _fit_table(report)
    for group in groups:
        cards = "".join(
            choice_card(row) + _precisions(row) + recovery_card(row) for row in group.files
        )
        if cards and len(groups) > 1:
            text += f"<h3>{escaped(printable(group.model))}</h3>"
        text += cards
    for row in rows:
        if row.inspection is None:
            continue
        for target in dict.fromkeys(name for op in row.inspection.ops for name in op.targets):
            text += _fit(row, target)
        listed = row.artifact.manifest.get("left_in_float")
        left = (
            [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
        )
        items = "".join(
            f"<li><code>{escaped(one.get('operator', ''))}</code> {escaped(one.get('layer', ''))}: "
            f"{escaped(one.get('reason', ''))}</li>"
            for one in left
        )
        if items:
            text += (
                '<details class="card"><summary>Kept in float in '
                f"{escaped(printable(row.artifact.variant))} ({len(left)})</summary>"
                f"<ul>{items}</ul></details>"
            )
    return text


def _fit_table(report: Report) -> str:
    targets, rows = fit_rows(report)
    if not targets:
        return ""
    head = "".join(f'<th scope="col">{escaped(target)}</th>' for target in targets)
    body = "".join(
        f'<tr><th scope="row">{escaped(name)}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    return (
        "<h2>Targets</h2>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Variant</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _precisions(row: Row) -> str:
    line = precision_line(row)
    return f"<p>{escaped(line)}</p>" if line else ""


def _fit(row: Row, target: str) -> str:
    assert row.inspection is not None
    items = "".join(
        f"<li><code>{escaped(op.name)}</code> {escaped(op.layer)}: "
        f"{escaped(op.targets[target].reason or 'not supported')}</li>"
        for op in row.inspection.unmapped(target)
    )
    estimate = row.inspection.estimates.get(target)
    said = said_by(row.inspection, target)
    by = capitalized(said) if said == PREDICTED else f"{said}'s answer"
    summary = escaped(
        f"{by} for {target}: {fit_text(row.inspection, target)} of "
        f"{printable(row.artifact.variant)} on the accelerator"
        + (f"; {npu_text(estimate)}" if estimate is not None else "")
    )
    if not items:
        return f"<p><b>{summary}.</b></p>"
    return f'<details class="card"><summary>{summary}</summary><ul>{items}</ul></details>'
