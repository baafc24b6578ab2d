"""Which file runs on which target: a row a file, a column a target."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.printable import printable
from edgekit.records import Inspection, Report, Row
from edgekit.reports.findings import file_name
from edgekit.reports.formatting import latency_text
from edgekit.reports.groups import groups_by_model
from edgekit.reports.npu_text import fit_text, said_by


def fit_rows(report: Report) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the targets, and the name of each file with what each takes of it.

    Nothing is returned where no target was named.
    Without a name every file is held against one target, of which the report says a sentence.
    """
    if "target" not in report.asked:
        return [], []
    rows = [row for group in groups_by_model(report) for row in group.files if row.inspection]
    named = dict.fromkeys(target for row in rows for target in _targets(row))
    return list(named), [
        (file_name(report, row), [cell_text(row.inspection, target) for target in named])
        for row in rows
        if row.inspection is not None
    ]


def cell_text(inspection: Inspection, target: str) -> str:
    """Return whether a file runs on a target, how that is known, and what stands in its way."""
    if all(target not in op.targets for op in inspection.ops):
        return ""
    estimate, memory = inspection.estimates.get(target), inspection.memory.get(target)
    blocked = inspection.unmapped(target)
    if estimate is not None and estimate.message is not None:
        return printable(estimate.message)
    first = f"; not {printable(blocked[0].name)} ({blocked[0].index})" if blocked else ""
    if memory is not None and blocked:
        return f"does not load{first}"
    if memory is not None:
        fits = {True: "fits", False: "does not fit", None: "loads"}[memory.fits]
        return f"{fits} ({'measured' if memory.measured else 'estimated'})"
    time = f"; {latency_text(estimate.time_ms)} simulated" if estimate and estimate.time_ms else ""
    return f"{said_by(inspection, target)}: {fit_text(inspection, target)}{first}{time}"


def _targets(row: Row) -> Iterator[str]:
    assert row.inspection is not None
    for op in row.inspection.ops:
        yield from op.targets
