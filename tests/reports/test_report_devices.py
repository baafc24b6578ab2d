"""The same files on several devices: latencies are separate, sizes and scores common."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgekit.reports import formatting, read_reports, render
from edgekit.reports.device_comparison import (
    RATIO_NOTE,
    compare_devices,
    device_names,
    table_groups,
)
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.schema import report_from_json

PI = "pi4: Raspberry Pi 4 Model B Rev 1.4"
ZERO = "pi@attic: Raspberry Pi Zero 2 W Rev 1.0"


def slower(report, device, factor):
    """The report's rows as another device would have measured them, each `factor` times slower."""
    rows = tuple(
        replace(
            row,
            timing=replace(
                row.timing,
                device=device,
                runtime="tflite-runtime 2.14.0",
                values_ns=tuple(factor * value for value in row.timing.values_ns),
                conditions={"governor": f"ondemand on {device}", "after": {"load_average": 0.2}},
            ),
        )
        for row in report.rows
    )
    return replace(report, rows=rows, device={"board": device, "memory": "4 GB"})


@pytest.fixture(scope="module")
def fleet(fashion):
    here, facts = fashion.rows[0].timing.device, {PI: {"memory": "4 GB"}, ZERO: {"memory": "1 GB"}}
    rows = fashion.rows + slower(fashion, PI, 9).rows + slower(fashion, ZERO, 30).rows
    return replace(fashion, rows=rows, device={}, devices={here: {"memory": "64 GB"}, **facts})


def save(report, path):
    path.write_text(render(report, "json"))
    return path


def test_each_device_is_a_column_and_each_file_a_line(fleet):
    (one,) = compare_devices(fleet)
    assert list(one.devices) == ["local", "pi4", "pi@attic"]
    assert one.devices["pi4"] == "Raspberry Pi 4 Model B Rev 1.4, tflite-runtime 2.14.0, 1 thread"
    assert [line.label for line in one.files] == ["float32", "float16", "dynamic", "int8"]
    assert [line.recommended for line in one.files] == [False, False, True, False]
    assert all(None not in line.cells for line in one.files)


def test_a_ratio_is_within_one_device(fleet):
    (one,) = compare_devices(fleet)
    for line in one.files:
        # Each device is slower by one factor in all files, so the ratios within it are the same.
        assert len({formatting.times(cell.ratio) for cell in line.cells}) == 1
    assert [cell.best for cell in one.files[2].cells] == [True, True, True]
    assert one.files[0].cells[1].latency == "0.999 ms"
    assert one.files[0].cells[1].ratio is None


def test_a_device_without_float32_has_no_ratio(fleet):
    partial = replace(fleet, rows=fleet.rows[:4] + fleet.rows[5:8])
    (one,) = compare_devices(partial)
    here, there = zip(*(line.cells for line in one.files), strict=True)
    assert there[0] is None
    assert [cell.ratio for cell in there[1:]] == [None, None, None]
    assert here[2].ratio > 1


def test_files_stand_once_without_latencies(fleet):
    (group,) = table_groups(fleet)
    assert len(group.rows) == 4
    assert all(line.latency == "" and line.score for line in formatted_rows(group))


def test_a_score_taken_elsewhere_is_told_beside_the_latency(fleet):
    last = fleet.rows[-1]
    other = replace(last, score=replace(last.score, value=0.9))
    (one,) = compare_devices(replace(fleet, rows=(*fleet.rows[:-1], other)))
    assert [cell.score for cell in one.files[3].cells] == ["", "", "scores 90.00 %"]
    assert "scores 90.00 %" in render(replace(fleet, rows=(*fleet.rows[:-1], other)), "terminal")


def test_a_sweep_is_a_line_for_each_number_of_threads(fleet):
    two = tuple(replace(row, timing=replace(row.timing, threads=2)) for row in fleet.rows[4:8])
    (one,) = compare_devices(replace(fleet, rows=fleet.rows + two))
    labels = [line.label for line in one.files]
    assert labels[:4] == ["float32 (1t)", "float16 (1t)", "dynamic (1t)", "int8 (1t)"]
    assert labels[4:] == ["float32 (2t)", "float16 (2t)", "dynamic (2t)", "int8 (2t)"]
    assert [cell is None for cell in one.files[5].cells] == [True, False, True]


