"""Recurrent layers stay compact, and compute what Keras computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_jobs

import edgekit
from edgekit.errors import ConversionError
from edgekit.pipeline import verified_lowering
from edgekit.quantization import make, observe, read_float_graph
from edgekit.records import Batch, Plan, Samples, Source
from edgekit.tflite import read
from edgekit.tflite.graph import operators
from edgekit.worker import Worker
from edgekit_runner import state_of

pytestmark = pytest.mark.tensorflow
HERE = Path(__file__).parent
FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recurrent")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        with Worker() as started:
            started.run(tensorflow_jobs.make_recurrent, folder=folder)
            yield started


def batch_for(source: Source, n: int = 3) -> dict[str, np.ndarray]:
    """Positive numbers, then a masked step and a negative one."""
    generator = np.random.default_rng(0)
    batch = {
        spec.name: np.abs(generator.normal(size=(n, *spec.shape[1:]))).astype(np.float32)
        for spec in source.inputs
    }
    for values in batch.values():
        values[:, -3] = 0.0
        values[:, -1] *= -1
    return batch


def bare_loop(model: Path | bytes, batch: dict[str, np.ndarray]) -> np.ndarray:
    """What one interpreter answers, sample after sample, when nothing is reset."""
    from ai_edge_litert.interpreter import Interpreter

    data = model.read_bytes() if isinstance(model, Path) else model
    interpreter = Interpreter(model_content=data, num_threads=1)
    run = interpreter.get_signature_runner()
    found = []
    for row in range(len(next(iter(batch.values())))):
        (values,) = run(**{name: v[row : row + 1] for name, v in batch.items()}).values()
        found.append(values.copy())
    return np.concatenate(found)


def names(model: Path | bytes) -> list[str]:
    return [name for _, _, name in operators(read(model))]


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        ("lstm", 1),
        ("both_ways", 2),
        ("stacked", 2),
        ("backwards", 1),
        ("shared", 2),
        ("remembering", 1),
        ("each", 3),
    ],
)
def test_lstm_layers_are_fused_and_start_anew(
    worker: Worker, folder: Path, name: str, fused: int
) -> None:
    # Given LSTM layers in every arrangement
    source = worker.load(folder / f"{name}.keras")
    batch = batch_for(source)
    # When they are lowered
    lowered = worker.lower(folder / "fused.tflite")
    # Then each call is one operator, and one interpreter answers as Keras does.
    assert names(lowered.path).count(FUSED) == fused
    assert "WHILE" not in names(lowered.path)
    (expected,) = worker.predict(batch).values()
    np.testing.assert_allclose(bare_loop(lowered.path, batch), expected, atol=2e-6)
    assert lowered.notes == ()
    assert state_of(str(lowered.path)) == ""


@pytest.mark.parametrize(
    ("name", "loops"),
    [
        ("masked", 1),
        ("gru", 1),
        ("simple", 1),
        ("hard", 1),
        ("cells", 1),
        ("translating", 2),
        ("started", 1),
    ],
)
def test_layers_that_the_operator_does_not_compute_are_loops(
    worker: Worker, folder: Path, name: str, loops: int
) -> None:
    source = worker.load(folder / f"{name}.keras")
    batch = batch_for(source)

    lowered = worker.lower(folder / "loops.tflite")

    assert names(lowered.path).count("WHILE") == loops
    (expected,) = worker.predict(batch).values()
    np.testing.assert_allclose(bare_loop(lowered.path, batch), expected, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["masked", "gru", "simple", "hard", "cells", "translating", "started"]
)
def test_loops_are_quantized_with_one_scale_for_all_steps(
    worker: Worker, folder: Path, name: str
) -> None:
    # Given a loop, and 50 samples of what its model is for
    source = worker.load(folder / f"{name}.keras")
    batch = batch_for(source, 50)
    path = worker.lower(folder / "loops.tflite").path
    samples = Samples(
        split="calibrate",
        n=50,
        sha256="",
        read=lambda rows: Batch(inputs={key: values[rows] for key, values in batch.items()}),
    )
    # When it is quantized
    made = make(
        Plan(variant="int8", mode="int8", input_type="float32", output_type="float32"),
        read_float_graph(path),
        observe=lambda model: observe(model, samples),
    )
    # Then the loop remains one, in integers, smaller than in float, and answers as before.
    assert names(made.data).count("WHILE") == names(path).count("WHILE")
    # Masking compares the input with a number, for which there is no int8 version.
    assert {op["operator"] for op in made.left_in_float} <= {"NOT_EQUAL"}
    expected, found = (bare_loop(model, batch) for model in (path, made.data))
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    assert np.abs(found - expected).mean() < 0.02 * np.ptp(expected)


def test_a_cell_state_above_ten_is_not_clipped(worker: Worker, folder: Path) -> None:
    # Given inputs that raise the cell state to 15, and lower it again to where it shows
    source = worker.load(folder / "loud.keras")
    values = np.ones((1, 40, 4), np.float32)
    values[:, -10:] = -3.0
    samples = Samples(split="calibrate", n=1, sha256="", read=lambda _: Batch(inputs={"x": values}))
    # When the layer is lowered
    lowered = worker.lower(folder / "loud.tflite")
    # Then it answers as Keras does; the stock converter's operator clips at 10.
    assert source.inputs[0].shape == (1, 40, 4)
    assert max(observe(read(lowered.path), samples).high.values()) > 12
    (expected,) = worker.predict({"x": values}).values()
    np.testing.assert_allclose(bare_loop(lowered.path, {"x": values}), expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic"])
@pytest.mark.parametrize("name", ["wide", "both_ways", "masked", "gru"])
def test_files_are_no_larger_than_the_stock_converters(
    worker: Worker, folder: Path, name: str, mode: str
) -> None:
    path = folder / f"{name}.keras"
    worker.load(path)
    graph = read_float_graph(worker.lower(folder / "ours.tflite").path)
    try:
        ours = make(Plan(variant=mode, mode=mode), graph, observe=_nothing).data
    except ConversionError:  # too few weights
        ours = graph.data
    assert len(ours) <= len(worker.run(tensorflow_jobs.stock_single, path=path, mode=mode))


def _nothing(_: Any) -> Any:
    raise AssertionError("these modes need no statistics")


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """The digits that `digits_recurrent.keras` was tested on, row by row, and their labels."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    return (images / 16).reshape(-1, 8, 8).astype(np.float32)[1400:], labels[1400:]


