"""What a reader must see first: alerts, collapses, the choice, the next command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.cli.commands import load
from edgekit.records import Collapse, MemoryFit
from edgekit.reports import read_reports, render
from edgekit.reports.drawing import PageCharts
from edgekit.reports.findings import collapsed_files
from edgekit.reports.next_command import compiler_command, explanation, next_command
from edgekit.reports.page import html

ALERT = "The source is no better than guessing: accuracy 10.0 %. Likely reason: the pixel scale."
LOST = Collapse(kind="class", where="class 'fault'", detail="recall 100 % became 0 %")
DEAD = Collapse(kind="constant", where="output 'boxes', column 4", detail="always 0.25")


@pytest.fixture
def failed(fashion):
    """Nothing is recommended: the source guesses, and two files lost something."""
    rows = [replace(row, recommended=False) for row in fashion.rows]
    rows[3] = replace(rows[3], collapses=(LOST, DEAD))
    rows[1] = replace(rows[1], collapses=(DEAD,))
    data = {**fashion.data, "preprocessing": "0..255 chosen: 98 % of 64 training images"}
    return replace(
        fashion, rows=tuple(rows), alerts=(ALERT,), data=data, reason="No file is recommended: why."
    )


def body(report):
    return html(report, PageCharts()).partition("<body>")[2]


def test_the_page_says_alerts_then_collapses_then_the_choice(failed):
    page = body(failed)
    marks = ["chosen alert", "is no better than guessing", "warnings lost", "int8", "chosen none"]
    places = [page.index(mark) for mark in (*marks, ">Request<", ">Preprocessing<", ">Variants<")]
    assert places == sorted(places)
    assert "<dt>int8</dt><dd>class &#x27;fault&#x27;: recall 100 % became 0 %<br>output" in page
    assert page.count("No file is recommended") == 1
    assert page.count("98 % of 64 training images") == 1


def test_a_report_without_bad_news_has_none_of_it(fashion):
    page = body(fashion)
    for mark in ("chosen alert", "warnings lost", ">Preprocessing<", "Lost outputs"):
        assert mark not in page


def test_of_hundreds_of_lost_columns_the_rest_are_folded(failed):
    lost = tuple(replace(DEAD, where=f"output 'boxes', column {i}") for i in range(300))
    page = body(replace(failed, rows=(replace(failed.rows[0], collapses=lost),)))
    assert "<summary>288 more</summary>" in page
    assert "column 299: always" in page


@pytest.mark.parametrize("form", ["terminal", "md"])
def test_text_says_them_before_the_choice(failed, form):
    text = " ".join(render(failed, form).replace("\\", "").split())
    order = [ALERT, "float16: output 'boxes'", "int8: class 'fault'", "No file is recommended"]
    places = [text.index(one) for one in order]
    assert places == sorted(places)


def test_the_terminal_has_one_line_a_file(failed):
    lost = tuple(replace(LOST, where=f"class 'fault {i}'") for i in range(40))
    rows = (*failed.rows[:3], replace(failed.rows[3], collapses=lost))
    lines = render(replace(failed, rows=rows), "terminal").splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if line.startswith("int8: ")]
    assert line == "int8: class 'fault 0': recall 100 % became 0 %; and 39 more"
    assert "float16: output 'boxes', column 4: always 0.25" in lines


def test_csv_has_every_collapse(failed):
    (line,) = [t for t in render(failed, "csv").splitlines() if ",int8," in t]
    assert "class 'fault': recall 100 % became 0 %; output 'boxes', column 4: always 0.25" in line


def test_texts_of_merged_reports_name_their_model(failed, ladder, tmp_path):
    digits = replace(ladder("fsdd_dscnn", n=300), reason="Ship dynamic.", warnings=("Busy.",))
    for report, name in ((failed, "a"), (digits, "b")):
        (tmp_path / name).write_text(render(report, "json"))
    merged = read_reports([tmp_path / "a", tmp_path / "b"])
    assert merged.alerts == (f"fashion_mnist_cnn: {ALERT}",)
    assert merged.warnings == ("fashion_mnist_cnn: Two cores were busy.", "fsdd_dscnn: Busy.")
    assert merged.asked["source"] == (
        "fashion_mnist_cnn: fashion_mnist_cnn.keras; fsdd_dscnn: fsdd_dscnn.keras"
    )
    assert merged.data["name"] == "the test split"  # the same of both
    assert "fsdd_dscnn: Ship dynamic." in render(merged, "terminal").splitlines()
    assert collapsed_files(merged).keys() == {
        *("fashion_mnist_cnn: float16", "fashion_mnist_cnn: int8")
    }
    page = body(merged)
    assert "No file is recommended: fashion_mnist_cnn</p>" in page
    assert '<p class="eyebrow">Recommended: fsdd_dscnn</p>' in page
    assert '<p class="reason">Ship dynamic.</p>' in page
    # A third report does not name them again.
    (tmp_path / "c").write_text(render(merged, "json"))
    (tmp_path / "d").write_text(render(replace(failed, alerts=()), "json"))
    again = read_reports([tmp_path / "c", tmp_path / "d"])
    assert again.alerts == merged.alerts
    assert again.warnings == merged.warnings


def test_reports_of_one_model_are_merged_without_names(failed, tmp_path):
    (tmp_path / "a").write_text(render(failed, "json"))
    (tmp_path / "b").write_text(render(replace(failed, alerts=()), "json"))
    merged = read_reports([tmp_path / "a", tmp_path / "b"])
    assert (merged.alerts, merged.reason) == (failed.alerts, failed.reason)
    assert merged.rows[3].collapses == (LOST, DEAD)


def chosen(report):
    return next(row for row in report.rows if row.recommended)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("edgekit quantize m.keras --data d.npz -o out --force", ["--data", "d.npz"]),
        ("edgekit quantize m.keras -d 'my data/x.csv' --column y", ["--data", "my data/x.csv",
         "--column", "y"]),
        ("edgekit quantize m.keras --data=digits --mode int8 --max-drop 1", ["--data", "digits",
         "--max-drop", "1"]),
        ("edgekit demo -o out", []),
        ("", []),
        ("edgekit quantize a.keras --data a; edgekit quantize b.keras --data b", []),
        ("edgekit quantize 'open", []),
    ],
)  # fmt: skip
def test_the_next_command_has_the_options_that_still_hold(fashion, command, options):
    report = replace(fashion, asked={"command": command})
    words = shlex.split(next_command(report, chosen(report)))
    path = "quantized/fashion_mnist_cnn/dynamic.tflite"
    assert words == ["edgekit", "deploy", path, "--device", "NAME", *options]


@pytest.mark.parametrize("asked", [{}, {"device": "pi4"}])
@pytest.mark.parametrize("name", ["out/int8.tflite", "-o/my files/int8.tflite", "$(x).tflite"])
def test_the_command_line_accepts_the_next_command(fashion, asked, name):
    command = "edgekit quantize m.keras --data d.csv --column y --task regression --metric rmse"
    report = replace(fashion, asked={"command": command, **asked})
    row = chosen(report)
    row = replace(row, artifact=replace(row.artifact, path=Path(name)))
    words = shlex.split(next_command(report, row))
    context = load("deploy").make_context("deploy", words[2:])
    (path,) = context.params["files"]
    assert Path(path) == Path(name)
    assert context.params["data"] == (None if asked else "d.csv")
    assert context.params["device"] == (asked.get("device", "NAME"),)


def test_a_file_measured_on_its_device_is_run_there_next(fashion):
    row = chosen(fashion)
    for kind, stands in (("image", "photo.jpg"), ("log-mel", "recording.wav"), (3, "input.npy")):
        manifest = {"preprocessing": {"kind": kind}}
        one = replace(row, artifact=replace(row.artifact, manifest=manifest))
        report = replace(fashion, asked={"device": "pi4", "command": "edgekit quantize m.keras"})
        command = next_command(report, one)
        assert command.endswith(f"--device pi4 --run {stands}")
        assert explanation(command) == f"{stands}: a file of yours"


@pytest.mark.parametrize("target", ["micro:ram=64k,flash=1M", "stm32h7"])
def test_for_a_microcontroller_the_next_command_writes_c_sources(fashion, target):
    report = replace(fashion, asked={"target": f"coral, {target}", "command": "edgekit quantize"})
    need = MemoryFit(
        arena_bytes=None,
        head_bytes=None,
        arena_bytes_32=None,
        measured=False,
        loads=None,
        message=None,
        model_bytes=0,
        code_bytes=0,
        ram_bytes=None,
        flash_bytes=None,
    )
    row = chosen(report)
    row = replace(row, inspection=replace(row.inspection, memory={target: need}))

    command = next_command(report, row)

    path = "quantized/fashion_mnist_cnn/dynamic.tflite"
    words = shlex.split(command)
    assert words == ["edgekit", "export", path, "--target", target, "-o", "firmware"]
    assert load("export").make_context("export", words[2:]).params["target"] == target
    assert explanation(command) == ""


def test_for_a_coral_stick_the_line_of_its_compiler_is_given(fashion):
    int8 = next(row for row in fashion.rows if row.artifact.mode == "int8")
    float32 = next(row for row in fashion.rows if row.artifact.mode == "float32")
    asked = replace(fashion, asked={"target": "micro:ram=64k,flash=1M, coral"})

    command = compiler_command(asked, int8)

    assert shlex.split(command) == ["edgetpu_compiler", "-s", str(int8.artifact.path)]
    assert compiler_command(asked, float32) == ""  # nothing of it would run there
    assert compiler_command(fashion, int8) == ""


def test_the_page_ends_its_recommendation_with_it(fashion, failed):
    assert "<code>edgekit deploy quantized/fashion_mnist_cnn/dynamic.tflite" in body(fashion)
    assert "edgekit deploy" not in body(failed)


def test_no_option_that_both_commands_have_is_forgotten(fashion):
    def named(command):
        valued = [p for p in load(command).params if not getattr(p, "is_flag", False)]
        return {name for p in valued for name in p.opts if name.startswith("--")}

    # What is about the device, the place of the report, or what the file must be.
    own = {"--output", "--device", "--devices", "--wheels", "--threads", "--runtime"}
    both = sorted(named("quantize") & named("deploy") - own)
    command = " ".join(["edgekit quantize m.keras", *(f"{name} 1" for name in both)])
    report = replace(fashion, asked={"command": command})
    words = shlex.split(next_command(report, chosen(report)))
    assert sorted(word for word in words if word.startswith("--")) == sorted(["--device", *both])
