from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from PIL import Image

from edgekit.errors import UsageError
from edgekit.records import Drop
from edgekit.reports import charts, read_reports, render, write
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.reports.groups import groups_by_model
from edgekit.reports.score_chart import accuracy_size


def texts(svg):
    return {"".join(node.itertext()) for node in ET.fromstring(svg).iter() if "text" in node.tag}


def values(chart):
    """Every record of every layer that is in the chart."""
    spec = chart.to_dict()
    return [
        record
        for part in (spec, *spec["layer"])
        for record in part.get("data", {}).get("values", ())
    ]


@pytest.mark.parametrize("name", ["fashion_mnist_cnn", "fsdd_dscnn", "cmapss_cnn1d"])
def test_every_variant_is_named_in_the_picture(ladder, name):
    (group,) = groups_by_model(ladder(name, n=300))
    assert {"float32", "dynamic", "int8"} <= texts(charts.svg(accuracy_size(group)))


def label_layers(chart):
    """The names in a chart, for a wide and for a narrow plot."""
    names = {"wide": set(), "narrow": set()}
    for layer in chart.to_dict()["layer"]:
        if layer["mark"]["type"] == "text":
            width = "wide" if ">=" in layer["mark"]["opacity"]["expr"] else "narrow"
            names[width] |= {value["label"] for value in layer["data"]["values"]}
    return names


def test_every_point_of_the_published_models_is_named_at_every_width(repository):
    paths = sorted(repository.glob("quantized/*/report.json"))
    assert len(paths) >= 6
    for path in paths:
        (group,) = groups_by_model(read_reports([path]))
        every = {line.label for line in formatted_rows(group) if not line.row.is_source}
        assert label_layers(accuracy_size(group)) == {"wide": every, "narrow": every}, path


def test_long_names_lose_their_middle_in_every_chart(fashion):
    name = "a-variant-of-a-long-name-"
    rows = tuple(
        replace(
            row,
            artifact=replace(row.artifact, variant=f"{name}{row.artifact.variant}"),
            inspection=replace(
                row.inspection,
                ops=tuple(replace(op, layer=f"{name}{op.index}") for op in row.inspection.ops),
            ),
        )
        for row in fashion.rows
    )
    drawn = charts.charts(replace(fashion, rows=rows))
    ends = {"accuracy-size": "int8", "latency": "int8", "bytes": "8"}
    for chart, end in ends.items():
        shown = texts(charts.svg(drawn[chart]))
        assert any(t.startswith("a-vari") and "..." in t and t.endswith(end) for t in shown), chart
        assert not any("\u2026" in t for t in shown)


def test_the_score_chart_says_what_it_shows(ladder):
    (group,) = groups_by_model(ladder("cmapss_cnn1d", n=100))
    shown = texts(charts.svg(accuracy_size(group)))
    assert "RMSE (lower is better)" in shown
    assert "cmapss_cnn1d: RMSE against size" in shown


def test_the_auc_of_an_autoencoder_is_drawn_too(fashion):
    rows = tuple(
        replace(
            row,
            agreement=None,
            drop=Drop(value=0.034, ci95=(0.02, 0.05), verdict="lost"),
            score=replace(row.score, metric="roc_auc", value=value, ci95=(value - 0.02, value)),
        )
        # MLPerf Tiny's anomaly detector, as published: float and int8
        for row, value in zip(fashion.rows[::3], (0.876, 0.842), strict=True)
    )
    (group,) = groups_by_model(replace(fashion, rows=rows))
    assert "ROC AUC" in texts(charts.svg(accuracy_size(group)))


def test_tooltips_tell_every_figure(fashion):
    (group,) = groups_by_model(fashion)
    point = next(v for v in values(accuracy_size(group)) if v.get("Variant", "").startswith("dyn"))
    assert point["Size"] == "45.6 kB, 3.2x smaller"
    assert point["Accuracy"] == "91.66 %"
    assert point["Drop"] == "+0.01 (-0.07 to +0.09), kept"
    assert point["p50 latency"] == "0.036 ms"
    assert point["Test samples"] == "10,000"


def test_what_was_not_measured_is_not_drawn(fashion):
    bench = replace(
        fashion, rows=tuple(replace(r, score=None, inspection=None) for r in fashion.rows)
    )
    scored = replace(fashion, rows=tuple(replace(r, timing=None) for r in fashion.rows))
    nothing = replace(bench, rows=tuple(replace(r, timing=None) for r in bench.rows))
    assert list(charts.charts(bench)) == ["latency"]
    assert list(charts.charts(scored)) == ["accuracy-size", "bytes"]
    with pytest.raises(UsageError, match="nothing to draw"):
        render(nothing, "png")


def test_devices_get_a_latency_chart_each(fashion, ladder):
    there = ladder(device="pi@raspberrypi")
    both = replace(fashion, rows=fashion.rows + there.rows)
    drawn = charts.charts(both)
    assert list(drawn) == ["accuracy-size", "latency", "latency-2", "bytes"]
    assert len(values(drawn["latency"])) == 4
    # The one chart of scores shows every file once, and no latency of either device.
    points = [v for v in values(drawn["accuracy-size"]) if "Variant" in v]
    assert {point["Variant"] for point in points} == {
        *("float32", "float16", "dynamic (recommended)", "int8")
    }
    assert not any("p50 latency" in point for point in points)


def test_forty_variants_are_drawn_and_the_front_is_named(many):
    (group,) = groups_by_model(many)
    shown = texts(charts.svg(accuracy_size(group)))
    wanted = {line.label for line in formatted_rows(group) if line.role != "other"}
    assert wanted <= shown
    assert "dynamic-p2" in wanted


def test_one_row_alone_is_drawn(fashion):
    report = replace(fashion, rows=fashion.rows[3:])
    assert list(charts.charts(report)) == ["accuracy-size", "latency", "bytes"]
    assert "int8" in texts(render(report, "svg"))


def test_small_layers_are_summed_when_there_are_many(fashion):
    row = fashion.rows[0]
    ops = tuple(
        replace(row.inspection.ops[1], index=i, layer=f"block_{i}", bytes=100 + i)
        for i in range(53)
    )
    report = replace(fashion, rows=(replace(row, inspection=replace(row.inspection, ops=ops)),))
    bars = values(charts.charts(report)["bytes"])
    assert len(bars) == charts.MOST_LAYERS
    assert bars[-1]["layer"] == "38 smaller layers"
    assert sum(bar["kb"] for bar in bars) == pytest.approx(sum(op.bytes for op in ops) / 1000)


def test_pictures_are_written_one_file_a_chart(fashion, tmp_path):
    files = write(fashion, tmp_path / "out", formats=("png",))
    assert [path.name for path in files] == ["accuracy-size.png", "latency.png", "bytes.png"]
    image = Image.open(io.BytesIO(files[0].read_bytes()))
    assert image.size[0] == 2 * 760
    assert len(image.convert("RGB").getcolors(1 << 20)) > 10
