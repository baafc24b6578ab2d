from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from edgekit.errors import UsageError
from edgekit.evaluation import metrics
from edgekit.reports import read_reports, render
from edgekit.schema import inspection_to_json, report_from_json, report_to_json

PI = "pi@raspberrypi: Cortex-A72, 4 cores"


def save(report, path):
    path.write_text(render(report, "json"))
    return path


@pytest.mark.parametrize("name", ["fashion_mnist_cnn", "fsdd_dscnn", "cmapss_cnn1d"])
def test_a_report_survives_json(ladder, name):
    report = ladder(name)
    again = report_from_json(json.loads(render(report, "json")))
    # The manifest's own rows are the one thing left out, lest rows nest in rows.
    rows = tuple(
        replace(
            row,
            artifact=replace(
                row.artifact,
                manifest={k: v for k, v in row.artifact.manifest.items() if k != "rows"},
            ),
        )
        for row in report.rows
    )
    assert again == replace(report, rows=rows)


def test_a_row_holds_what_the_contract_names(fashion):
    document = report_to_json(fashion)
    assert document["schema"] == 1
    row = document["rows"][2]
    assert row["model"] == "fashion_mnist_cnn"
    assert (row["variant"], row["size_bytes"], row["recommended"]) == ("dynamic", 45648, True)
    assert set(row["score"]) >= {"metric", "value", "n", "ci95"}
    assert row["drop"] == pytest.approx(0.0001)
    assert row["agreement"] == 0.9921
    assert set(row["latency"]) >= {
        *("p50_ms", "p90_ms", "p99_ms", "mean_ms", "n", "threads", "device", "runtime"),
        "delegate",
    }
    assert row["latency"]["p50_ms"] == pytest.approx(0.0356, rel=0.02)
    assert row["peak_rss_bytes"] == 48_000_000


def test_an_inspection_holds_what_the_contract_names(fashion):
    document = inspection_to_json(fashion.rows[3].inspection)
    assert document["schema"] == 1
    assert document["size_bytes"] == 46184
    assert sum(document["bytes"].values()) == 46184
    op = document["ops"][0]
    assert (op["index"], op["name"], op["dtype"], op["bytes"]) == (0, "CONV_2D", "int8", 144)
    assert op["targets"] == {"coral": {"mapped": True, "reason": None}}


def test_a_number_that_is_not_finite_becomes_null(fashion):
    row = fashion.rows[3]
    broken = replace(
        row,
        score=replace(row.score, value=math.nan, ci95=(math.nan, math.inf)),
        artifact=replace(row.artifact, manifest={"lowering": {"max_abs_difference": math.inf}}),
    )
    text = render(replace(fashion, rows=(broken,)), "json")
    assert json.loads(text)["rows"][0]["manifest"] == {"lowering": {"max_abs_difference": None}}
    score = json.loads(text)["rows"][0]["score"]
    assert score["value"] is None
    assert math.isnan(report_from_json(json.loads(text)).rows[0].score.value)


def test_a_score_from_here_and_a_latency_from_there_end_in_one_row(fashion, tmp_path):
    scored = replace(fashion, rows=tuple(replace(row, timing=None) for row in fashion.rows))
    timed = replace(
        fashion,
        rows=tuple(
            replace(row, score=None, drop=None, agreement=None, inspection=None, recommended=False)
            for row in fashion.rows
        ),
    )
    merged = read_reports([save(scored, tmp_path / "eval"), save(timed, tmp_path / "bench")])
    assert len(merged.rows) == 4
    assert all(row.score and row.timing and row.inspection for row in merged.rows)
    assert [row.recommended for row in merged.rows] == [False, False, True, False]
    assert merged.title == "fashion_mnist_cnn"


def test_devices_keep_their_rows_and_their_descriptions(fashion, ladder, tmp_path):
    there = ladder(device=PI)
    merged = read_reports([save(fashion, tmp_path / "a"), save(there, tmp_path / "b")])
    assert len(merged.rows) == 8
    assert {row.timing.device for row in merged.rows} == {PI, fashion.rows[0].timing.device}
    assert merged.devices[PI] == {"device": PI}


def test_one_file_is_read_as_it_is(fashion, tmp_path):
    path = save(fashion, tmp_path / "rows.json")
    assert render(read_reports([path]), "json") == path.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("accuracy 91.67", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[1, 2]", "not an edgekit report"),
        ('{"schema": 2, "rows": []}', "schema is 2"),
        ('{"rows": []}', "schema is None"),
        ('{"schema": 1, "ops": []}', "no rows"),
        ('{"schema": 1, "rows": [{"model": "cnn"}]}', "'path'"),
        ('{"schema": 1, "rows": [7]}', "not match the schema"),
    ],
)
def test_a_file_that_is_no_report_is_refused_in_plain_words(tmp_path, content, said):
    path = tmp_path / "rows.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        read_reports([path])
    assert said in str(caught.value)
    assert "rows.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_what_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(UsageError, match=r"does not exist|is a folder"):
            read_reports([path])
    with pytest.raises(UsageError, match="No report file"):
        read_reports([])


@pytest.fixture
def own_metric(fashion, monkeypatch):
    """A report that was scored by a metric of the user's own, as JSON, in a process without it."""
    monkeypatch.setattr(metrics, "_ADDED", {})
    metric = replace(
        metrics.RMSE, name="cost", title="cost <b>a</b>", meaning="Euros & cents.", unit="quantity"
    )
    metrics.add_metric(metric)
    rows = [
        replace(row, score=row.score and replace(row.score, metric="cost")) for row in fashion.rows
    ]
    document = json.loads(render(replace(fashion, rows=tuple(rows)), "json"))
    monkeypatch.setattr(metrics, "_ADDED", {})
    return document


def test_a_metric_of_ones_own_survives_json(own_metric):
    again = report_from_json(own_metric)
    assert json.loads(render(again, "json")) == own_metric
    assert metrics.metric_named("cost").higher_is_better is False
    assert "cost" in render(again, "md")
    page = render(again, "html")
    # The process that draws knows it, too, and nothing of it is markup.
    assert "<svg" in page
    assert "Cost &lt;b&gt;a&lt;/b&gt; against size" in page
    assert "Euros &amp; cents." in page
    assert "<b>a</b>" not in page


def test_a_metric_that_a_report_describes_does_not_replace_one_that_computes(own_metric):
    mine = replace(metrics.RMSE, name="cost", title="my cost")
    metrics.add_metric(mine)
    report_from_json(own_metric)
    assert metrics.metric_named("cost") is mine


@pytest.mark.parametrize(
    ("field", "value"),
    [("unit", "euro"), ("title", 3), ("higher_is_better", "no"), ("meaning", [])],
)
def test_a_metric_that_is_described_wrongly_is_refused(own_metric, field, value):
    own_metric["rows"][0]["score"]["metric_facts"][field] = value
    with pytest.raises(UsageError, match=rf"metric_facts\.{field}"):
        report_from_json(own_metric)


def test_an_unknown_metric_that_nothing_describes_is_refused(own_metric):
    del own_metric["rows"][0]["score"]["metric_facts"]
    with pytest.raises(UsageError, match=r"score\.metric is 'cost'; expected"):
        report_from_json(own_metric)
