"""A file that is smaller on flash and larger in memory says so, with both figures."""

from __future__ import annotations

from pathlib import Path

from edgekit.pipeline.report import Outcome, build_report
from edgekit.records import Artifact, Report, Row, Timing


def row(mode: str, size: int, memory: int | None, *, gzip: int | None = None) -> Row:
    timing = Timing(
        values_ns=(1000,), warmup_ns=(), threads=1, device="here", runtime="litert 2",
        delegate=None, peak_rss_bytes=60_000_000, memory_bytes=memory,
    )  # fmt: skip
    artifact = Artifact(
        path=Path(f"{mode}.tflite"), variant=mode, mode=mode, size_bytes=size,
        size_deflated_bytes=size, sha256="", gzip_bytes=gzip,
    )  # fmt: skip
    return Row(model="m", artifact=artifact, timing=timing)


def report(*rows: Row) -> Report:
    return build_report([Outcome(rows=list(rows))], asked={}, data={})


def test_less_flash_and_more_memory_is_said_in_one_line() -> None:
    found = report(
        row("float32", 90_000, 300_000),
        row("int4", 18_000, 420_000, gzip=13_600),
        row("int8", 31_000, 170_000),
        row("float16", 49_000, 303_000),  # a page more says nothing
    )

    assert found.warnings == (
        "int4 takes 13.6 kB of flash instead of 90.0 kB, but 420 kB of memory instead of 300 kB.",
    )


def test_where_the_system_does_not_tell_nothing_is_said() -> None:
    unknown = report(row("float32", 90_000, None), row("int4", 18_000, 420_000))
    half_known = report(row("float32", 90_000, 300_000), row("int4", 18_000, None))

    assert (*unknown.warnings, *half_known.warnings) == ()
