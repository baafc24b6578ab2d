from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgekit.errors import UsageError
from edgekit.evaluation.recommend import recommend
from edgekit.reports import render, write
from edgekit.reports.chart_style import COLOURS, DARK

VOID = {"meta", "link", "br", "img"}


class Reader(HTMLParser):
    """Collects tags and visible text; notices tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.json = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.json.append(data)
        elif self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page(fashion):
    return render(fashion, "html")


def test_the_page_tells_the_whole_story(page):
    text = " ".join(" ".join(read(page).text).split())
    for part in (
        *("Recommended", "dynamic.tflite", "dynamic is the smallest file", "Request"),
        *("45.6 kB", "91.66 %", "n = 10,000", "Variants", "Size breakdown"),
        *("Per-class scores", "Shirt", "Predicted for coral", "Kept in float", "Data", "Versions"),
        *("Glossary", "edgekit quantize fashion_mnist_cnn.keras", "Two cores were busy."),
        *("largest difference 1.2e-07 over 64 samples", "governor", "f32000"),
    ):
        assert part in text.replace("\xa0", " "), part


def test_the_recommended_file_comes_first(page):
    text = read(page).text
    where = {part: next(i for i, t in enumerate(text) if t == part) for part in (
        "dynamic.tflite", "Request", "Variants")}  # fmt: skip
    assert list(where) == sorted(where, key=where.get)


def test_the_page_is_semantic(page):
    tags = read(page).tags
    assert ("html", {"lang": "en"}) in tags
    assert [tag for tag, _ in tags].count("h1") == 1
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in tags if tag == "th")
    figures = [tag for tag, _ in tags if tag in ("figure", "figcaption")]
    assert figures == ["figure", "figcaption"] * 3


def test_the_page_is_one_file_and_small(page):
    assert len(page.encode()) < 1_200_000
    for tag, attrs in read(page).tags:
        assert "src" not in attrs, tag
        assert attrs.get("href", "data:").startswith("data:"), tag
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "url(" not in page.split("</style>")[0]


def test_hostile_text_stays_text(hostile):
    reader = read(render(hostile, "html"))
    tags = [tag for tag, _ in reader.tags]
    assert "img" not in tags
    assert tags.count("script") == 3 + 2  # three charts, the library and the page's own
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)
    specs = [json.loads(text) for text in reader.json if text.startswith("{")]
    assert len(specs) == 3
    assert any("<script>alert(1)</script>" in text for text in reader.text)


def test_a_bench_without_a_winner_has_a_page_too(fashion):
    rows = tuple(
        replace(r, score=None, drop=None, agreement=None, inspection=None, recommended=False)
        for r in fashion.rows
    )
    reader = read(render(replace(fashion, rows=rows, reason="", asked={}, data={}), "html"))
    text = " ".join(reader.text)
    assert "Recommended" not in text
    assert "Request" not in text
    assert [tag for tag, _ in reader.tags].count("figure") == 1


def test_no_recommendation_says_why(fashion):
    rows = tuple(replace(row, recommended=False) for row in fashion.rows)
    report = replace(fashion, rows=rows, reason="No file keeps the accuracy.")
    text = read(render(report, "html")).text
    assert "No file is recommended" in text
    assert "No file keeps the accuracy." in text


def test_an_empty_report_is_still_a_page(fashion):
    page = render(replace(fashion, rows=(), reason=""), "html")
    assert read(page).tags
    assert "vegaEmbed" not in page


@pytest.mark.parametrize("palette", [COLOURS, DARK], ids=["light", "dark"])
def test_contrast_is_enough_in_both_themes(palette):
    ground = palette["surface"]
    for name, least in (("ink", 4.5), ("muted", 4.5), ("accent", 4.5), ("front", 3), ("other", 3)):
        assert contrast(palette[name], ground) >= least, name


def contrast(one, other):
    """WCAG 2.2, relative luminance."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_without_scripts_there_are_pictures_that_follow_the_theme(page):
    body = page.split("</style>")[1].split("<script")[0]
    pictures = re.findall(r"<svg.*?</svg>", body, re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        assert "var(--ink)" in picture
        assert not re.search(r'(fill|stroke)="#', picture)


def test_write_gives_page_and_rows(fashion, tmp_path):
    files = write(fashion, tmp_path / "new" / "folder")
    assert [path.name for path in files] == ["report.html", "report.json"]
    assert json.loads(files[1].read_text())["title"] == "fashion_mnist_cnn"
    assert sorted(p.name for p in files[0].parent.iterdir()) == ["report.html", "report.json"]


def test_an_unknown_format_is_refused(fashion):
    with pytest.raises(UsageError, match="md, html"):
        render(fashion, "pdf")


@pytest.mark.parametrize("noise", [0.2, 0.0])
def test_reason_and_tile_say_the_same_of_a_latency(noise, fashion):
    # Given a file whose median is 4 % below float32's, within the noise of the rounds or not
    load = [1 + noise * math.cos(math.pi * (n / 2 + 0.25)) for n in range(20)]
    rows = [
        replace(
            row,
            recommended=False,
            drop=row.drop and replace(row.drop, verdict="kept", allowed=0.005),
            timing=replace(
                row.timing,
                rounds=20,
                values_ns=tuple(round(9600 * x) for x in load) if n else (10_000,) * 20,
            ),
        )
        for n, row in enumerate(fashion.rows)
    ]
    chosen, reason = recommend(rows)

    page = render(replace(fashion, rows=chosen, reason=reason), "html")

    (tile,) = re.findall(r"Latency, median</dt><dd><b>.*?</b><span>(.*?)</span>", page, re.DOTALL)
    told = " ".join(html.unescape(tile.replace("<br>", " ")).split())
    if noise:
        assert "as fast within the noise" in reason
        assert told.startswith("about the same as float32")
    else:
        assert "4.0 % faster" in reason
        assert told.startswith("4.0 % faster than float32")
