"""`compare --device`: what a device computes with a file, against what it computes here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def data(tmp_path):
    """Windows of random sensors, as the published turbofan model takes them."""
    x = np.random.default_rng(0).random((20, 30, 14), dtype=np.float32)
    np.savez(tmp_path / "data.npz", x_test=x, y_test=np.linspace(0, 125, 20, dtype=np.float32))
    return tmp_path / "data.npz"


def test_outputs_of_a_device_are_compared(board, edgekit, repository, data):
    # Given a file, the float one, and a device
    files = repository / "quantized" / "turbofan"
    words = ("--data", data, "--samples", 12, "--device", "board", "--json")
    # When they are compared, the second as the device computes it
    ended = edgekit("compare", files / "float32.tflite", files / "int8.tflite", *words)
    # Then the outputs of the samples that were sent are, and nothing is left there.
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["n"] == 12
    assert told["operators"] == []
    assert 20 < told["outputs"][0]["sqnr_db"] < 100
    assert told["second"].endswith("int8.tflite on board")
    assert "B was computed by board: " in told["notes"][0]
    assert board.left() == []


def test_kernels_are_told_apart(board, edgekit, repository, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(repository)
    # Given a file that is its own measure, and the exact kernels on the device
    file = Path("quantized", "turbofan", "int8.tflite")
    words = ("--data", data, "--device", "board", "--kernels", "reference")
    # When it is compared with itself there
    ended = edgekit("compare", file, file, *words)
    # Then the page of 80 columns says where and how, and how far apart they are.
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.splitlines())) <= 80
    flat = " ".join(ended.out.split())
    assert "kernels reference" in flat
    assert "No output is below 20.0 dB." in flat or "equal to the bit" in flat


def test_a_device_that_is_not_there_ends_with_seven(edgekit, repository, data):
    file = repository / "quantized" / "turbofan" / "int8.tflite"

    ended = edgekit("compare", file, file, "--data", data, "--device", "nobody@127.0.0.1")

    assert ended.code == 7
    assert ended.err.strip()


def test_what_a_device_does_not_run_is_refused(edgekit, repository, data, demo_model):
    file = repository / "quantized" / "turbofan" / "int8.tflite"

    ended = edgekit("compare", file, demo_model, "--data", data, "--device", "pi@board")

    assert ended.code == 2
    assert "B is what pi@board runs: a .tflite file." in ended.err


@pytest.mark.parametrize("option", ["--delegate=edgetpu", "--kernels=reference", "--threads=2"])
def test_options_of_a_device_need_one(option, edgekit, repository, data):
    file = repository / "quantized" / "turbofan" / "int8.tflite"

    ended = edgekit("compare", file, file, "--data", data, option)

    assert ended.code == 2
    assert "Add --device NAME" in ended.err
