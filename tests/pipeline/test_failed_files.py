"""A file that fails while it is scored: its row says so, and the others are measured."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from float_nets import Net

from edgekit.cli import run
from edgekit.tflite import write

WIDTH = 32
REASON = "tflite/kernels/div.cc"


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """A model that divides by its input, and a test sample whose int8 code is that of zero."""
    folder = tmp_path_factory.mktemp("share")
    net = Net(1, WIDTH)
    share = net._add("DIV", [net.dense("x", WIDTH), "x"], (1, WIDTH), schema.DivOptionsT())
    (folder / "share.tflite").write_bytes(write(net.done(share)))
    generator = np.random.default_rng(0)
    train, test = generator.uniform(1, 2, (2, 64, WIDTH)).astype(np.float32)
    test[5, 0] = 1e-3
    np.savez(folder / "data.npz", x_train=train, x_test=test)
    return [str(folder / "share.tflite"), "--data", str(folder / "data.npz"), "-q"]


@pytest.fixture(scope="module")
def made(words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    modes = ["--mode", "float16", "--mode", "int8"]
    bundle = ["--bundle", str(folder / "proof.zip")]
    assert run(["quantize", *words, *modes, *bundle, "-o", str(folder / "out")]) == 0
    return folder


def test_the_others_are_measured_and_one_of_them_is_recommended(made):
    report = json.loads((made / "out" / "report.json").read_text())

    rows = {row["variant"]: row for row in report["rows"]}
    assert list(rows) == ["float32", "float16", "int8"]
    assert rows["int8"]["failure"].startswith(REASON)
    assert rows["int8"]["latency"] is None
    assert rows["int8"]["fidelity"] == []
    for name in ("float32", "float16"):
        assert rows[name]["failure"] is None
        assert rows[name]["latency"] is not None
    assert [name for name, row in rows.items() if row["recommended"]] != ["int8"]
    assert [text for text in report["warnings"] if text.startswith("int8 cannot be run here: ")]
    assert "int8 (" in report["reason"]
    # The file is kept, and what its manifest says of it.
    assert (made / "out" / "int8.tflite").is_file()
    (brief,) = json.loads((made / "out" / "int8.json").read_text())["rows"]
    assert brief["failure"].startswith(REASON)


@pytest.mark.parametrize(
    ("form", "marked"),
    [("md", "int8 (failed)"), ("html", "<tr class=failed><th"), ("terminal", "\nfailed ")],
)
def test_every_table_marks_it(form, marked, made, capsys):
    words = [] if form == "terminal" else ["--format", form]
    if form == "html":
        words += ["-o", str(made / "page.html")]
    assert run(["report", str(made / "out" / "report.json"), *words]) == 0

    said = (made / "page.html").read_text() if form == "html" else capsys.readouterr().out
    assert marked in said
    assert REASON in said


def test_csv_says_why(made, capsys):
    assert run(["report", str(made / "out" / "report.json"), "--format", "csv"]) == 0

    rows = {row["variant"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["int8"]["failure"].startswith(REASON)
    assert rows["float16"]["failure"] == ""


def test_its_bundle_is_verified(made, capsys):
    assert run(["verify", str(made / "proof.zip")]) == 0

    assert "int8" in capsys.readouterr().out


def test_alone_it_is_an_error_that_names_the_final_file(words, tmp_path, capsys):
    out = tmp_path / "out"

    assert run(["quantize", *words, "--mode", "int8", "-o", str(out)]) == 3

    said = capsys.readouterr().err
    assert f"{out}/int8.tflite cannot be run." in said
    assert REASON in said
    assert ".edgekit-" not in said
    assert not out.exists()


def rows_of(said: str) -> dict[str, dict]:
    return {row["variant"]: row for row in json.loads(said)["rows"]}


@pytest.fixture
def damaged(made, tmp_path) -> Path:
    path = tmp_path / "damaged.tflite"
    path.write_bytes((made / "out" / "float16.tflite").read_bytes()[:900])
    return path


def test_eval_scores_the_others(words, made, damaged, capsys):
    # Given a file that refuses a sample, and one that cannot be read, between two that run
    out = made / "out"
    files = [out / "float32.tflite", out / "int8.tflite", damaged, out / "float16.tflite"]

    code = run(["eval", *map(str, files), *words[1:], "--json"])

    said = capsys.readouterr().out
    rows = rows_of(said)
    assert (code, list(rows)) == (0, ["float32", "int8", "damaged", "float16"])
    assert rows["int8"]["failure"].startswith(REASON)
    assert "900 bytes" in rows["damaged"]["failure"]
    assert rows["float16"]["fidelity"]
    told = json.loads(said)["warnings"]
    assert sum(" cannot be run here: " in text for text in told) == 2


def test_bench_times_the_others(made, damaged, capsys):
    code = run(["bench", str(damaged), str(made / "out" / "float16.tflite"), "--json", "-q"])

    rows = rows_of(capsys.readouterr().out)
    assert code == 0
    assert "900 bytes" in rows["damaged"]["failure"]
    assert rows["float16"]["latency"] is not None


@pytest.mark.parametrize("command", ["eval", "bench"])
def test_where_no_file_runs_it_is_an_error(command, words, damaged, tmp_path, capsys):
    other = tmp_path / "other.tflite"
    other.write_bytes(damaged.read_bytes())
    data = words[1:] if command == "eval" else ["-q"]

    assert run([command, str(damaged), str(other), *data]) == 3

    ended = capsys.readouterr()
    assert ended.err.startswith(f"{damaged} is damaged")
    assert ended.out == ""


def test_a_check_does_not_judge_what_cannot_be_read(words, made, damaged, capsys):
    base = ["--baseline", str(made / "out" / "float32.tflite"), "--max-drop", "1"]

    assert run(["check", str(damaged), *words[1:], *base]) == 3

    assert "damaged" in capsys.readouterr().err
