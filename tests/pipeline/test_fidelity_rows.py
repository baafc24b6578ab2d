"""Rows tell what a file lost, with targets and without, from the command line to the report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import run
from edgekit.schema import report_from_json


@pytest.fixture(scope="module")
def arrays(golden: Path):
    """Name of a model of `tests/golden/fidelity` -> its inputs and targets."""
    spec = importlib.util.spec_from_file_location("made", golden / "make_fidelity_models.py")
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    x = {name: made.inputs(name, 2000, seed=2) for name in ("rare", "uneven")}
    noise = np.random.default_rng(3).normal(size=2000)
    uneven = x["uneven"]
    targets = [uneven[:, 0], 1000 + 300 * uneven[:, 1] + 60 * noise, 0.01 * uneven[:, 2]]
    return {
        "rare": (x["rare"], (x["rare"][:, 1] > 0.75).astype(np.int64)),
        "uneven": (uneven, np.stack(targets, axis=1).astype(np.float32)),
    }


@pytest.fixture
def evaluated(golden, arrays, tmp_path, capsys):
    """Scores float32 and int8 of a model, and returns the report's JSON."""

    def evaluate(name: str, kinds=("float32", "int8"), *, words=(), **named):
        np.savez(tmp_path / "data.npz", **named)
        files = [str(golden / "fidelity" / f"{name}_{kind}.tflite") for kind in kinds]
        code = run(["eval", *files, "--data", str(tmp_path / "data.npz"), *words, "--json", "-q"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if code == 0 else said.err

    return evaluate


def test_a_dead_detector_is_named_with_and_without_targets(evaluated, arrays):
    x, y = arrays["rare"]

    # Given labels, its class is named too, though only one sample in a hundred is of it
    words = ("--metric", "accuracy")
    code, report = evaluated("rare", words=words, x_test=x, y_test=y)
    assert code == 0
    float32, int8 = report["rows"]
    assert (float32["fidelity"], float32["collapses"]) == ([], [])
    assert int8["score"]["value"] == pytest.approx(0.99)
    assert [(one["kind"], one["where"]) for one in int8["collapses"]] == [
        ("class", "class '1'"),
        ("constant", "output 'output_0'"),
    ]
    assert int8["collapses"][0]["detail"] == "recall 100 % became 0 % on 20 samples"
    assert int8["collapses"][1]["detail"].startswith("always 0, rare_float32 has 512 values")

    # Without, its output is.
    _, blind = evaluated("rare", x_test=x)
    assert [row["score"] for row in blind["rows"]] == [None, None]
    assert [one["kind"] for one in blind["rows"][1]["collapses"]] == ["constant"]
    assert blind["rows"][1]["fidelity"] == int8["fidelity"]
    assert blind["data"] == {
        "name": "data",
        "task": "none: there are no targets",
        "outputs compared on": "2000 samples of the test split",
    }
    assert blind["asked"]["accepted loss"] == "not judged: there are no targets"
    assert any("has no targets: outputs are compared" in one for one in blind["warnings"])
    # And a report that was written is read again as it was.
    row = report_from_json(blind).rows[1]
    assert row.fidelity[0].levels == 1
    assert row.collapses[0].kind == "constant"


def test_columns_that_the_pooled_score_does_not_show_are_named(evaluated, arrays):
    x, y = arrays["uneven"]

    _, report = evaluated("uneven", x_test=x, y_test=y)

    row = report["rows"][1]
    assert [one["where"] for one in row["collapses"]] == [
        "output 'output_0', column 0",
        "output 'output_0', column 2",
    ]
    assert row["drop"] < 0.005 * report["rows"][0]["score"]["value"]


def test_training_inputs_serve_where_there_are_no_others(evaluated, arrays):
    _, report = evaluated("rare", x_train=arrays["rare"][0])

    assert report["data"]["outputs compared on"] == "200 samples of the calibrate split"
    assert report["rows"][1]["fidelity"][0]["n"] == 200
    assert report["rows"][1]["collapses"][0]["kind"] == "constant"


def test_a_file_compared_with_itself_has_lost_nothing(evaluated, arrays):
    _, report = evaluated("uneven", ("float32", "float32"), x_test=arrays["uneven"][0])

    row = report["rows"][1]
    assert row["collapses"] == []
    assert row["fidelity"][0]["sqnr_db"] is None
    assert row["fidelity"][0]["correlation"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("asked", "named", "refusal"),
    [
        ({"kinds": ("int8",)}, ("x_test",), (4, "or give a second file")),
        ({"words": ("--metric", "accuracy")}, ("x_test",), (2, "--metric has no effect")),
        ({}, ("x_train", "y_train"), (4, "no test split to score on")),
        ({}, ("x_test", "x_train", "y_train"), (4, "leave y_train out")),
    ],
)
def test_what_cannot_be_judged_is_refused(evaluated, arrays, asked, named, refusal):
    data = {key: arrays["rare"][0 if key[0] == "x" else 1] for key in named}

    found, said = evaluated("rare", **asked, **data)

    code, words = refusal
    assert found == code
    assert words in said


def test_a_metric_without_targets_is_refused_before_anything_is_made(
    golden, arrays, tmp_path, capsys
):
    np.savez(tmp_path / "data.npz", x_test=arrays["rare"][0])
    source = str(golden / "fidelity" / "rare_float32.tflite")
    words = ["--data", str(tmp_path / "data.npz"), "--mode", "dynamic", "--metric", "accuracy"]

    assert run(["quantize", source, *words, "-o", str(tmp_path / "out")]) == 2

    assert "--metric has no effect: data has no targets." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.tensorflow
def test_quantize_without_targets_makes_measures_and_tells(golden, arrays, tmp_path, capsys):
    # Given inputs only, of a regression with columns of uneven range
    x, _ = arrays["uneven"]
    np.savez(tmp_path / "data.npz", x_train=x[:400], x_test=x[400:])
    source = str(golden / "fidelity" / "uneven_float32.tflite")
    words = ["--mode", "int8", "--mode", "int16x8", "--no-bench", "--json", "-q"]

    # When variants are made
    places = ["--data", str(tmp_path / "data.npz"), "-o", str(tmp_path / "out")]
    code = run(["quantize", source, *places, *words])

    # Then each has its fidelity, none a score, and what int8 lost stands in its manifest too.
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    float32, int8, int16x8 = report["rows"]
    assert {row["score"] for row in report["rows"]} == {None}
    assert float32["fidelity"] == []
    assert int16x8["fidelity"][0]["sqnr_db"] > int8["fidelity"][0]["sqnr_db"] > 40
    assert [one["where"][-8:] for one in int16x8["collapses"]] == ["column 2"]
    assert [one["where"][-8:] for one in int8["collapses"]] == ["column 0", "column 2"]
    manifest = json.loads((tmp_path / "out" / "int8.json").read_text())
    assert manifest["rows"][0]["collapses"] == int8["collapses"]
    assert manifest["data"]["task"] is None
