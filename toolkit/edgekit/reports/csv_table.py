"""Reports as CSV: unrounded figures for other programs."""

from __future__ import annotations

import csv as csv_format
import io
from numbers import Real
from typing import Any

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Report
from edgekit.reports.figures import Line, groups, lines

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(report: Report) -> str:
    """Return one line a row with unrounded figures, units in the column names."""
    stream = io.StringIO()
    records = [_record(line) for group in groups(report) for line in lines(group)]
    writer = csv_format.DictWriter(stream, list(_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


_COLUMNS = (
    "model", "variant", "mode", "path", "sha256", "size_bytes", "size_deflated_bytes",
    "size_ratio", "macs", "parameters", "metric", "score", "score_low", "score_high", "n",
    "drop", "drop_low", "drop_high", "verdict", "agreement", "p50_ms", "p90_ms", "p99_ms",
    "mean_ms", "latency_ratio", "invocations", "threads", "device", "runtime", "delegate",
    "peak_rss_bytes", "recommended",
)  # fmt: skip


def _record(line: Line) -> dict[str, Any]:
    return {name: _cell(value) for name, value in _values(line).items()}


def _cell(value: Any) -> Any:
    """Return a cell as spreadsheets may read it: numbers as they are, text never a formula.

    A text that would begin one is put behind an apostrophe, which spreadsheets do not show.
    """
    if value is None or isinstance(value, Real):
        return value
    text = printable(value, MOST_PATH)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _values(line: Line) -> dict[str, Any]:
    row = line.row
    artifact, score, drop, timing = row.artifact, row.score, row.drop, row.timing
    record: dict[str, Any] = {
        "model": row.model,
        "variant": artifact.variant,
        "mode": artifact.mode,
        "path": artifact.path,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "size_deflated_bytes": artifact.size_deflated_bytes,
        "size_ratio": line.size_ratio,
        "verdict": line.verdict,
        "agreement": row.agreement,
        "latency_ratio": line.latency_ratio,
        "recommended": str(row.recommended).lower(),
        "device": row.place,
    }
    if row.inspection:
        record |= {"macs": row.inspection.macs, "parameters": row.inspection.parameters}
    if score:
        low, high = score.ci95
        record |= {"metric": score.metric, "score": score.value, "n": score.n}
        record |= {"score_low": low, "score_high": high}
    if drop:
        record |= {"drop": drop.value, "drop_low": drop.ci95[0], "drop_high": drop.ci95[1]}
    if timing:
        record |= {
            "p50_ms": timing.p50_ms,
            "p90_ms": timing.percentile_ms(90),
            "p99_ms": timing.percentile_ms(99),
            "mean_ms": timing.mean_ms,
            "invocations": len(timing.values_ns),
            "threads": timing.threads,
            "runtime": timing.runtime,
            "delegate": timing.delegate,
            "peak_rss_bytes": timing.peak_rss_bytes,
        }
    return record
