"""Report files, read and merged into one report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.files import FILE, check_input, what_is
from edgekit.parsing import ParseError, read_json
from edgekit.records import Report, Row, Timing
from edgekit.schema import report_from_json


def read_reports(paths: Iterable[Path]) -> Report:
    """Read report files and merge them into one report.

    Rows of the same file (same model, variant and digest) share what is known about it: a score
    from one report and a latency from another end in one row. Every latency keeps a row of its
    own, with the score that was measured with it, and so does every score that names its device,
    so that devices stay apart.

    Raises:
        UsageError: No path, an unreadable file, no JSON, another schema, no rows.
    """
    reports = [_read(Path(path)) for path in paths]
    if not reports:
        raise UsageError(
            "No report file was given.", hint="Give at least one JSON file that edgekit wrote."
        )
    if len(reports) == 1:
        return reports[0]
    rows = _merged([row for report in reports for row in report.rows])
    several = len({row.model for row in rows}) > 1
    names = [_model(report) if several else "" for report in reports]
    named = [_named(report, name) for report, name in zip(reports, names, strict=True)]
    devices: dict[str, dict[str, str]] = {}
    for report in reports:
        for name, facts in _devices(report).items():
            devices[name] = _union([devices.get(name, {}), facts])
    return Report(
        title=", ".join(dict.fromkeys(report.title for report in reports if report.title)),
        asked=_union([report.asked for report in reports], names),
        rows=rows,
        # A line for each model: `findings.reasons` tells them apart.
        reason="\n".join(dict.fromkeys(report.reason for report in named if report.reason)),
        data=_union([report.data for report in reports], names),
        versions=_union([report.versions for report in reports]),
        # What differs between devices belongs beside their names, not into one table.
        device=_union([r.device for r in reports]) if len(devices) < 2 else {},
        devices=devices if len(devices) > 1 else {},
        alerts=tuple(dict.fromkeys(text for report in named for text in report.alerts)),
        warnings=tuple(dict.fromkeys(text for report in named for text in report.warnings)),
        created=max(report.created for report in reports),
    )


def _model(report: Report) -> str:
    """Return the model that the report is about; "" of several, whose texts are named already."""
    models = {row.model for row in report.rows}
    return models.pop() if len(models) == 1 else ""


def _named(report: Report, model: str) -> Report:
    """Return the report with the model's name before each sentence."""

    def named(text: str) -> str:
        return f"{model}: {text}" if model and text else text

    return replace(
        report,
        reason=named(report.reason),
        alerts=tuple(map(named, report.alerts)),
        warnings=tuple(map(named, report.warnings)),
    )


def _devices(report: Report) -> Mapping[str, Mapping[str, str]]:
    """Return the facts of each device on which rows of the report were scored or timed."""
    places = dict.fromkeys(row.place for row in report.rows if row.place)
    alone = report.device if len(places) == 1 else {}
    return {name: report.devices.get(name, alone) for name in (*places, *report.devices)}


def _read(path: Path) -> Report:
    inside = path / "report.json"
    given = inside if what_is(inside) == FILE else "the JSON files that edgekit wrote"
    check_input(path, UsageError, hint=f"Give {given}.")
    try:
        document = read_json(path)
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror or error}.",
            hint="Give the JSON files that edgekit wrote.",
        ) from error
    except ParseError as error:
        raise UsageError(
            f"{path} is not JSON.",
            found=f"{error}.",
            hint="Give the JSON files that edgekit wrote (--json, or report --format json).",
        ) from error
    if not isinstance(document, dict):
        raise UsageError(
            f"{path} is not an edgekit report.",
            found=f"A {type(document).__name__} where an object was expected.",
            hint="Give the JSON files that edgekit wrote.",
        )
    try:
        return report_from_json(document)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", found=error.found, hint=error.hint) from error


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
            fidelity=next((row.fidelity for row in same if row.fidelity), ()),
            # What was lost on one of the devices is told on all.
            collapses=tuple(dict.fromkeys(one for row in same for one in row.collapses)),
            recommended=any(row.recommended for row in same),
            failure=next((row.failure for row in same if row.failure), None),
        )
        places = dict.fromkeys(row.place for row in same if row.place)
        if not places:
            merged.append(whole)
        for place in places:
            here = [row for row in same if row.place == place]
            # A score without a device is valid for all of them.
            anywhere = [row for row in same if row.device is None]
            scored = next((row for row in (*here, *anywhere) if row.score), here[0])
            timings: list[Timing] = []
            for row in here:
                if row.timing is not None and row.timing not in timings:
                    timings.append(row.timing)
                    own = row if row.score else scored
                    merged.append(_taken(whole, own, row.timing, place))
            if not timings:
                merged.append(_taken(whole, scored, None, place))
    models = list(dict.fromkeys(row.model for row in merged))
    return tuple(sorted(merged, key=lambda row: (models.index(row.model), not row.is_source)))


def _taken(whole: Row, own: Row, timing: Timing | None, place: str) -> Row:
    """Return the row of a file on a device: the file's facts, and what was measured there."""
    return replace(
        whole,
        score=own.score,
        drop=own.drop,
        agreement=own.agreement,
        timing=timing,
        failure=own.failure,
        device=None if timing else place,
    )


def _union(
    tables: Sequence[Mapping[str, str]], names: Sequence[str] | None = None
) -> dict[str, str]:
    """Join tables; where they differ, all values are kept, each with the name of its table.

    A command has no name before it: it is typed as it stands.
    """
    keys = dict.fromkeys(key for table in tables for key in table)
    joined = {}
    for key in keys:
        values = [
            (str(table[key]), name)
            for table, name in zip(tables, names or [""] * len(tables), strict=True)
            if key in table
        ]
        alike = key == "command" or len({value for value, _ in values}) == 1
        joined[key] = "; ".join(
            dict.fromkeys(
                value if alike or not name else f"{name}: {value}" for value, name in values
            )
        )
    return joined
