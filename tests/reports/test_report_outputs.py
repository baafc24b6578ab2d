"""Outputs on the page: charts of them, and the samples that files do worst."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from made_outputs import examples_of, with_outputs
from PIL import Image

from edgekit.records import ClassScore, ColumnDrop, Views
from edgekit.reports import drawing, print_per_class, read_reports, render, write
from edgekit.reports.example_pictures import LARGEST, class_colour, draw_examples
from edgekit.reports.view_charts import panels
from edgekit.schema import report_from_json


@pytest.fixture(scope="module")
def outputs(fashion):
    return with_outputs(fashion)


@pytest.fixture(scope="module")
def page(outputs):
    return render(outputs, "html")


def pictures_in(page: str) -> list[Image.Image]:
    found = re.findall(r'href="data:image/webp;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_each_sample_is_shown_once_with_what_is_true_and_what_files_say(page):
    assert "Test samples on which dynamic is worst" in page
    assert "Test sample 1,207: worse than float32" in page
    for text in ("Test sample 1,207, dynamic: IoU 0.42", "Test sample 3, true: 1 box"):
        assert f'role="img" aria-label="{text}"' in page
    assert 'class="verdict-lost">cat 2, 51 % (wrong)' in page
    assert 'class="verdict-kept">cat, 97 %</span>' in page
    # The picture itself once, and a mask for each answer.
    sizes = [picture.size for picture in pictures_in(page)]
    assert sizes == [(200, 150), *[(100, 75)] * 3, (200, 150), (28, 28)]
    assert page.count('<use href="#sample-1"/>') == 3
    assert page.count('<rect x="20.0" y="30.0" width="80.0" height="60.0" stroke="#e69f00">') == 2
    # A box that leaves the picture ends at its edge, and one without a counterpart is dashed.
    assert 'width="80.0" height="45.0" class="alone"' in page
    assert "<title>cat 0.42</title>" in page


def test_the_page_stays_small(page, fashion, outputs):
    bare = len(render(fashion, "html"))
    assert len(page) - bare < 350_000
    shown = len(page) - len(render(replace(outputs, examples=()), "html"))
    assert shown < 100_000  # two photos of noise, which no format makes small


def test_masks_are_drawn_in_colours_that_all_can_tell_apart():
    example, *_ = examples_of()

    ((pictures),) = draw_examples([example])

    mask = Image.open(io.BytesIO(base64.b64decode(pictures.masks[0].partition(",")[2])))
    pixels = np.asarray(mask.convert("RGBA"))
    orange = [int(class_colour(1)[k : k + 2], 16) for k in (1, 3, 5)]
    assert pixels[35, 50, :3].tolist() == orange
    assert 0 < pixels[35, 50, 3] < pixels[20, 50, 3] == 255  # its border stands out
    assert pixels[60, 5, 3] == 0  # the background is clear
    assert pixels[2, 5].tolist()[:3] == [128] * 3  # what is ignored
    assert max(pictures.size) == LARGEST


def test_charts_of_outputs_are_of_float32_and_the_files_of_interest(outputs, page):
    found = panels(outputs)

    names = [panel.name for panel in found]
    assert names == [
        *("errors", "errors-2", "errors-3"),
        *("scatter", "scatter-2", "scatter-3", "scatter-4"),
        "precision-recall",  # of the rare class only
    ]
    assert [panel.heading for panel in found[:3]] == [
        "Reconstruction error: float32",
        "Reconstruction error: dynamic",
        "Reconstruction error: int8",
    ]
    assert found[-1].legend.endswith("Area: float32 0.710, dynamic 0.708, int8 0.707.")
    for panel in found:
        assert panel.heading in page
    curves, *_ = found[-1].draw().to_dict()["layer"]
    files = {point["file"] for point in curves["data"]["values"]}
    assert files == {"float32", "dynamic", "int8"}


def test_of_many_columns_those_that_lost_most_are_drawn(outputs):
    rows = list(outputs.rows)
    lost = tuple(
        ColumnDrop(label=str(k), value=k / 10, ci95=(0.0, 1.0), verdict="lost", allowed=0.1)
        for k in range(8)
    )
    rows[2] = replace(rows[2], drop=replace(rows[2].drop, per_column=lost))

    found = [one for one in panels(replace(outputs, rows=tuple(rows))) if one.name[:7] == "scatter"]

    assert [one.heading[-1] for one in found] == ["4", "5", "6", "7"]
    assert "those that lost most" in found[0].legend


def test_json_keeps_the_views_and_leaves_out_pictures(outputs, tmp_path):
    document = json.loads(render(outputs, "json"))

    again = report_from_json(document)

    assert [row.score.views for row in again.rows] == [row.score.views for row in outputs.rows]
    assert again.rows[0].worst_samples == (1207, 3)
    assert again.examples == ()
    (tmp_path / "report.json").write_text(json.dumps(document))
    page = render(read_reports([tmp_path / "report.json"]), "html")
    assert "Precision and recall: fault" in page
    assert "sample-1" not in page
    # Reports of before have neither.
    for row in document["rows"]:
        del row["worst_samples"], row["score"]["views"]
    assert all(row.score.views == Views() for row in report_from_json(document).rows)


def test_a_failing_drawing_loses_only_pictures(outputs, monkeypatch):
    monkeypatch.setattr(drawing.sys, "executable", "/bin/false")

    page = render(outputs, "html")

    assert "The charts could not be drawn" in page
    assert "sample-1" not in page
    assert "<h2>Variants</h2>" in page


def test_each_chart_is_a_file(outputs, tmp_path):
    few = replace(outputs, rows=outputs.rows[:1], examples=())

    files = write(few, tmp_path, formats=("svg",))

    assert {"errors.svg", "scatter.svg", "precision-recall.svg"} <= {file.name for file in files}


def test_hostile_names_stay_text(outputs):
    attack = '"><script>alert(1)</script>'
    page = render(replace(outputs, examples=examples_of(attack)), "html")

    assert attack not in page
    assert "&quot;&gt;&lt;script&gt;" in page


def test_classes_of_pixels_have_an_iou(fashion, capsys):
    from rich.console import Console

    classes = tuple(
        ClassScore(label=name, n=7, recall=0.9, precision=0.8, iou=iou)
        for name, iou in (("cell", 0.55), ("background", 0.95))
    )
    score = replace(fashion.rows[0].score, per_class=classes)
    rows = tuple(replace(row, score=score) for row in fashion.rows)

    print_per_class(score, Console(width=80))

    head, cell, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["class", "pictures", "with", "it", "IoU", "recall", "precision"]
    assert cell.split()[:4] == ["cell", "7", "55.00", "%"]
    assert cell.endswith("< weakest")
    page = render(replace(fashion, rows=rows), "html")
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Pictures with it", "IoU", "IoU, float32", "Recall", "Precision")
    )
    assert heads in page
    row = json.loads(render(replace(fashion, rows=rows), "json"))["rows"][0]
    assert [one["iou"] for one in row["score"]["per_class"]] == [0.55, 0.95]
