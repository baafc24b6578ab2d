"""The figures before and after a step: as tables and reports write them."""

from __future__ import annotations

from dataclasses import replace

from edgekit.cli.output import figures
from edgekit.reports import read_reports


def test_latencies_have_as_many_digits_as_in_a_table(repository):
    # Given two latencies far below a millisecond
    report = read_reports([repository / "quantized/turbofan/report.json"])
    row = next(row for row in report.rows if row.timing)
    rows = [
        replace(row, timing=replace(row.timing, values_ns=(nanoseconds,) * 9))
        for nanoseconds in (3_900, 2_520)
    ]
    # When they are compared
    found = {name: values for name, *values in figures(*rows)}
    # Then both have two digits
    assert found["latency p50"] == ["0.0039 ms", "0.0025 ms"]
