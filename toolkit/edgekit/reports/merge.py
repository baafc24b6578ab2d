"""Row files, read and merged into one report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.records import Report, Row, Timing
from edgekit.schema import report_from_json


def read_reports(paths: Iterable[Path]) -> Report:
    """Read row files and merge them into one report.

    Rows of the same file (same model, variant and digest) share what was found out about it:
    a score from one place and a latency from another end in one line. Every latency keeps a line
    of its own, so that devices stay apart.

    Raises:
        UsageError: No path, an unreadable file, no JSON, another schema, no rows.
    """
    reports = [_read(Path(path)) for path in paths]
    if not reports:
        raise UsageError("No row file was given.", cure="Name at least one JSON file with rows.")
    if len(reports) == 1:
        return reports[0]
    rows = _merged([row for report in reports for row in report.rows])
    warnings = list(dict.fromkeys(text for report in reports for text in report.warnings))
    devices = dict.fromkeys(row.timing.device for row in rows if row.timing is not None)
    if len(devices) > 1:
        warnings.append(
            f"Latencies come from {len(devices)} devices. They are listed one device at a time "
            "and never compared with each other."
        )
    return Report(
        title=", ".join(dict.fromkeys(report.title for report in reports if report.title)),
        asked=_union([report.asked for report in reports]),
        rows=rows,
        reason=" ".join(dict.fromkeys(report.reason for report in reports if report.reason)),
        data=_union([report.data for report in reports]),
        versions=_union([report.versions for report in reports]),
        device=_union([report.device for report in reports]),
        warnings=tuple(warnings),
        created=max(report.created for report in reports),
    )


def _read(path: Path) -> Report:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror or error}.",
            cure="Give the JSON files that edgekit wrote.",
        ) from error
    except ValueError as error:  # both broken JSON and bytes that are no text
        raise UsageError(
            f"{path} is not JSON.",
            found=str(error).splitlines()[0],
            cure="Give the JSON files that edgekit wrote (--json, or report --format json).",
        ) from error
    if not isinstance(document, dict):
        raise UsageError(
            f"{path} holds no report.",
            found=f"A {type(document).__name__} where an object was expected.",
            cure="Give the JSON files that edgekit wrote.",
        )
    try:
        return report_from_json(document)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", found=error.found, cure=error.cure) from error


def _merged(rows: Sequence[Row]) -> tuple[Row, ...]:
    files: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        files.setdefault((row.model, row.artifact.variant, row.artifact.sha256), []).append(row)
    merged: list[Row] = []
    for same in files.values():
        whole = replace(
            same[0],
            inspection=next((row.inspection for row in same if row.inspection), None),
            score=next((row.score for row in same if row.score), None),
            drop=next((row.drop for row in same if row.drop), None),
            agreement=next((row.agreement for row in same if row.agreement is not None), None),
            recommended=any(row.recommended for row in same),
        )
        timings: list[Timing | None] = []
        for row in same:
            if row.timing is not None and row.timing not in timings:
                timings.append(row.timing)
        merged += [replace(whole, timing=timing) for timing in timings or [None]]
    return tuple(merged)


def _union(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Join tables; where they differ, both values are kept."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {
        key: "; ".join(dict.fromkeys(str(table[key]) for table in tables if key in table))
        for key in keys
    }