def test_devices_of_one_name_are_told_apart(fleet):
    rows = (fleet.rows[0], *(slower(fleet, f"pi: Board {i}", 2).rows[0] for i in range(3)))
    assert list(device_names(replace(fleet, rows=rows)).values()) == [
        "local",
        "pi",
        "pi #2",
        "pi #3",
    ]


def test_one_device_needs_no_table_across(fashion):
    assert compare_devices(fashion) == ()
    assert RATIO_NOTE not in render(fashion, "terminal")
    assert RATIO_NOTE not in render(fashion, "html")


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_terminal_table_fits_eighty_columns(fashion, count):
    names = [f"pi@garden-{i}.a-rather-long-name.example.org: Board {i}" for i in range(count)]
    rows = sum((slower(fashion, name, 10 + i).rows for i, name in enumerate(names)), ())
    text = render(replace(fashion, rows=rows), "terminal")
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("=> recommended") >= 2
    (one,) = compare_devices(replace(fashion, rows=rows))
    latencies = {cell.latency for line in one.files for cell in line.cells}
    assert all(latency in text for latency in latencies)


@pytest.mark.parametrize("form", ["terminal", "md", "html"])
def test_every_text_names_the_devices_and_says_that_they_are_not_compared(fleet, form):
    text = " ".join(render(fleet, form).split())
    assert RATIO_NOTE in text
    assert all(name in text.replace("\\_", "_") for name in ("pi4", "pi@attic"))
    assert "Raspberry Pi 4 Model B Rev 1.4" in text


def test_the_csv_keeps_the_devices_apart(fleet):
    lines = render(fleet, "csv").splitlines()
    assert len(lines) == 1 + 12
    assert sum(PI in line for line in lines) == 4


def test_the_page_describes_each_device_by_itself(fleet):
    page = render(fleet, "html")
    for device, memory in ((PI, "4 GB"), (ZERO, "1 GB")):
        place = page.index(f"<h3>{device}</h3>")
        facts = page[place : page.index("</dl>", place)]
        assert memory in facts
        assert f"ondemand on {device}" in facts
        assert "<dd>load average 0.2</dd>" in facts


def test_warnings_name_the_device(fleet):
    last = fleet.rows[-1]
    hot = replace(last, timing=replace(last.timing, stable=False, warning="It was throttled."))
    page = render(replace(fleet, rows=(*fleet.rows[:-1], hot)), "html")
    assert "int8 on pi@attic: It was throttled." in page


def test_descriptions_survive_json(fleet):
    again = report_from_json(json.loads(render(fleet, "json")))
    assert again.devices == fleet.devices


def test_merging_keeps_descriptions_and_scores_of_devices_apart(fashion, fleet, tmp_path):
    there = slower(fashion, PI, 9)
    scored = tuple(replace(row, score=replace(row.score, value=0.9)) for row in there.rows)
    there = replace(there, rows=scored)
    merged = read_reports([save(fashion, tmp_path / "a"), save(there, tmp_path / "b")])
    here = fashion.rows[0].timing.device
    assert merged.devices == {here: dict(fashion.device), PI: there.device}
    assert merged.device == {}
    for row in merged.rows:
        assert (row.score.value == 0.9) == (row.timing.device == PI)
    # A report that is of several devices already is merged with one more.
    again = read_reports(
        [save(merged, tmp_path / "c"), save(slower(fashion, ZERO, 30), tmp_path / "d")]
    )
    assert list(again.devices) == [here, PI, ZERO]
    assert len(again.rows) == 12


def test_merging_reports_of_one_device_describes_it_once(fashion, tmp_path):
    half = replace(fashion, rows=fashion.rows[:2])
    rest = replace(fashion, rows=fashion.rows[2:])
    merged = read_reports([save(half, tmp_path / "a"), save(rest, tmp_path / "b")])
    assert (merged.device, merged.devices) == (dict(fashion.device), {})
