"""Output of commands: tables, JSON, and the files they wrote."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.folding import TERMINAL, columns, fold
from edgekit.printable import MOST_PATH, one_line, printable

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.records import Artifact, Report, Row, Timing
    from edgekit.reports import Format


T = TypeVar("T")


def say(*lines: str, label: str = "", error: bool = False) -> None:
    """Print lines for people: folded to the terminal, whole into a pipe.

    Args:
        lines: Each one sentence or more.
        label: What stands before the first, and above which the others are indented.
        error: Print on stderr.
    """
    stream = sys.stderr if error else sys.stdout
    width = columns(stream)
    for line in lines:
        for part in fold(line, width, label=label):
            print(part, file=stream)


def show(lines: Callable[[T, int | None], Iterable[str]], found: T) -> None:
    """Print a record as lines, which are made for the width of `say`."""
    for line in lines(found, columns(sys.stdout)):
        print(line)


def put(text: str) -> None:
    """Print on stdout what nothing is done to: JSON, Markdown."""
    print(text)


def console() -> Console:
    """Return what tables are printed on: stdout, with the width of `say`."""
    from rich.console import Console

    width = columns(sys.stdout)
    return Console(file=sys.stdout, width=width or TERMINAL, soft_wrap=width is None)


def wrote(artifact: Artifact, reference: Artifact | None = None) -> str:
    """The last line: "Wrote quantized/cnn/int8.tflite (45.6 kB, 3.2x smaller)"."""
    size = f"{artifact.flash_bytes / 1000:.1f} kB"
    if reference is not None and reference.flash_bytes > artifact.flash_bytes:
        size += f", {reference.flash_bytes / artifact.flash_bytes:.1f}x smaller"
    if artifact.gzip_bytes is not None:
        size += f"; unpacked {artifact.size_bytes / 1000:.1f} kB"
    return f"Wrote {printable(artifact.shipped, MOST_PATH)} ({size})"


def figures(*rows: Row) -> Iterator[tuple[str, ...]]:
    """Yield the lines of a comparison: label, then the value of each row."""
    from edgekit.reports.formatting import latency_text

    inside = [row.inspection for row in rows if row.inspection]
    yield "size", *(f"{row.artifact.flash_bytes / 1000:.1f} kB" for row in rows)
    yield "download (deflated)", *(f"{r.artifact.size_deflated_bytes / 1000:.1f} kB" for r in rows)
    yield "parameters", *(f"{found.parameters:,}" for found in inside)
    yield "multiply-accumulates", *(f"{found.macs / 1e6:.2f} M" for found in inside)
    yield "latency p50", *(latency_text(row.timing.p50_ms) for row in rows if row.timing)


def emit(report: Report, *, json: bool) -> None:
    """Print a report as a table, or as JSON."""
    warn_missing_charts(report)
    if json:
        from edgekit.schema import report_to_json

        put(json_.dumps(report_to_json(report), allow_nan=False))
        return
    from edgekit.reports import print_report

    print_report(report, console())
    for row in report.rows:
        if row.timing and (lines := list(_details(row.timing))):
            say(f"{printable(row.artifact.variant)}, {one_line(row.timing.device)}", *lines)


def next_lines(report: Report) -> Iterator[str]:
    """Yield the command to type next, on a line that can be copied, and what to fill in."""
    from edgekit.reports.next_command import compiler_command, explanation, next_command

    for row in report.files:
        if row.recommended:
            if compiles := compiler_command(report, row):
                yield f"For the Edge TPU: {compiles}"
            command = next_command(report, row)
            yield f"Next: {command}"
            if said := explanation(command):
                yield f"({said})"


def json_line(value: Any) -> str:
    """Return one line of JSON; non-ASCII letters are escaped unless stdout is UTF-8."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json_.dumps(value, ensure_ascii=not is_utf8)


def _details(timing: Timing) -> Iterator[str]:
    """Yield what was measured beside the latencies (sustained, sweep), as the runner formats it."""
    import edgekit_runner

    if sustained := timing.details.get("sustained"):
        yield from edgekit_runner.sustained_lines(sustained)
    if sweep := timing.details.get("sweep"):
        yield from edgekit_runner.sweep_lines(sweep)


def warn_missing_charts(report: Report) -> None:
    """Warn on stderr that the page has no charts."""
    from edgekit.reports import NO_CHARTS

    for text in report.warnings:
        if text.startswith(NO_CHARTS):
            say(f"Warning: {one_line(text)}", error=True)


def write_rendered(report: Report, path: Path, form: Format, *, replace: bool) -> None:
    """Write a report's file, and say so."""
    from edgekit.files import writing
    from edgekit.reports import encoded, render_all

    with writing(path, replace=replace) as temporary:
        told, contents = render_all(report, (form,))
        temporary.write_bytes(encoded(contents[form]))
    warn_missing_charts(told)
    say(wrote_file(path))


def wrote_file(path: Path) -> str:
    """Tell of a report's file: "Wrote report.html (45.6 kB)"."""
    return f"Wrote {printable(path, MOST_PATH)} ({path.stat().st_size / 1000:.1f} kB)"