@pytest.mark.parametrize(
    "form",
    ["float16 compact", "int8 compact", "int8 fused", "int8 unrolled", "int16x8 unrolled"],
)
def test_every_mode_keeps_the_accuracy_without_a_reset(
    worker: Worker, folder: Path, golden: Path, rows: Any, form: str
) -> None:
    # Given a bidirectional LSTM and a GRU on digits, lowered in the form that a mode needs
    images, labels = rows
    mode, _, recurrent = form.partition(" ")
    worker.load(golden / "lowering" / "digits_recurrent.keras")
    lowered = worker.lower(folder / "digits.tflite", recurrent=recurrent)
    assert names(lowered.path).count(FUSED) == (0 if recurrent == "unrolled" else 2)
    samples = Samples(
        split="calibrate", n=100, sha256="", read=lambda i: Batch(inputs={"rows": images[i]})
    )
    # When it is quantized
    made = make(
        Plan(variant=mode, mode=mode, input_type="float32", output_type="float32"),
        read_float_graph(lowered.path),
        observe=lambda model: observe(model, samples),
    )
    # Then one interpreter, never reset, loses at most two points.
    plain, found = (bare_loop(m, {"rows": images}).argmax(1) for m in (lowered.path, made.data))
    assert np.mean(plain == labels) > 0.85
    assert np.mean(found == labels) > np.mean(plain == labels) - 0.02
    if mode == "int8" and recurrent == "fused":
        kinds = {
            tensor.name.rpartition("/")[0]: tensor.type
            for tensor in made.model.subgraphs[0].tensors
            if tensor.isVariable
        }
        assert any(scope.endswith("forward_lstm") for scope in kinds)
        assert not any(op["layer"].endswith("lstm") for op in made.left_in_float)


