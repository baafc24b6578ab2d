"""Models that remember: samples are independent, unless the data declares sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import ModelError
from edgekit.evaluation import predict
from edgekit.records import Array, Batch, Samples
from edgekit_runner import RESOURCES, TENSORS, state_of

STATEFUL = ("stream", "lstm")
N = 301


@pytest.fixture(params=STATEFUL)
def model(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / "stateful" / f"{request.param}.tflite"


def inputs_of(path: Path) -> Array:
    shape = (8,) if path.stem == "stream" else (3, 8)
    return np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)


def samples_of(inputs: Array, sequences: Array | None = None) -> Samples:
    return Samples(
        split="test",
        n=len(inputs),
        sha256="",
        read=lambda rows: Batch(inputs={"x": inputs[rows]}),
        sequences=sequences,
    )


def bare_loop(path: Path, inputs: Array, starts: Array) -> Array:
    """What the file answers where a new interpreter is made at every start."""
    found = []
    for values, first in zip(inputs, starts, strict=True):
        if first:
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)


def only(outputs) -> Array:
    (values,) = outputs.values()
    return values


def test_state_is_found_where_it_is(golden: Path, repository: Path) -> None:
    assert state_of(str(golden / "stateful" / "stream.tflite")) == RESOURCES
    assert state_of((golden / "stateful" / "lstm.tflite").read_bytes()) == TENSORS
    assert state_of(str(repository / "quantized" / "turbofan" / "int8.tflite")) == ""
    assert state_of(b"\x08\0\0\0TFL3\xff\xff\xff\xff") == ""


@pytest.mark.parametrize("processes", [1, 2])
def test_samples_are_independent_in_any_order(model: Path, processes: int) -> None:
    # Given a model whose answers depend on what came before
    inputs = inputs_of(model)
    alone = bare_loop(model, inputs, np.ones(N, bool))
    streamed = bare_loop(model, inputs, np.arange(N) == 0)
    assert np.mean(alone.argmax(1) == streamed.argmax(1)) < 0.9
    # When it runs on samples that nothing is declared of, in two orders
    order = np.random.default_rng(2).permutation(N)
    found = only(predict(model, samples_of(inputs), processes=processes))
    shuffled = only(predict(model, samples_of(inputs[order]), processes=processes))
    # Then each sample is answered as if it were the only one.
    np.testing.assert_array_equal(found, alone)
    np.testing.assert_array_equal(shuffled, alone[order])


@pytest.mark.parametrize("processes", [1, 2])
def test_one_sequence_is_run_in_order(model: Path, processes: int) -> None:
    inputs = inputs_of(model)

    found = only(predict(model, samples_of(inputs, np.zeros(N)), processes=processes))

    np.testing.assert_array_equal(found, bare_loop(model, inputs, np.arange(N) == 0))


@pytest.mark.parametrize("processes", [1, 2])
def test_state_is_reset_where_a_sequence_starts(model: Path, processes: int) -> None:
    # Given sequences of 1 to 90 samples, one of them longer than a piece that is read at once
    inputs = np.concatenate([inputs_of(model)] * 2)
    lengths = [1, 2, 40, 90, 7, 300, 60, 102]
    ids = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.append(True, ids[1:] != ids[:-1])
    expected = bare_loop(model, inputs, starts)
    # When they run as they are, and in another order
    found = only(predict(model, samples_of(inputs, ids), processes=processes))
    order = np.argsort(-ids, kind="stable")
    turned = only(predict(model, samples_of(inputs[order], ids[order]), processes=processes))
    # Then each sequence is answered as if it were the only one.
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(turned, expected[order])


def test_sequences_mean_nothing_to_a_model_without_state(golden: Path) -> None:
    path = golden / "evaluate" / "free_batch.tflite"
    inputs = np.arange(600, dtype=np.float32).reshape(-1, 3)
    samples = Samples(
        split="test",
        n=len(inputs),
        sha256="",
        read=lambda rows: Batch(inputs={"a": inputs[rows]}),
        sequences=np.zeros(len(inputs)),
    )

    np.testing.assert_array_equal(predict(path, samples)["double"], inputs * 2)


def test_a_batch_cannot_follow_a_sequence(golden: Path) -> None:
    path = golden / "stateful" / "lstm_batch2.tflite"
    inputs = np.random.default_rng(3).normal(size=(5, 3, 8)).astype(np.float32)

    found = only(predict(path, samples_of(inputs)))
    np.testing.assert_array_equal(found[:2], only(predict(path, samples_of(inputs[:2]))))
    np.testing.assert_array_equal(found[2:4], only(predict(path, samples_of(inputs[2:4]))))
    with pytest.raises(ModelError, match="takes 2 samples in one run"):
        predict(path, samples_of(inputs, np.zeros(5)))
