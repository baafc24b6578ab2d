"""Charts are drawn in a separate process; the report is written even if it crashes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from edgekit.errors import DeviceError
from edgekit.reports import NO_CHARTS, drawing, read_reports, render, render_all, write, write_pages

LIMIT = 4 << 30  # of address space: ample for edgekit, too little for the chart library's engine


def limited(*words, cwd):
    """Run the command as after `ulimit -v`."""
    return subprocess.run(
        [sys.executable, "-m", "edgekit.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
    )


@pytest.fixture
def rows(repository):
    return repository / "quantized" / "turbofan" / "report.json"


@pytest.fixture
def no_engine(monkeypatch):
    """A Python that dies at once stands for the process that draws."""

    def run(command, **options):
        return subprocess.CompletedProcess(command, -5, b"", b"")

    monkeypatch.setattr(drawing.subprocess, "run", run)


def test_a_page_is_written_without_pictures_where_memory_is_limited(rows, tmp_path):
    done = limited("report", rows, "-o", tmp_path / "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert NO_CHARTS in done.stderr
    assert len(done.stderr.splitlines()) == 1
    page = (tmp_path / "page.html").read_text()
    assert NO_CHARTS in page
    assert "<figure" not in page
    assert "Ship" in page
    # What it says to do about that does help.
    subprocess.run(
        [sys.executable, "-m", "edgekit.cli", "report", rows, "-o", tmp_path / "whole.html"],
        check=True,
        capture_output=True,
    )
    whole = (tmp_path / "whole.html").read_text()
    assert "<figure" in whole
    assert NO_CHARTS not in whole


def test_a_picture_that_cannot_be_drawn_is_an_error(rows, tmp_path):
    done = limited("report", rows, "-o", tmp_path / "chart.png", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert NO_CHARTS in done.stderr
    assert "ulimit -v" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tensorflow
def test_a_finished_run_loses_nothing_but_its_pictures(demo_model, tmp_path):
    done = limited(
        "quantize", demo_model, "--data", "digits", "--mode", "dynamic", "--no-bench", "--json",
        "-o", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert NO_CHARTS in done.stderr
    assert any(NO_CHARTS in text for text in json.loads(done.stdout)["warnings"])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("float32.tflite", "float32.json", "dynamic.tflite", "dynamic.json"),
        *("report.html", "report.json"),
    }
    assert NO_CHARTS in (tmp_path / "out" / "report.html").read_text()
    told = read_reports([tmp_path / "out" / "report.json"])
    assert any(text.startswith(NO_CHARTS) for text in told.warnings)
    assert [row.score is not None for row in told.files] == [True, True]


def test_the_warning_is_in_every_format_written_along(fashion, tmp_path, no_engine):
    told, contents = render_all(fashion, ("json", "html", "md"))
    assert told.warnings == (*fashion.warnings, told.warnings[-1])
    assert all(NO_CHARTS in content for content in contents.values())
    assert write_pages(fashion, tmp_path) == told
    assert NO_CHARTS in (tmp_path / "report.json").read_text()


def test_a_picture_s_error_leaves_no_file(fashion, tmp_path, no_engine):
    with pytest.raises(DeviceError, match="SIGTRAP"):
        write(fashion, tmp_path / "out", formats=("json", "png"))
    assert list(tmp_path.iterdir()) == []


def test_a_page_drawn_later_no_longer_says_that_it_lacks_pictures(fashion, no_engine, monkeypatch):
    told, _ = render_all(fashion, ("html",))
    monkeypatch.undo()
    again, contents = render_all(told, ("html",))
    assert again == fashion
    assert "<figure" in contents["html"]


def test_drawing_that_does_not_end_is_ended(fashion, monkeypatch):
    monkeypatch.setattr(drawing, "LIMIT_S", 1)
    monkeypatch.setattr(drawing.sys, "executable", "/bin/sleep")
    real = subprocess.run
    monkeypatch.setattr(
        drawing.subprocess, "run", lambda command, **more: real([command[0], "600"], **more)
    )
    with pytest.raises(drawing.DrawingError, match="no result within 1 s"):
        drawing.page_charts(fashion)


def test_a_python_that_cannot_be_started(fashion, monkeypatch, tmp_path):
    monkeypatch.setattr(drawing.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(drawing.DrawingError, match="FileNotFoundError"):
        drawing.page_charts(fashion)


def test_a_library_that_cannot_be_imported_is_named(fashion, monkeypatch, tmp_path):
    (tmp_path / "altair.py").write_text("raise ImportError('libfoo.so: cannot map')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"ImportError: libfoo\.so: cannot map"):
        render(fashion, "svg")


def test_a_file_in_the_current_folder_is_no_library(fashion, monkeypatch, tmp_path):
    (tmp_path / "altair.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    assert "<svg" in render(fashion, "svg")
