"""Of several modes that were named, what a model cannot be made in is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit import api
from edgekit.cli import run
from edgekit.errors import ConversionError
from edgekit.quantization.variant import is_quantized
from edgekit.records import Plan
from edgekit.tflite import load, read

MODEL = Path(__file__).resolve().parents[2] / "quantized" / "turbofan" / "float32.tflite"
INT8 = Plan(variant="int8", mode="int8")
REASON = "int8 was left out. The float model computes NaN or infinity in "


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """A model and data that it cannot be calibrated on: its first layer overflows."""
    generator = np.random.default_rng(0)
    x = generator.random((40, 30, 14), np.float32)
    data = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(
        data,
        x_train=np.full((16, 30, 14), 3e38, np.float32),
        y_train=np.zeros(16, np.float32),
        x_test=x,
        y_test=100 * x.mean((1, 2)),
    )
    return [str(MODEL), "--data", str(data), "--no-bench", "-q"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[str]:
    """The model with data that it computes something of."""
    x = np.random.default_rng(0).random((40, 30, 14), np.float32)
    data = tmp_path_factory.mktemp("sound") / "data.npz"
    np.savez(data, x_train=x[:16], y_train=x[:16, 0, 0], x_test=x, y_test=x[:, 0, 0])
    return [str(MODEL), "--data", str(data), "--no-bench", "-q"]


def test_the_others_are_made_with_a_warning(words, tmp_path, capsys):
    modes = ["--mode", "int8", "--mode", "float16"]

    assert run(["quantize", *words, *modes, "-o", str(tmp_path / "out"), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in report["rows"]] == ["float32", "float16"]
    assert [text for text in report["warnings"] if text.startswith(REASON)]
    assert not (tmp_path / "out" / "int8.tflite").exists()


@pytest.mark.parametrize("modes", [["int8"], ["int8", "int16x8"]])
def test_it_is_an_error_where_nothing_that_was_named_can_be_made(modes, words, tmp_path, capsys):
    named = [word for mode in modes for word in ("--mode", mode)]

    assert run(["quantize", *words, *named, "-o", str(tmp_path / "out")]) == 5

    assert "NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_program_may_ask_for_all_or_nothing(words, tmp_path):
    options = {"data": words[2], "output": tmp_path / "out", "latency": False}

    with pytest.raises(ConversionError):
        api.quantize(MODEL, modes=["float16", "int8"], skip_unsupported=False, **options)
    report = api.quantize(MODEL, modes=["float32", "int8"], **options)

    assert [row.artifact.variant for row in report.files] == ["float32"]
    assert any(text.startswith(REASON) for text in report.warnings)


@pytest.fixture
def refused(monkeypatch):
    """A runtime that does not run files in integers, which shows after they are written."""

    run = load._refusal

    def refusal(source):
        integers = is_quantized(INT8, read(source))
        return "a kernel fails" if integers else run(source)

    monkeypatch.setattr(load, "_refusal", refusal)


@pytest.mark.usefixtures("refused")
def test_what_fails_in_its_first_run_is_left_out_too(sound, tmp_path, capsys):
    modes = ["--mode", "int8", "--mode", "dynamic"]
    folder = tmp_path / "out"

    assert run(["quantize", *sound, *modes, "--gzip", "-o", str(folder), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in report["rows"]] == ["float32", "dynamic"]
    said = "int8 was left out. It was made, but does not run: a kernel fails."
    assert said in report["warnings"]
    assert sorted(path.name for path in folder.glob("int8*")) == []


@pytest.mark.usefixtures("refused")
def test_it_is_an_error_where_that_was_all(sound, tmp_path, capsys):
    assert run(["quantize", *sound, "--mode", "int8", "-o", str(tmp_path / "out")]) == 5

    assert "a kernel fails" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
