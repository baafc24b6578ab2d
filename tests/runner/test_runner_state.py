"""The runner on models that remember: the answers of the host, for the same samples."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import edgekit_runner
from edgekit.data import bind, open_data
from edgekit.evaluation import predict
from edgekit.tflite import load_source

N = 60
IDS = np.repeat([3, 1, 3, 8], [10, 1, 25, 24])


@pytest.fixture(params=["stream", "lstm"])
def model(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / "stateful" / f"{request.param}.tflite"


def saved(model: Path, place: Path, **more: Any) -> Path:
    shape = (8,) if model.stem == "stream" else (3, 8)
    x = np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)
    np.savez(place, x_test=x, y_test=np.zeros(N, np.int64), **more)
    return place


def on_host(model: Path, data: Path, **options: Any) -> np.ndarray:
    source = load_source(model)
    test = bind(open_data(str(data)), source.inputs, source.outputs).test
    (values,) = predict(model, test, **options).values()
    return values


@pytest.mark.parametrize(
    "declared",
    [{}, {"sequence_test": True}, {"sequence": True}, {"sequence_test": IDS}],
    ids=["independent", "one sequence", "both splits", "ids"],
)
def test_eval_answers_as_the_host_does(model, declared, runner, tmp_path):
    # Given samples, in sequences or not
    data = saved(model, tmp_path / "data.npz", **declared)
    # When both run them, the host in one process and in two
    code, _, errors = runner("eval", model, data, "--outputs", tmp_path / "out.npz", "--json")
    assert (code, errors) == (0, "")
    with np.load(tmp_path / "out.npz") as found:
        (there,) = (found[name] for name in found.files)
    # Then all answers are the same.
    np.testing.assert_array_equal(there, on_host(model, data, processes=1))
    np.testing.assert_array_equal(there, on_host(model, data, processes=2))


def test_the_declaration_makes_a_difference(model, tmp_path):
    apart = on_host(model, saved(model, tmp_path / "apart.npz"))
    together = on_host(model, saved(model, tmp_path / "together.npz", sequence_test=True))
    np.testing.assert_array_equal(apart[0], together[0])
    assert np.mean(np.all(apart == together, axis=1)) < 0.5


def test_run_answers_as_eval_does(model, runner, tmp_path):
    for declared in ({}, {"sequence_test": IDS}):
        data = saved(model, tmp_path / "data.npz", **declared)
        code, out, _ = runner("run", model, data, "--top", "2")
        lines = [json.loads(line) for line in out.splitlines()]
        expected = on_host(model, data)
        assert (code, len(lines)) == (0, N)
        for line, scores in zip(lines, expected, strict=True):
            (answered,) = (value for key, value in line.items() if isinstance(value, list))
            assert answered[0]["score"] == pytest.approx(scores.max(), abs=1e-4)


@pytest.mark.parametrize(
    "value", [np.ones(N, bool), np.arange(N - 1), np.zeros(N), np.int64(1)], ids=str
)
def test_what_declares_no_sequences_is_refused(value, golden, runner, tmp_path):
    model = golden / "stateful" / "stream.tflite"
    code, _, errors = runner("eval", model, saved(model, tmp_path / "d.npz", sequence_test=value))
    assert code == edgekit_runner.DATA
    assert "sequence_test declares no sequences" in errors
    assert len(errors.strip().splitlines()) == 3


def test_an_input_may_be_called_sequence(golden, tmp_path):
    array = edgekit_runner.StoredArray("sequence", (4, 8), np.dtype(np.float32), lambda: iter(()))
    starts = edgekit_runner.sequence_starts({"sequence": array}, [array], "data.npz")
    assert list(starts) == [True] * 4


def test_frames_of_stdin_are_one_sequence(monkeypatch):
    # Given three frames of 2 x 2 x 1 in a pipe
    pixels = io.BytesIO(bytes(range(12)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pixels))
    tensor = SimpleNamespace(
        name="image", shape=(1, 2, 2, 1), dtype=np.dtype(np.uint8), scale=0.0, zero_point=0
    )
    prepared = SimpleNamespace(encode=lambda picture, _: picture)
    source = edgekit_runner.Source(SimpleNamespace(inputs=[tensor], path="m"), {}, (2, 2, 1))
    monkeypatch.setattr(source, "image_preprocessor", lambda _: prepared)
    # When they are read, then state is reset before the first alone.
    assert [sample.starts for sample in source.open("-")] == [True, False, False]
