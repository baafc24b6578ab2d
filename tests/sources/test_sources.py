"""Every kind of source is read, or refused with a helpful message."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

import made_models
import pytest

from edgekit.archives import parse_size, unpacked_limit
from edgekit.errors import ModelError
from edgekit.records import Source
from edgekit.tflite import has_loops, read
from edgekit.tflite.lstm import fused_lstms
from edgekit.worker import Worker

pytestmark = pytest.mark.tensorflow
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.chdir(folder)
        with Worker() as started:
            started.run(made_models.make, folder=folder)
            yield started


def described(source: Source) -> tuple[list[tuple[str, tuple[int, ...]]], ...]:
    return tuple([(s.name, s.shape) for s in side] for side in (source.inputs, source.outputs))


@pytest.mark.parametrize("name", ["functional.keras", "functional.h5"])
def test_a_functional_model_keeps_the_names_of_its_layers(
    worker: Worker, folder: Path, name: str
) -> None:
    source = worker.load(folder / name)
    assert described(source) == ([("image", (1, 8, 8, 3))], [("logits", (1, 5))])
    assert source.parameters == 3 * 3 * 3 * 4 + 4 + 4 * 4 + 144 * 5 + 5
    assert source.name == "functional"
    assert source.kind == name.partition(".")[2]


def test_the_digest_is_that_of_the_file(worker: Worker, folder: Path) -> None:
    import hashlib

    source = worker.load(folder / "dense.keras")
    assert source.sha256 == hashlib.sha256((folder / "dense.keras").read_bytes()).hexdigest()


def test_a_sequential_model_saved_without_an_input_layer(worker: Worker, folder: Path) -> None:
    source = worker.load(folder / "sequential.keras")
    ((_, shape),), ((_, out),) = described(source)
    assert (shape, out) == ((1, 4), (1, 2))


def test_several_inputs_and_outputs_come_in_the_models_order(worker: Worker, folder: Path) -> None:
    inputs, outputs = described(worker.load(folder / "lists.keras"))
    assert inputs == [("zeta", (1, 6)), ("alpha", (1, 4))]
    assert outputs == [("second", (1, 2)), ("first", (1, 3))]


def test_outputs_of_a_dictionary_are_named_by_its_keys(worker: Worker, folder: Path) -> None:
    inputs, outputs = described(worker.load(folder / "keyed.keras"))
    assert dict(inputs) == {"zeta": (1, 6), "alpha": (1, 4)}
    assert dict(outputs) == {"b": (1, 2), "y": (1, 3)}


def test_a_saved_model_folder(worker: Worker, folder: Path) -> None:
    source = worker.load(folder / "exported_pair")
    inputs, outputs = described(source)
    assert dict(inputs) == {"zeta": (1, 6), "alpha": (1, 4)}
    assert dict(outputs) == {"b": (1, 2), "y": (1, 3)}
    assert source.kind == "saved_model"
    assert source.parameters == 10 * 3 + 3 + 4 * 2 + 2


def test_a_subclassed_model_takes_its_shapes_from_its_build(worker: Worker, folder: Path) -> None:
    source = worker.run(
        made_models.load_with, path=folder / "subclassed.keras", custom=("own_layers",)
    )
    inputs, outputs = described(source)
    assert inputs == [("a", (1, 3)), ("b", (1, 4))]
    assert outputs == [("narrow", (1, 2)), ("wide", (1, 3))]


@pytest.mark.parametrize("name", ["custom.keras", "custom.h5", "function.keras"])
def test_custom_objects_come_from_the_module_named(worker: Worker, folder: Path, name: str) -> None:
    source = worker.run(made_models.load_with, path=folder / name, custom=("own_layers",))
    assert source.inputs[0].shape == (1, 4)


def test_an_old_file_with_groups_in_depthwise_convolutions(worker: Worker, folder: Path) -> None:
    assert worker.load(folder / "depthwise.h5").outputs[0].shape == (1, 4 * 4 * 3)


def test_open_dimensions_are_those_of_the_example(worker: Worker, folder: Path) -> None:
    path = folder / "open_size.keras"
    assert worker.load(path, example={"x": (32, 20, 12, 1)}).inputs[0].shape == (1, 20, 12, 1)
    # grey images may come without their channel axis
    assert worker.load(path, example={"x": (32, 20, 12)}).inputs[0].shape == (1, 20, 12, 1)


def refusal(worker: Worker, path: Path, **options: object) -> ModelError:
    with pytest.raises(ModelError) as caught:
        worker.load(path, **options)
    assert len(str(caught.value).splitlines()) <= 3
    assert str(path.name) in caught.value.what
    return caught.value


def test_open_dimensions_without_an_example(worker: Worker, folder: Path) -> None:
    error = refusal(worker, folder / "open_size.keras")
    assert "[?, ?, 1]" in error.what
    assert "--data" in (error.hint or "")
    error = refusal(worker, folder / "open_size.keras", example={"x": (5,)})
    assert "[]" in (error.found or "")


def test_a_missing_file(worker: Worker, folder: Path) -> None:
    assert "does not exist" in refusal(worker, folder / "nowhere.keras").what


def test_a_folder_that_is_no_saved_model(worker: Worker, folder: Path) -> None:
    (folder / "plain").mkdir()
    (folder / "plain" / "notes.txt").write_text("hello")
    error = refusal(worker, folder / "plain")
    assert "notes.txt" in (error.found or "")


def test_a_saved_model_that_is_damaged(worker: Worker, folder: Path) -> None:
    (folder / "torn").mkdir()
    whole = (folder / "exported" / "saved_model.pb").read_bytes()
    (folder / "torn" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    assert "cannot be restored" in refusal(worker, folder / "torn").what


def test_a_text_file_named_keras(worker: Worker, folder: Path) -> None:
    (folder / "text.keras").write_text("hello")
    assert "b'hello'" in (refusal(worker, folder / "text.keras").found or "")
    (folder / "empty.keras").write_text("")
    assert "empty" in (refusal(worker, folder / "empty.keras").found or "")


@pytest.mark.parametrize("name", ["functional.keras", "functional.h5"])
def test_a_truncated_file(worker: Worker, folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    torn = folder / f"torn_{name}"
    torn.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refusal(worker, torn).what


def test_a_flipped_byte(worker: Worker, folder: Path) -> None:
    content = bytearray((folder / "functional.keras").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "flipped.keras").write_bytes(content)
    assert "damaged" in refusal(worker, folder / "flipped.keras").what


def test_a_zip_that_is_no_model(worker: Worker, folder: Path) -> None:
    with zipfile.ZipFile(folder / "archive.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in (refusal(worker, folder / "archive.keras").found or "")


def test_a_file_named_as_another_format(worker: Worker, folder: Path) -> None:
    (folder / "renamed.keras").write_bytes((folder / "functional.h5").read_bytes())
    assert "renamed.h5" in (refusal(worker, folder / "renamed.keras").hint or "")


def test_weights_without_a_model(worker: Worker, folder: Path) -> None:
    assert "weights only" in refusal(worker, folder / "only.weights.h5").what


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("custom.keras", "Scale"), ("custom.h5", "Scale"), ("function.keras", "triple")],
)
def test_an_unknown_class_is_named_with_the_cure(
    worker: Worker, folder: Path, name: str, unknown: str
) -> None:
    # The models' folder is the current one, but nothing of it may be imported unasked.
    error = refusal(worker, folder / name)
    assert unknown in error.what
    assert "--custom package.module" in (error.hint or "")


def test_code_inside_a_file_is_not_run(worker: Worker, folder: Path) -> None:
    error = refusal(worker, folder / "lambda.keras")
    assert "Lambda" in error.what
    assert "--custom" in (error.hint or "")


@pytest.mark.parametrize(
    ("module", "words"), [("nowhere_to_be_found", "ModuleNotFoundError"), ("broken", "ZeroDiv")]
)
def test_a_custom_module_that_cannot_be_imported(
    worker: Worker, folder: Path, module: str, words: str
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    with pytest.raises(ModelError, match=module) as caught:
        worker.run(made_models.load_with, path=folder / "dense.keras", custom=(module,))
    assert words in (caught.value.found or "")


@pytest.mark.parametrize("module", ["scaling.py", "json.py"])
def test_a_custom_module_may_be_a_file(worker: Worker, folder: Path, module: str) -> None:
    # given: the class in a file elsewhere, which may have the name of a library
    (folder / "lib").mkdir(exist_ok=True)
    text = (folder / "own_layers.py").read_text()
    (folder / "lib" / module).write_text(text)

    loaded = worker.run(
        made_models.load_with, path=folder / "custom.keras", custom=(f"lib/{module}",)
    )

    assert loaded is not None


def test_a_keras_2_file_without_the_extra(worker: Worker, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"Keras 2\.15\.0") as caught:
        worker.run(made_models.load_without_tf_keras, path=folder / "older.keras")
    assert "pip install tf_keras" in (caught.value.hint or "")


@pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is not here")
@pytest.mark.parametrize("name", ["legacy.keras", "legacy.h5", "legacy_saved"])
def test_keras_2_models_with_the_extra(worker: Worker, folder: Path, name: str) -> None:
    if not (folder / name).exists():
        worker.run(made_models.make_legacy, folder=folder)
    source = worker.load(folder / name)
    assert described(source) == ([("sequence", (1, 7, 3))], [("out", (1, 2))])
    assert source.parameters == 4 * (3 * 4 + 4 * 4 + 4) + 4 * 2 + 2
    for form, compact in (("compact", True), ("unrolled", False)):
        graph = read(worker.lower(folder / "legacy.tflite", recurrent=form).path)
        assert (has_loops(graph) or bool(fused_lstms(graph))) == compact


@pytest.mark.parametrize("kind", ["keras", "weights", "h5"])
def test_a_file_that_would_unpack_to_gigabytes_is_refused_and_the_hint_works(
    worker: Worker, folder: Path, tmp_path: Path, kind: str
) -> None:
    import h5py

    path = tmp_path / ("bomb.h5" if kind == "h5" else "bomb.keras")
    path.write_bytes((folder / f"functional{path.suffix}").read_bytes())
    weights = path if kind == "h5" else tmp_path / "weights.h5"
    if kind == "weights":
        with zipfile.ZipFile(path) as archive:
            weights.write_bytes(archive.read("model.weights.h5"))
            members = {name: archive.read(name) for name in archive.namelist()}
    if kind != "keras":
        with h5py.File(weights, "a") as file:
            file.create_dataset("extra", (10**9,), "f4", chunks=(1 << 20,), compression="gzip")
    if kind == "weights":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, "model.weights.h5": weights.read_bytes()}.items():
                archive.writestr(name, content)
    if kind == "keras":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("assets/zeros", bytes(300 << 20))

    with pytest.raises(ModelError, match="would unpack to") as refused:
        worker.load(path)

    if kind == "keras":
        return  # Keras itself refuses so many zeros, whatever is allowed here
    hint = str(refused.value).rpartition("--max-unpacked ")[2].rstrip(".")
    with unpacked_limit(parse_size(hint)), Worker() as fresh:
        assert fresh.load(path).inputs[0].name == "image"