def test_dynamic_stores_all_weights_of_a_fused_lstm_in_int8(worker: Worker, folder: Path) -> None:
    source = worker.load(folder / "wide.keras")
    batch = batch_for(source)
    lowered = worker.lower(folder / "wide.tflite")

    made = make(
        Plan(variant="dynamic", mode="dynamic"),
        read_float_graph(lowered.path),
        observe=_nothing,
    )

    assert made.left_in_float == ()
    assert "DEQUANTIZE" not in names(made.data)
    (expected,) = worker.predict(batch).values()
    np.testing.assert_allclose(bare_loop(made.data, batch), expected, atol=0.02)


def test_written_out_layers_have_short_names(worker: Worker, folder: Path) -> None:
    worker.load(folder / "gru.keras")
    path = worker.lower(folder / "names.tflite", recurrent="unrolled").path
    tensors = read(path).subgraphs[0].tensors
    assert max(len(tensor.name) for tensor in tensors if "gru/" in tensor.name) < 30


def test_a_compact_form_that_is_not_exact_is_written_out_instead(
    folder: Path, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a tolerance that nothing meets
    monkeypatch.setattr(verified_lowering, "COMPACT_TOLERANCE", -1.0)
    # When a model is imported
    imported = edgekit.import_model(folder / "lstm.keras", tmp_path / "m.tflite")
    # Then its file is the one written step by step, as the notes say.
    assert FUSED not in names(tmp_path / "m.tflite")
    assert imported.verification is not None
    assert imported.verification.max_abs_difference < 1e-5
    assert any("were written out step by step" in note for note in imported.notes)


def test_unroll_forces_the_written_out_form_and_is_rebuilt(
    folder: Path, worker: Worker, tmp_path: Path
) -> None:
    # Given an option that asks for it
    imported = edgekit.import_model(folder / "lstm.keras", tmp_path / "m.tflite", unroll=True)
    # Then no operator is fused, and the manifest makes the file again.
    assert FUSED not in names(tmp_path / "m.tflite")
    assert imported.artifact.manifest["build"]["unroll"] is True
    assert edgekit.rebuild(tmp_path / "m.json").sha256 == imported.artifact.sha256


def test_quantize_makes_integers_of_both_widths_of_loops(
    folder: Path, worker: Worker, tmp_path: Path
) -> None:
    # Given a GRU
    generator = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": generator.normal(size=(20, *shape)).astype(np.float32)
        for split in ("train", "test")
        for kind, shape in (("x", (9, 4)), ("y", (8,)))
    }
    np.savez(tmp_path / "data.npz", **arrays)
    # When integers are asked for
    report = edgekit.quantize(
        folder / "gru.keras",
        data=str(tmp_path / "data.npz"),
        modes=["float32", "int8", "int16x8"],
        output=tmp_path / "made",
        latency=False,
    )
    # Then none is written out, and all operators compute in integers.
    files = {row.artifact.variant: row.artifact for row in report.files}
    for artifact in files.values():
        assert "WHILE" in names(artifact.path)
        assert artifact.manifest["left_in_float"] == []
    rows = {row.artifact.variant: row for row in report.files}
    noise = [rows[name].fidelity[0].sqnr_db for name in ("int8", "int16x8")]
    assert noise[0] < noise[1]
    assert {path.name for path in (tmp_path / "made").glob("*tflite*")} == {
        "float32.tflite",
        "int8.tflite",
        "int16x8.tflite",
    }
