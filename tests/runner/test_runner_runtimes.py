"""The runner on tflite-runtime, in tflite_runtime of its own, and the trap of numpy 2."""

from __future__ import annotations

import json

import pytest


def test_tflite_runtime_is_found_and_scores_alike(alone, tflite_runtime, models, runner):
    # Given a board that has tflite-runtime and nothing else
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    for name in ("cmapss_uint8", "cmapss_int16"):
        command = ["eval", models / f"{name}.tflite", models / "cmapss.npz", "--json"]
        # When the same command runs there and here
        there = alone(*command, python=python)
        here = json.loads(runner(*command)[1])
        # Then it is the other runtime with its other kernels, and the score differs by codes.
        assert (there.returncode, there.stderr) == (0, "")
        facts = json.loads(there.stdout)
        assert facts["runtime"] == "tflite-runtime 2.14.0"
        assert facts["score"]["value"] == pytest.approx(here["score"]["value"], abs=0.002)


def test_tflite_runtime_tells_signature_names_and_is_timed(alone, tflite_runtime, models):
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    facts = json.loads(alone("info", models / "pair.tflite", "--json", python=python).stdout)
    assert {tensor["name"] for tensor in facts["inputs"]} == {"left", "right", "index"}
    done = alone("bench", models / "fsdd_int8.tflite", "--runs", 5, "--json", python=python)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n"] == 5


def test_numpy_2_under_tflite_runtime_is_named_with_its_cure(alone, tflite_runtime, models):
    python = str(tflite_runtime / "numpy2" / "bin" / "python")
    done = alone("bench", models / "fsdd_int8.tflite", python=python)
    assert (done.returncode, done.stdout) == (7, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0] == "tflite-runtime 2.14.0 does not work with numpy 2.2.6."
    assert lines[2].endswith('-m pip install "numpy<2"')
