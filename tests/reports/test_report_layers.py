"""What the page and the JSON tell of layers: costs, ranges, saturation."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from made_layers import LAYERS, tensors, with_layers

from edgekit.folding import fold
from edgekit.reports.charts import charts
from edgekit.reports.drawing import PageCharts
from edgekit.reports.page import html
from edgekit.reports.page_text import breakable
from edgekit.schema import report_from_json, report_to_json, sensitivity_of_manifest


@pytest.fixture(scope="module")
def report(fashion):
    return with_layers(fashion)


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.replace("<wbr>", "")).split())


def test_the_ranges_of_tensors_are_folded_in_a_table(report):
    text = text_of(html(report, PageCharts()))

    assert "Ranges and saturation in int8, tensor by tensor: 1 of 12 cut values off" in text
    assert f"{LAYERS[-1]} DEPTHWISE_CONV_2D int8 -0.250 to 5.75 -0.200 to 6.00 1.25 % 29.0" in text
    assert "0.00 % exact" in text


def test_what_operators_cost_is_drawn_and_the_command_is_left_out(report):
    drawn = charts(report)["sensitivity"].to_dict()
    page = html(report, PageCharts())

    bars = drawn["layer"][0]["data"]["values"]
    assert [bar["kept"] for bar in bars] == [True, True, *[False] * 10]
    assert bars[0]["only"] == pytest.approx(56.2, abs=0.1)
    assert len(drawn["layer"]) == 2  # bars and the line of all; nothing is known without each
    assert "edgekit sensitivity" not in page


def test_where_nothing_was_searched_the_command_is_shown(fashion):
    asked = {"command": "edgekit quantize m.keras --data 'my data.npz' --metric f1 --mode int8"}

    page = html(replace(fashion, asked=asked), PageCharts())

    command = "edgekit sensitivity m.keras --data 'my data.npz' --metric f1 -o sensitivity.html"
    assert f"What each operator costs: {command}" in text_of(page).replace("&#x27;", "'")


@pytest.mark.parametrize(
    "command",
    ["", "edgekit quantize m.keras", "edgekit eval m.tflite --data d.npz", "edgekit quantize '"],
)
def test_without_data_no_command_is_shown(fashion, command):
    page = html(replace(fashion, asked={"command": command}), PageCharts())

    assert "edgekit sensitivity" not in page
    assert "<h2>Layers</h2>" not in page


def test_json_keeps_the_tensors(report):
    document = json.loads(json.dumps(report_to_json(report)))

    assert report_from_json(document).rows[-1].tensors == tensors()
    for row in document["rows"]:  # as an older edgekit wrote it
        del row["tensors"]
    assert report_from_json(document).rows[-1].tensors is None


@pytest.mark.parametrize(
    "told", [None, [], {}, {"model": "m"}, {"model": "m", "mode": "int8", "n": 3, "costs": [3]}]
)
def test_a_manifest_may_hold_anything(told):
    assert sensitivity_of_manifest({"sensitivity": told}) is None


def test_names_may_be_broken_behind_separators_only():
    assert breakable("a/b_c.d:0") == "a/<wbr>b_<wbr>c.<wbr>d:<wbr>0"
    assert breakable("conv//<b>__") == "conv//<wbr>&lt;b&gt;__"


def test_long_lines_begin_below_their_beginning():
    lines = fold("micro: fits: " + "arena 1,234 B (measured); " * 9, 80, label="mem   ")

    assert max(map(len, lines)) <= 80
    assert {line[:6] for line in lines[1:]} == {" " * 6}
    assert " ".join(line.strip() for line in lines).count("measured") == 9
