"""Of several modes that were named, what a model cannot be made in is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit import api
from edgekit.cli import run
from edgekit.errors import ConversionError

MODEL = Path(__file__).resolve().parents[2] / "quantized" / "turbofan" / "float32.tflite"
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
