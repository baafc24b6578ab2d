"""The float graph computes what its source computes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_models
import numpy as np
import pytest
import tensorflow_jobs

from edgekit.errors import ConversionError, ModelError
from edgekit.records import Plan, Source
from edgekit.tflite import read, signature
from edgekit.tflite.graph import operators
from edgekit.worker import Worker

pytestmark = pytest.mark.tensorflow
HERE = Path(__file__).parent
INT8 = Plan(variant="int8", mode="int8")
INT16 = Plan(variant="int16x8", mode="int16x8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lowered")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}:{HERE.parent / 'sources'}")
        patch.chdir(folder)
        with Worker(custom=("own_layers",)) as started:
            started.run(made_models.make, folder=folder)
            yield started


Fashion = tuple[Source, Path, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def fashion(worker: Worker, folder: Path, shared_data: Path) -> Fashion:
    """The trained baseline, lowered: source, graph, test images, labels."""
    source = worker.load(shared_data / "baselines" / "fashion_mnist_cnn.keras")
    graph = folder / "fashion.tflite"
    images = idx(shared_data, "t10k-images-idx3-ubyte", 400)
    worker.lower(graph)
    return source, graph, images, idx(shared_data, "t10k-labels-idx1-ubyte", 400)


def idx(shared_data: Path, name: str, n: int) -> np.ndarray:
    """The first labels or images of an IDX file, images in [0, 1]."""
    import gzip

    (path,) = (shared_data / "fashion_mnist").glob(f"{name}*")
    with gzip.open(path) as stream:
        if "labels" in name:
            return np.frombuffer(stream.read(8 + n)[8:], np.uint8)
        pixels = np.frombuffer(stream.read(16 + n * 784)[16:], np.uint8)
    return pixels.reshape(-1, 28, 28, 1).astype(np.float32) / 255


def run(model: Path | bytes, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run LiteRT by signature, sample by sample, in real values."""
    from ai_edge_litert.interpreter import Interpreter

    data = model.read_bytes() if isinstance(model, Path) else model
    runner = Interpreter(model_content=data, num_threads=1).get_signature_runner()
    details = {**runner.get_input_details()}, {**runner.get_output_details()}
    found: dict[str, list[np.ndarray]] = {}
    for i in range(len(next(iter(batch.values())))):
        given = {n: quantized(v[i : i + 1], details[0][n]) for n, v in batch.items()}
        for name, value in runner(**given).items():
            found.setdefault(name, []).append(real(value, details[1][name]))
    return {name: np.concatenate(values) for name, values in found.items()}


def quantized(value: np.ndarray, detail: Any) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return value
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(value / scale) + zero_point, limits.min, limits.max).astype(
        detail["dtype"]
    )


def real(value: np.ndarray, detail: Any) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return (value.astype(np.float32) - zero_point) * scale if scale else value


def names(path: Path | bytes) -> list[str]:
    return [name for _, _, name in operators(read(path))]


def noise(source: Source, n: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.standard_normal((n, *spec.shape[1:])).astype(np.float32)
        for spec in source.inputs
    }


