from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_quantizer

from edgekit.errors import ConversionError, DataError, ModelError
from edgekit.evaluation import predict
from edgekit.quantization import kept_outputs, observe, read_float_graph
from edgekit.quantization.observe import observe_parts
from edgekit.records import Batch, Dataset, Progress, Samples
from edgekit.tflite import read, signature
from edgekit.tflite.graph import constant
from edgekit.worker import Worker

METHODS = ("percentile", "mse", "entropy")


@pytest.mark.data
@pytest.mark.tensorflow
def test_extremes_are_those_tensorflow_finds(
    speech: bytes, digits: Dataset, worker: Worker, tmp_path: Path
) -> None:
    path = tmp_path / "speech.tflite"
    path.write_bytes(speech)
    samples = digits.calibrate
    ranges = observe(read(speech), samples).ranges()
    rows = samples.read(np.arange(samples.n)).inputs["input_layer"]
    stock = read(worker.run(tensorflow_quantizer.calibrated, path=path, inputs=[rows]))
    ranged = [
        t for t in stock.subgraphs[0].tensors if t.quantization and t.quantization.min is not None
    ]
    assert {t.name for t in ranged} == set(ranges.low)
    for tensor in ranged:
        ends = (ranges.low[tensor.name], ranges.high[tensor.name])
        stock_ends = (tensor.quantization.min[0], tensor.quantization.max[0])
        np.testing.assert_allclose(ends, stock_ends, rtol=1e-5, atol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("method", METHODS)
def test_methods_only_narrow_the_extremes(speech: bytes, digits: Dataset, method: str) -> None:
    observed = observe(read(speech), digits.calibrate, histograms=True)
    widest = observed.ranges()
    ranges = observed.ranges(method, 99.9)
    assert (ranges.method, ranges.n) == (method, digits.calibrate.n)
    narrowed = 0
    for name, low in ranges.low.items():
        assert widest.low[name] <= low <= ranges.high[name] <= widest.high[name]
        narrowed += ranges.high[name] < widest.high[name]
    assert narrowed >= 5
    for kept in ("input_layer", "functional/dense/Softmax"):
        assert (ranges.low[kept], ranges.high[kept]) == (widest.low[kept], widest.high[kept])


def test_progress_reaches_the_total(speech: bytes, noise: Samples) -> None:
    heard: list[Progress] = []
    observe(read(speech), noise, listener=heard.append)
    assert heard[-1].done == heard[-1].total == noise.n


def test_outputs_are_kept_where_that_is_asked(
    speech: bytes, noise: Samples, tmp_path: Path
) -> None:
    # Given what the graph returns
    path = tmp_path / "speech.tflite"
    path.write_bytes(speech)
    expected = predict(path, noise)
    # When it is observed, then its outputs are kept, in the order of the samples.
    kept = observe(read(speech), noise, keep=True).outputs
    assert kept is not None
    assert set(kept) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(kept[name], values, atol=1e-6)
        assert len(np.unique(values, axis=0)) > 1
    assert observe(read(speech), noise).outputs is None


def test_outputs_that_are_no_activations_are_not_kept(speech: bytes, noise: Samples) -> None:
    model = read(speech)
    graph = model.subgraphs[0]
    graph.outputs = np.append(graph.outputs, graph.inputs)
    model.signatureDefs = []

    assert observe(model, noise, keep=True).outputs is None


def test_parts_that_are_observed_together_are_those_observed_alone(
    speech: bytes, noise: Samples
) -> None:
    # Given statistics of the first samples, and of the others
    model, first = read(speech), noise.n // 3
    begin, rest = noise.at(np.arange(first)), noise.at(np.arange(first, noise.n))
    alone = observe(model, begin), observe(model, rest, keep=True)
    # When both are observed together
    together = observe_parts(model, noise, first)
    # Then they are the same, with the outputs of the others.
    for one, other in zip(together, alone, strict=True):
        assert one == other
    assert together[0].low != together[1].low
    assert together[0].outputs is None
    kept, expected = together[1].outputs, alone[1].outputs
    assert kept is not None
    assert expected is not None
    for name, values in expected.items():
        np.testing.assert_array_equal(kept[name], values)
        assert len(values) == rest.n


def test_outputs_that_are_large_are_not_kept(
    speech: bytes, noise: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = sum(4 * int(np.prod(spec.shape)) for spec in signature(read(speech))[1])
    monkeypatch.setattr(kept_outputs, "_MOST_BYTES", noise.n * outputs - 1)
    assert observe(read(speech), noise, keep=True).outputs is None
    monkeypatch.setattr(kept_outputs, "_MOST_BYTES", noise.n * outputs)
    assert observe(read(speech), noise, keep=True).outputs is not None


def test_one_sample_is_enough(speech: bytes, noise: Samples) -> None:
    ranges = observe(read(speech), replace(noise, n=1)).ranges()
    assert ranges.low["input_layer"] < 0 < ranges.high["input_layer"]


def test_inputs_go_by_their_signature_names(golden: Path) -> None:
    path = golden / "evaluate" / "two_in_two_out.tflite"
    inputs, _ = signature(read(path))
    rng = np.random.default_rng(0)
    values = {
        spec.name: (rng.random((6, *spec.shape[1:])) + place).astype(spec.dtype)
        for place, spec in enumerate(inputs)
    }
    samples = Samples(
        split="calibrate",
        n=6,
        sha256="",
        read=lambda rows: Batch(inputs={k: v[rows] for k, v in reversed(values.items())}),
    )
    ranges = observe(read(path), samples).ranges()
    graph = read(path).subgraphs[0]
    for spec, index in zip(inputs, graph.inputs, strict=True):
        assert ranges.low[graph.tensors[index].name] == values[spec.name].min()
        assert ranges.high[graph.tensors[index].name] == values[spec.name].max()


def loop_samples(values: np.ndarray) -> Samples:
    return Samples(
        split="calibrate",
        n=len(values),
        sha256="",
        read=lambda rows: Batch(inputs={"x": values[rows]}),
    )


def test_the_steps_of_a_loop_are_observed(golden: Path) -> None:
    # Given a loop that multiplies what it carries by a matrix in every step
    model = read(golden / "inspect" / "loop_float32.tflite")
    outer, body = model.subgraphs[0], model.subgraphs[2]
    shape = tuple(outer.tensors[outer.inputs[0]].shape)
    values = np.random.default_rng(0).normal(size=(4, *shape[1:])).astype(np.float32)
    matrix = constant(model, body.tensors[2])
    steps = int(constant(model, model.subgraphs[1].tensors[2]))
    # When it is observed
    found = observe(model, loop_samples(values), histograms=True)
    # Then what it carries has one range: that of the input and of what every step made of it.
    carried = [values]
    for _ in range(steps):
        carried.append(carried[-1] @ matrix.T)
    for name in (body.tensors[1].name, body.tensors[5].name):
        assert found.low[name] == pytest.approx(min(map(np.min, carried)), rel=1e-5)
        assert found.high[name] == pytest.approx(max(map(np.max, carried)), rel=1e-5)
        assert name in found.unclipped


def test_other_loops_are_refused_with_the_cure(golden: Path) -> None:
    # Given a loop whose condition reads the value that would become an integer
    model = read(golden / "inspect" / "loop_float32.tflite")
    model.subgraphs[1].operators[0].inputs = np.array([1, 1], np.int32)
    # When it is observed, then it is refused.
    with pytest.raises(ConversionError, match="inside WHILE") as caught:
        observe(model, loop_samples(np.zeros((1, 8), np.float32)))
    assert "unroll=True" in (caught.value.hint or "")


def test_samples_of_another_shape_are_refused(speech: bytes, noise: Samples) -> None:
    flat = replace(
        noise, read=lambda rows: Batch(inputs={"input_layer": np.zeros((len(rows), 7), np.float32)})
    )
    with pytest.raises(DataError, match="do not fit input input_layer"):
        observe(read(speech), flat)
    other = replace(
        noise, read=lambda rows: Batch(inputs={"x": np.zeros((len(rows), 7), np.float32)})
    )
    with pytest.raises(DataError, match="do not have the model's inputs"):
        observe(read(speech), other)


@pytest.mark.parametrize("histograms", [False, True])
def test_not_a_number_is_refused_where_it_arises(
    speech: bytes, noise: Samples, histograms: bool
) -> None:
    model = read(speech)
    bias = next(t for t in model.subgraphs[0].tensors if t.name == "functional/dense/BiasAdd")
    values = constant(model, bias).copy()
    values[3] = np.nan
    model.buffers[bias.buffer].data = values.view(np.uint8)
    with pytest.raises(
        ConversionError, match="computes NaN or infinity in functional/dense/MatMul"
    ):
        observe(model, noise, histograms=histograms)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError):
        read_float_graph(b"not a model at all")


def test_sequences_are_calibrated_with_the_state_they_build_up(golden: Path) -> None:
    # Given a model whose resource variable holds the last inputs, and inputs all of one sign
    model = read(golden / "stateful" / "stream.tflite")
    rows = np.random.default_rng(0).uniform(1, 2, (60, 8)).astype(np.float32)
    name = signature(model)[0][0].name
    apart = Samples(
        split="calibrate", n=60, sha256="", read=lambda chosen: Batch(inputs={name: rows[chosen]})
    )
    together = replace(apart, sequences=np.repeat([0, 1, 2], 20))
    # When it is observed on them
    alone, followed = observe(model, apart).ranges(), observe(model, together).ranges()
    # Then what the variable holds is zeros before a lone sample, and inputs within a sequence.
    held = [key for key, high in alone.high.items() if high == 0]
    assert held
    for key in held:
        assert followed.high[key] == pytest.approx(rows.max(), abs=0.05)
    # Reset and followed ranges do not depend on which process saw which sample.
    assert observe(model, together).ranges() == followed
