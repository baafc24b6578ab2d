"""The row of the source: first of its model everywhere, and nowhere taken for a file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from edgekit.artifacts import open_artifact
from edgekit.records import Row
from edgekit.reports import charts, read_reports, render
from edgekit.reports.columns import present_columns
from edgekit.reports.drawing import PageCharts
from edgekit.reports.file_contents import bytes_table, predictions
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.reports.groups import groups_by_device, groups_by_model
from edgekit.reports.page import html

PI = "pi4: Raspberry Pi 4"


@pytest.fixture(scope="module")
def report(fashion, with_source):
    return with_source(fashion)


def save(report, path):
    path.write_text(render(report, "json"))
    return path


def test_it_stands_first_with_a_score_and_nothing_else(report):
    (group,) = groups_by_device(report)
    source, *files = formatted_rows(group)
    assert (source.label, source.score) == ("source", "91.67 %")
    assert (source.size, source.download, source.latency, source.drop) == ("", "", "", "")
    assert (source.size_ratio, source.download_ratio, source.latency_ratio) == (None, None, None)
    assert (source.best, source.role) == (frozenset(), "other")
    assert [line.label for line in files] == ["float32", "float16", "dynamic", "int8"]


def test_the_files_are_described_as_without_it(report, fashion):
    (with_it,), (without,) = groups_by_device(report), groups_by_device(fashion)
    assert formatted_rows(with_it)[1:] == formatted_rows(without)
    columns = [[c.heading(g) for c in present_columns(g, formatted_rows(g))] for g in
               (with_it, without)]  # fmt: skip
    assert columns[0] == columns[1]


def test_what_it_has_not_is_a_dash_in_every_table(report):
    (line,) = [t for t in render(report, "terminal").splitlines() if t.startswith("source")]
    assert line.split() == ["source", "-", "91.67", "%", "-", "-", "-"]
    (line,) = [t for t in render(report, "md").splitlines() if t.startswith("| source")]
    assert [cell.strip()[:5] for cell in line.split("|")[2:6]] == ["-", "", "91.67", "-"]
    page = html(report, PageCharts())
    row = page[page.index('<th scope="row">source') :].split("</tr>")[0]
    assert '<td class=blank data-label="Size">\u2013</td>' in row
    assert row.count("blank") == 4
    cells = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert [one["variant"] for one in cells][:2] == ["source", "float32"]
    assert (cells[0]["size_bytes"], cells[0]["size_ratio"], cells[0]["p50_ms"]) == ("", "", "")
    assert float(cells[0]["score"]) == report.rows[0].score.value


def test_no_chart_and_no_size_table_shows_it(report, fashion):
    assert list(charts.charts(report)) == list(charts.charts(fashion))
    for name, chart in charts.charts(report).items():
        assert chart.to_dict() == charts.charts(fashion)[name].to_dict()
    (group,) = groups_by_model(report)
    assert "source" not in bytes_table(group)
    rows = tuple(replace(row, recommended=False) for row in report.rows)
    assert "float32" in predictions(replace(report, rows=rows))


def test_a_source_alone_is_a_report_too(report):
    alone = replace(report, rows=report.rows[:1], reason="", asked={})
    assert charts.charts(alone) == {}
    for form in ("terminal", "md", "csv", "html"):
        assert "91.67" in render(alone, form) or form == "csv"


def test_on_several_devices_it_stands_once(fashion, ladder, with_source):
    both = replace(fashion, rows=fashion.rows + ladder(device=PI).rows)
    groups = groups_by_device(with_source(both))
    assert [[r.is_source for r in group.rows].count(True) for group in groups] == [1, 0]
    assert groups[0].rows[0].is_source
    assert render(with_source(both), "csv").count(",source,") == 1
    text = render(with_source(both), "terminal")
    assert sum(line.startswith("source") for line in text.splitlines()) == 1


def test_merged_models_have_a_source_each_first_of_its_model(ladder, with_source, tmp_path):
    digits = ladder("fsdd_dscnn", n=300)
    paths = [
        save(ladder(), tmp_path / "a"),
        save(with_source(digits), tmp_path / "b"),
        save(with_source(ladder()), tmp_path / "c"),
        save(with_source(digits), tmp_path / "d"),
    ]
    merged = read_reports(paths)
    shown = [(row.model, row.artifact.variant) for row in merged.rows]
    assert len(merged.rows) == 10
    assert shown[0] == ("fashion_mnist_cnn", "source")
    assert shown[5] == ("fsdd_dscnn", "source")
    assert sum(row.is_source for row in merged.rows) == 2


def test_it_survives_json(report):
    again = json.loads(render(report, "json"))["rows"][0]
    assert (again["variant"], again["mode"], again["latency"]) == ("source", None, None)


def test_a_file_called_source_is_a_file(golden, tmp_path):
    path = tmp_path / "source.tflite"
    path.write_bytes((golden / "inspect" / "loop_float32.tflite").read_bytes())
    artifact = open_artifact(path)
    assert artifact.variant == "source.tflite"
    assert not Row(model="m", artifact=artifact).is_source
