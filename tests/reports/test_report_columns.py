"""Columns are declared once: every table of rows shows the same ones."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgekit.reports import columns, print_report, render
from edgekit.reports.columns import COLUMNS, Cell, Column, present_columns
from edgekit.reports.drawing import PageCharts
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.reports.groups import groups_by_device
from edgekit.reports.page import html

FIELDS = (
    *("model", "variant", "mode", "path", "sha256", "size_bytes", "size_deflated_bytes"),
    *("size_ratio", "macs", "parameters", "metric", "score", "score_low", "score_high", "n"),
    *("drop", "drop_low", "drop_high", "verdict", "agreement", "sqnr_db", "collapses"),
    *("p50_ms", "p90_ms", "p99_ms"),
    *("mean_ms", "latency_ratio", "invocations", "threads", "device", "runtime", "delegate"),
    *("peak_rss_bytes", "recommended"),
)


def printed(report, width):
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width, no_color=True))
    return stream.getvalue()


def titles(report):
    (group,) = groups_by_device(report)
    return [column.heading(group) for column in present_columns(group, formatted_rows(group))]


@pytest.fixture
def with_runtime(monkeypatch):
    """One more column, made of text from outside."""
    column = Column(
        title="runtime",
        subtitle="as reported",
        cell=lambda line: Cell(figure=line.row.timing.runtime if line.row.timing else ""),
        csv={"runtime_text": lambda line: line.row.timing and line.row.timing.runtime},
    )
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, column))


@pytest.mark.usefixtures("with_runtime")
def test_an_entry_is_all_that_a_new_column_needs(fashion):
    name = "ai-edge-litert 2.3.0"

    assert printed(fashion, 120).count(name) == 4
    assert "| runtime (as reported) |" in render(fashion, "md")
    assert f"| {name} |" in render(fashion, "md")
    assert "Runtime<small>as reported</small>" in html(fashion, PageCharts())
    (first, *_) = csv.DictReader(io.StringIO(render(fashion, "csv")))
    assert first["runtime_text"] == name


@pytest.mark.usefixtures("with_runtime")
def test_text_of_a_cell_is_escaped(hostile):
    assert "<script>alert" not in html(hostile, PageCharts()).partition("<body>")[2]
    assert "<script" not in render(hostile, "md")


def test_the_fields_of_csv_files_do_not_change(fashion):
    unmeasured = tuple(
        replace(row, score=None, drop=None, agreement=None, timing=None, inspection=None)
        for row in fashion.rows
    )

    for report in (fashion, replace(fashion, rows=unmeasured), replace(fashion, rows=())):
        header = render(report, "csv").splitlines()[0].split(",")
        assert [name for name in header if name in FIELDS] == list(FIELDS)


def test_only_columns_with_figures_are_shown(fashion, ladder):
    bench = replace(
        fashion,
        rows=tuple(replace(r, score=None, drop=None, agreement=None) for r in fashion.rows),
    )

    assert titles(fashion)[:5] == ["size", "accuracy", "drop", "verdict", "agreement"]
    assert titles(ladder("cmapss_cnn1d", n=100))[:4] == ["size", "RMSE", "drop", "verdict"]
    assert titles(bench)[:2] == ["size", "latency"]
    assert "drop" not in render(bench, "md")


def test_memory_is_shown_where_it_was_measured_on_one_device(fashion, ladder):
    bench = replace(
        fashion,
        rows=tuple(replace(r, score=None, drop=None, agreement=None) for r in fashion.rows),
    )
    unknown = tuple(replace(r, timing=replace(r.timing, peak_rss_bytes=0)) for r in bench.rows)
    two_devices = replace(fashion, rows=fashion.rows + ladder(device="pi@raspberrypi").rows)

    assert printed(bench, 80).count("48.0 MB") == 4
    assert "| memory (peak RSS) |" in render(fashion, "md")
    assert "memory" not in render(replace(bench, rows=unknown), "md")
    assert "memory" not in render(two_devices, "md")


def test_compressed_models_show_download_and_macs(many):
    assert titles(many)[:3] == ["size", "download", "MACs"]
    assert "download (deflated)" in render(many, "md")


def test_a_narrow_terminal_says_what_it_leaves_out(many):
    narrow, wide = printed(many, 80), printed(many, 120)

    assert max(map(len, narrow.splitlines())) <= 80
    assert "99.21 %" not in narrow
    assert "too narrow to show: agreement, memory" in " ".join(narrow.split())
    assert "99.21 %" in wide
    assert "too narrow" not in wide