@pytest.mark.parametrize(
    "name",
    [
        "functional.keras",
        "functional.h5",
        "sequential.keras",
        "lists.keras",
        "keyed.keras",
        "subclassed.keras",
        "custom.keras",
        "depthwise.h5",
        "recurrent.keras",
        "exported",
        "exported_pair",
    ],
)
def test_the_graph_has_the_sources_names_and_computes_its_outputs(
    worker: Worker, folder: Path, name: str
) -> None:
    source = worker.load(folder / name)
    batch = noise(source)
    lowered = worker.lower(folder / "lowered.tflite")
    reference = worker.predict(batch)
    assert signature(read(lowered.path)) == (source.inputs, source.outputs)
    found = run(lowered.path, batch)
    assert set(found) == set(reference) == {spec.name for spec in source.outputs}
    for output, expected in reference.items():
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(found[output], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fashion_mnist_cnn", "fsdd_dscnn", "cmapss_cnn1d"])
def test_trained_models_agree_with_keras(
    worker: Worker, folder: Path, shared_data: Path, name: str
) -> None:
    source = worker.load(shared_data / "baselines" / f"{name}.keras")
    batch = noise(source, 8)
    lowered = worker.lower(folder / "trained.tflite")
    ((output, expected),) = worker.predict(batch).items()
    np.testing.assert_allclose(run(lowered.path, batch)[output], expected, rtol=1e-3, atol=1e-5)
    assert lowered.notes == ()


@pytest.mark.parametrize(
    ("name", "calls"), [("functional.keras", 1), ("exported", 1), ("digits_recurrent.keras", 2)]
)
def test_a_model_is_traced_once(
    worker: Worker, folder: Path, golden: Path, name: str, calls: int
) -> None:
    # Given a model; recurrent layers are traced in another way to be lowered
    path = folder / name if (folder / name).exists() else golden / "lowering" / name
    # When its first operators are read, it is lowered and predicts
    seen = worker.run(tensorflow_jobs.traced, path=path, folder=folder)
    # Then one trace serves for all, with the file that a trace with constants gives.
    assert seen["calls"] == calls
    assert seen["once"] == seen["again"]


def test_operators_are_named_exactly_after_their_layers(worker: Worker, folder: Path) -> None:
    worker.load(folder / "functional.keras")
    lowered = worker.lower(folder / "names.tflite")
    graph = read(lowered.path).subgraphs[0]
    layers = {
        part.split("/")[1]
        for tensor in graph.tensors
        for part in str(tensor.name).split(";")
        if part.startswith("net/")
    }
    assert layers == {"conv", "norm", "flat", "logits"}
    assert graph.tensors[graph.outputs[0]].name.startswith("net/logits/")


def test_the_direct_way_is_no_larger_than_the_stock_converter(
    worker: Worker, folder: Path, shared_data: Path
) -> None:
    path = shared_data / "baselines" / "fsdd_dscnn.keras"
    worker.load(path)
    ours = worker.lower(folder / "ours.tflite").path
    stock = worker.run(tensorflow_jobs.stock, path=path)
    # The stock graph asks for its batch size at run time; ours is for one sample.
    assert set(names(ours)) <= set(names(stock))
    assert ours.stat().st_size <= len(stock)


def test_a_long_recurrent_layer_is_a_loop(worker: Worker, folder: Path) -> None:
    worker.run(tensorflow_jobs.make_long, folder=folder)
    source = worker.load(folder / "long.keras")
    batch = noise(source)
    lowered = worker.lower(folder / "long.tflite")
    assert "WHILE" in names(lowered.path)
    ((output, expected),) = worker.predict(batch).items()
    np.testing.assert_allclose(run(lowered.path, batch)[output], expected, atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("lstm", "memory"), ("counter", "counter")])
def test_stateful_layers_are_lowered_as_for_independent_samples(
    worker: Worker, folder: Path, name: str, layer: str
) -> None:
    # Given a layer that changes its variables in every call, and the same sample four times
    worker.run(tensorflow_jobs.make_stateful, folder=folder)
    source = worker.load(folder / f"stateful_{name}.keras")
    batch = {"x": np.repeat(noise(source, 1)["x"], 4, axis=0)}
    # When the model is lowered, also after it has run
    for _ in range(2):
        lowered = worker.lower(folder / "stateful.tflite")
        reference = worker.start_reference(batch)()
        # Then the source answers as if it had been given nothing before, and so does the graph.
        ((output, expected),) = reference.outputs.items()
        assert np.ptp(expected, axis=0).max() == 0
        np.testing.assert_allclose(run(lowered.path, batch)[output], expected, atol=1e-5)
        assert reference.stateful == (layer,)


def test_a_saved_model_that_assigns_a_variable_is_refused(worker: Worker, folder: Path) -> None:
    worker.run(tensorflow_jobs.make_stateful, folder=folder)
    worker.load(folder / "sums")
    with pytest.raises(ConversionError, match="keeps state in a variable") as caught:
        worker.lower(folder / "sums.tflite")
    assert "TFLiteConverter.from_saved_model" in (caught.value.hint or "")


