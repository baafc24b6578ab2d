"""The page of `edgekit inspect -o`: complete, inert, and of bounded size."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.records import Inspection
from edgekit.reports.inspection_page import MOST_BARS, MOST_OPERATORS, inspection_html
from edgekit.tflite.inspect import inspect

VOID = {"meta", "link", "rect", "line", "br"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and gathers bars and folds."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bars: list[dict[str, str]] = []
        self.folds = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
        if tag == "rect":
            self.bars.append(dict(attrs))
        self.folds += tag == "details"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parsed(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


@pytest.fixture
def nuclei(repository: Path) -> Inspection:
    return inspect(repository / "quantized" / "nuclei" / "int8.tflite")


def test_every_operator_has_a_bar_and_a_row_and_the_largest_is_marked(nuclei: Inspection) -> None:
    page = inspection_html(nuclei)

    reader = parsed(page)
    heights = [float(bar["height"]) for bar in reader.bars]
    assert len(heights) == len(nuclei.ops)
    (marked,) = (n for n, bar in enumerate(reader.bars) if "accent" in bar["fill"])
    assert marked == nuclei.peak.index == heights.index(max(heights))
    assert reader.folds == len({op.layer for op in nuclei.ops})
    assert page.count("<tr>") == len(nuclei.ops) + reader.folds
    assert "runtimes" in page


def test_the_page_loads_nothing_and_names_are_inert(nuclei: Inspection) -> None:
    named = replace(nuclei.ops[0], layer='<script>alert("1")</script>\x1b[2J')

    page = inspection_html(replace(nuclei, ops=(named, *nuclei.ops[1:])))

    parsed(page)
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_a_file_of_very_many_operators_has_a_page_of_bounded_size(nuclei: Inspection) -> None:
    many = tuple(
        replace(nuclei.ops[0], index=index, layer=f"layer{index}", alive_bytes=index % 977 + 1)
        for index in range(20_000)
    )

    page = inspection_html(replace(nuclei, ops=many))

    assert len(parsed(page).bars) <= MOST_BARS
    assert f"and {20_000 - MOST_OPERATORS:,} more operators" in page
    assert len(page) < 4_000_000


def test_a_file_without_operators_has_a_page(nuclei: Inspection) -> None:
    assert "No operator" in inspection_html(replace(nuclei, ops=()))


def test_a_page_is_written_and_not_replaced(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(repository / "quantized" / "turbofan" / "int8.tflite")
    page = tmp_path / "int8.html"

    assert run(["inspect", file, "-o", str(page)]) == 0
    assert "Wrote " in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")

    assert run(["inspect", file, "-o", str(page)]) == 2
    assert run(["inspect", file, "-o", str(tmp_path / "int8.pdf")]) == 2
    assert "--output" in capsys.readouterr().err
    assert run(["inspect", file, "-o", str(tmp_path / "two.html"), "--json"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["int8.html"]
