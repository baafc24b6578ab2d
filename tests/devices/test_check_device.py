"""`check --device`: a file is held against what is measured there."""

from __future__ import annotations

import json

import numpy as np


def test_latency_score_and_drop_are_measured_there(board, edgekit, repository, tmp_path):
    # Given a file, the one it came from, samples, and a device
    files = repository / "quantized" / "turbofan"
    x = np.random.default_rng(0).standard_normal((20, 30, 14)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_test=x, y_test=np.linspace(0, 125, 20, dtype=np.float32))
    limits = ("--max-latency", "10s@p90", "--min-score", "1000", "--max-drop", "1000")
    words = ("--baseline", files / "float32.tflite", "--data", tmp_path / "data.npz", "--runs", "9")
    # When it is checked there
    ended = edgekit("check", files / "int8.tflite", *limits, *words, "--device", "board", "--json")
    # Then the figures are from there, and nothing is left there.
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert [one["name"] for one in told["conditions"]] == ["max_latency", "min_score", "max_drop"]
    assert told["row"]["device"].startswith("board: ")
    assert told["row"]["score"]["n"] == 20
    assert told["row"]["drop"] is not None
    assert board.left() == []


def test_a_device_that_is_not_there_ends_with_seven(edgekit, repository):
    file = repository / "quantized" / "turbofan" / "int8.tflite"

    ended = edgekit("check", file, "--max-latency", "1s", "--device", "nobody@127.0.0.1")

    assert ended.code == 7
    assert ended.err.strip()


def test_a_device_without_a_condition_for_it_is_refused(edgekit, repository):
    file = repository / "quantized" / "turbofan" / "int8.tflite"

    ended = edgekit("check", file, "--max-size", "1M", "--device", "pi@board")

    assert ended.code == 2
    assert "--max-latency" in ended.err