def test_an_operator_that_tflite_lacks_is_named(worker: Worker, folder: Path) -> None:
    worker.run(tensorflow_jobs.make_unsupported, folder=folder)
    worker.load(folder / "determinant.keras")
    with pytest.raises(ConversionError, match="cannot be lowered") as caught:
        worker.lower(folder / "determinant.tflite")
    assert caught.value.found == "det: TFLite has no operator MatrixDeterminant."
    assert len(str(caught.value).splitlines()) <= 3
    assert not (folder / "determinant.tflite").exists()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("largest", r"argmax(_\d)?: TFLite has no operator BitwiseAnd\."),
        (
            "nested",
            r"inner/erf\S*: TFLite has no operator Erf\. inner/inv\S*: .* MatrixInverse\.",
        ),
    ],
)
def test_operations_that_are_no_layers_are_named(
    worker: Worker, folder: Path, name: str, found: str
) -> None:
    worker.run(tensorflow_jobs.make_refused, folder=folder)
    worker.load(folder / f"{name}.keras")
    with pytest.raises(ConversionError, match="cannot be lowered") as caught:
        worker.lower(folder / "refused.tflite")
    assert re.fullmatch(found, str(caught.value.found))


def test_a_model_exported_as_in_training_is_told_and_the_hint_mends_it(
    worker: Worker, folder: Path
) -> None:
    # Given a SavedModel in which Keras draws random numbers at every call
    worker.run(tensorflow_jobs.make_refused, folder=folder)
    worker.load(folder / "flipping")
    # When it is lowered, the layer is named
    with pytest.raises(ConversionError, match="draws random numbers at every call") as caught:
        worker.lower(folder / "flipping.tflite")
    assert "flip" in str(caught.value.found)
    assert "training=False" in str(caught.value.hint)
    # Then the Keras file, and an export for inference, are lowered as the hint says.
    for right in ("flipping.keras", "still"):
        batch = noise(worker.load(folder / right))
        lowered = worker.lower(folder / "flipping.tflite")
        ((output, expected),) = worker.predict(batch).items()
        np.testing.assert_allclose(run(lowered.path, batch)[output], expected, atol=1e-5)


def test_a_live_model_is_lowered_where_it_lives_and_quietly(worker: Worker, folder: Path) -> None:
    seen = worker.run(tensorflow_jobs.adopt, folder=folder)
    assert seen["said"] == ""
    assert (seen["source"].name, seen["weights"]) == ("live", 10)
    assert seen["untouched"]
    np.testing.assert_allclose(seen["reference"].outputs["y"], seen["expected"], rtol=1e-6)


def test_what_is_no_model_is_not_adopted(worker: Worker) -> None:
    with pytest.raises(ModelError, match="neither a path nor a Keras model"):
        worker.run(tensorflow_jobs.adopt_any, {"weights": 3})


def test_source_runs_in_batches_as_it_does_alone(worker: Worker, fashion: Fashion) -> None:
    """Given a trained model, then 400 samples at once score as the file that was made of it."""
    source, graph, images, labels = fashion
    worker.load(source.path)

    (together,) = worker.predict({source.inputs[0].name: images}).values()
    (alone,) = worker.predict({source.inputs[0].name: images[:1]}).values()

    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    (found,) = run(graph, {source.inputs[0].name: images}).values()
    assert np.mean(together.argmax(1) == labels) == np.mean(found.argmax(1) == labels)


@pytest.mark.parametrize("name", ["mixing.keras", "fixed", "stateful.keras"])
def test_sources_that_depend_on_the_batch_are_run_sample_by_sample(
    worker: Worker, folder: Path, name: str
) -> None:
    """Given a model that mixes, fixes or remembers samples, then each is answered as if alone."""
    worker.run(tensorflow_jobs.make_batch_dependent, folder=folder)
    source = worker.load(folder / name)
    spec = source.inputs[0]
    samples = np.random.default_rng(0).normal(size=(5, *spec.shape[1:])).astype(np.float32)

    (together,) = worker.predict({spec.name: samples}).values()

    for row in range(5):
        worker.load(folder / name)
        (alone,) = worker.predict({spec.name: samples[row : row + 1]}).values()
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-6)
