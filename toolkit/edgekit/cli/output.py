"""What commands say on stdout when they are done."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.printable import MOST_PATH, one_line, printable
from edgekit.records import Artifact, Report, Row, Timing

if TYPE_CHECKING:
    from edgekit.reports import Format


def wrote(artifact: Artifact, reference: Artifact | None = None) -> str:
    """The last line: "Wrote quantized/cnn/int8.tflite (45.6 kB, 3.2x smaller)"."""
    size = f"{artifact.size_bytes / 1000:.1f} kB"
    if reference is not None and reference.size_bytes > artifact.size_bytes:
        size += f", {reference.size_bytes / artifact.size_bytes:.1f}x smaller"
    return f"Wrote {printable(artifact.path, MOST_PATH)} ({size})"


def figures(*rows: Row) -> Iterator[tuple[str, ...]]:
    """Lines of a comparison: label, then a figure of each row."""
    inside = [row.inspection for row in rows if row.inspection]
    yield "size", *(f"{row.artifact.size_bytes / 1000:.1f} kB" for row in rows)
    yield "download (deflated)", *(f"{r.artifact.size_deflated_bytes / 1000:.1f} kB" for r in rows)
    yield "parameters", *(f"{found.parameters:,}" for found in inside)
    yield "multiply-accumulates", *(f"{found.macs / 1e6:.2f} M" for found in inside)
    yield "latency p50", *(f"{row.timing.p50_ms:.3g} ms" for row in rows if row.timing)


def emit(report: Report, *, json: bool) -> None:
    """Print a report as a table, or as JSON."""
    tell_missing_charts(report)
    if json:
        from edgekit.schema import report_to_json

        print(json_.dumps(report_to_json(report), allow_nan=False))
        return
    from rich.console import Console

    from edgekit.reports import tables

    tables.terminal(report, Console(file=sys.stdout))
    for row in report.rows:
        if row.timing and (lines := list(_details(row.timing))):
            print(f"{printable(row.artifact.variant)}, {one_line(row.timing.device)}")
            print("\n".join(lines))


def json_line(value: Any) -> str:
    """One line of JSON, with letters as they are where stdout has them."""
    told = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json_.dumps(value, ensure_ascii=not told)


def _details(timing: Timing) -> Iterator[str]:
    """What `bench` was asked for beyond latencies, in the runner's words."""
    import edgekit_runner

    if sustained := timing.details.get("sustained"):
        yield from edgekit_runner.sustained_lines(sustained)
    if sweep := timing.details.get("sweep"):
        yield from edgekit_runner.sweep_lines(sweep)


def tell_missing_charts(report: Report) -> None:
    """Say on stderr, beside the report itself, that its page is without pictures."""
    from edgekit.reports import NO_CHARTS

    for text in report.warnings:
        if text.startswith(NO_CHARTS):
            print(f"Warning: {one_line(text)}", file=sys.stderr)


def write_rendered(report: Report, files: Mapping[Path, Format], *, quiet: bool = False) -> None:
    """Write a report's files, each in its format; say so unless stdout is JSON."""
    from edgekit.reports import render_all

    told, contents = render_all(report, files.values())
    tell_missing_charts(told)
    for path, form in files.items():
        write_whole(path, contents[form], quiet=quiet)


def write_whole(path: Path, content: str | bytes, *, quiet: bool = False) -> None:
    """Write a report's file, and say so unless stdout is JSON."""
    from edgekit.files import writing

    with writing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    if not quiet:
        shown = printable(path, MOST_PATH)
        print(f"Wrote {shown} ({path.stat().st_size / 1000:.1f} kB)")
