"""Code in a model file is found before any loader opens the file."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hostile_models
import made_models
import numpy as np
import pytest

from edgekit.archives import check_weights
from edgekit.cli import run
from edgekit.errors import ConversionError, ModelError
from edgekit.files import sha256_of
from edgekit.recipe import Prune
from edgekit.records import DataRequest
from edgekit.sources import check_source, load
from edgekit.sources.embedded_code import code_of_loss
from edgekit.sources.keras_config import Trusted, code_in
from edgekit.training.finetuning import Tuning
from edgekit.worker import Worker

HERE = Path(__file__).parent

COMMANDS = {
    "train": "train ds_cnn --data data.npz -o out.keras --from",
    "import": "import -o out.tflite",
    "quantize": "quantize --no-bench -o out",
    "prune": "prune --data data.npz -o out.keras",
    "shrink": "shrink --data data.npz -o out.keras",
    "cluster": "cluster --data data.npz -o out.keras",
    "qat": "qat --data data.npz -o out.keras",
    "compress": "compress --recipe recipe.toml --data data.npz -o out",
    "sensitivity": "sensitivity --data data.npz",
    "compare": "compare data.npz --data data.npz",
    "adapt": "adapt --target coral --data data.npz -o out.keras",
}

RECIPE = (
    'schema = 1\nname = "r"\n[[step]]\nkind = "prune"\n[[step]]\nkind = "quantize"\nmode = "int8"\n'
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data, a recipe, and a module that only leaves a marker."""
    monkeypatch.chdir(tmp_path)
    x = np.zeros((8, 4), np.float32)
    y = np.arange(8) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "payload.py").write_text(hostile_models.PAYLOAD)
    return tmp_path


@pytest.mark.parametrize("name", hostile_models.NAMES)
def test_a_hostile_file_is_refused_as_data(name: str, place: Path) -> None:
    path = hostile_models.write(place, name)
    with pytest.raises(ModelError) as caught:
        check_source(path)
    error = caught.value
    assert error.exit_code == 3
    assert len(str(error).splitlines()) == 3
    assert str(path) in error.what
    foreign = "module_of" in name or name == "h5:initializer"
    assert ("--custom package.module" if foreign else "--trust-code") in (error.hint or "")
    assert not (place / hostile_models.MARKER).exists()


@pytest.mark.parametrize("name", hostile_models.CODE_IN_LOSS)
def test_code_in_the_loss_alone_refuses_no_file(name: str, place: Path) -> None:
    config = hostile_models.CODE_IN_LOSS[name]
    path = hostile_models.write_keras(place / "lossy.keras", config)

    check_source(path)

    assert code_of_loss(path, "keras", Trusted()) is not None
    plain = hostile_models.write_keras(place / "plain.keras", {**config, "compile_config": None})
    assert code_of_loss(plain, "keras", Trusted()) is None


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name",
    [
        "keras:lambda",
        "keras:nested_lambda",
        "keras:keras_2_lambda",
        "keras:module_of_a_class",
        "keras:keras_download",
        "h5:lambda_behind_lstm",
        "h5:residual",
        "h5:tensorflow_symbol",
        "h5:initializer",
        "folder:notes",
        "folder:old_notes",
        "folder:write_in_function",
    ],
)
def test_every_command_that_loads_a_model_refuses_it(
    command: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hostile_models.write(place, name)
    before = sorted(place.rglob("*"))
    verb, *options = COMMANDS[command].split()
    words = [verb, *options, path.name] if verb == "train" else [verb, path.name, *options]
    code = run([*words, "--quiet"])
    said = capsys.readouterr().err.splitlines()
    assert code == 3, said
    assert 1 <= len(said) <= 3
    assert path.name in said[0]
    assert sorted(place.rglob("*")) == before  # neither a marker nor half an output


def test_every_command_that_can_be_given_a_keras_file_can_be_told_to_trust_it() -> None:
    import typer

    from edgekit.cli import app

    commands = typer.main.get_command(app).commands
    options = {
        name: {option for p in command.params for option in p.opts}
        for name, command in commands.items()
    }
    trusting = {name for name, known in options.items() if "--trust-code" in known}
    # `--custom` and `--from` are on whatever loads a model
    assert trusting == {name for name, known in options.items() if known & {"--custom", "--from"}}
    assert trusting == {*COMMANDS, "rebuild"}  # rebuild is given a manifest, see below


@pytest.mark.parametrize("name", ["keras:lambda", "h5:lambda_behind_lstm", "folder:notes"])
def test_rebuild_refuses_the_source_that_a_manifest_names(
    name: str, place: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hostile_models.write(place, name)
    manifest = json.loads((repository / "quantized/fashion-mnist/float32.json").read_text())
    manifest["source"]["sha256"] = sha256_of(path)
    (place / "float32.json").write_text(json.dumps(manifest))
    code = run(["rebuild", "float32.json", "--source", path.name, "--data", "data.npz", "--quiet"])
    assert code == 3, capsys.readouterr().err
    assert path.name in capsys.readouterr().err
    assert not (place / hostile_models.MARKER).exists()


def test_the_check_needs_no_tensorflow(place: Path) -> None:
    path = hostile_models.write(place, "keras:lambda")
    script = (
        "import sys\nfrom pathlib import Path\nfrom edgekit.sources import check_source\n"
        f"try:\n    check_source(Path({str(path)!r}))\nexcept Exception as error:\n"
        "    print(type(error).__name__, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ModelError", "False", "False"]


def findings(*layers: hostile_models.Json, trusted: Trusted | None = None) -> list[str]:
    config = hostile_models.sequential(*layers)
    return [finding.kind for finding in code_in(config, trusted or Trusted())]


def test_what_the_user_gave_is_no_finding() -> None:
    scale = {**hostile_models.layer("Scale", "mine.layers"), "registered_name": "mine>Scale"}
    triple = hostile_models.layer("Lambda", function=hostile_models.function("triple", "mine.more"))
    assert findings(scale, triple) == ["module", "module"]
    # by module, with those below it; or by the names that Keras looks up
    assert findings(scale, triple, trusted=Trusted(modules=("mine",))) == []
    named = Trusted(names=frozenset({"mine>Scale", "triple"}))
    assert findings(scale, triple, trusted=named) == []
    # a name like that of a module given is another module
    assert findings(scale, trusted=Trusted(modules=("min", "mine.layers2"))) == ["module"]
    # Keras looks up the registered name, not that of the class
    assert findings(scale, trusted=Trusted(names=frozenset({"Scale"}))) == ["module"]


@pytest.mark.parametrize(
    "harmless",
    [
        hostile_models.layer("Lambda", function=hostile_models.function("relu", "builtins")),
        hostile_models.layer("Lambda", None, function="triple", function_type="function"),
        hostile_models.layer(
            "Lambda", None, function="relu", function_type="function", module="keras.src.backend"
        ),
        hostile_models.layer("Lambda", output_shape=[3, 4], arguments={"k": 1}, module="__main__"),
        hostile_models.layer("Dense", "keras.src.layers.core.dense", activation="relu"),
        hostile_models.layer("Dense", "tf_keras.layers"),
        hostile_models.layer("Dense", "tensorflow.python.keras.layers"),
        hostile_models.layer("Add", "keras.src.ops.numpy"),
        hostile_models.layer("my_package>Scale", None),
        hostile_models.layer("my_layer", None),
        hostile_models.layer("TFOpLambda", None, function="__operators__.add"),
        hostile_models.layer("TFOpLambda", None, function="compat.v1.nn.conv2d"),
        hostile_models.layer("TensorFlowOpLayer", None, node_def={"op": "AddV2"}),
        hostile_models.layer("StringLookup", vocabulary=["a", "b"]),
        hostile_models.layer("Attention", attention_type="lambda"),
    ],
    ids=lambda layer: f"{layer['class_name']}-{layer.get('module')}",
)
def test_a_harmless_layer_is_no_finding(harmless: hostile_models.Json) -> None:
    assert findings(harmless) == []


def test_custom_modules_are_no_leave_for_others(place: Path) -> None:
    """With them the check is left to the loader's process, which knows what they define."""
    (place / "mine.py").write_text("def triple(x):\n    return 3 * x\n")
    layers = [hostile_models.layer("Scale", "mine"), hostile_models.layer("Layer", "payload")]
    path = hostile_models.write_keras(place / "m.keras", hostile_models.sequential(*layers))
    with pytest.raises(ModelError, match="payload"):
        load(path, custom=("mine",))
    path = hostile_models.write(place, "h5:lambda_behind_lstm")
    with pytest.raises(ModelError, match="Lambda"):
        load(path, custom=("mine",))
    assert not (place / hostile_models.MARKER).exists()


OTHER_FILES = [("link", "other.h5"), ("bytes", "/etc/passwd"), ("virtual", "other.h5")]


@pytest.mark.parametrize(("kind", "name"), OTHER_FILES)
def test_weights_from_another_file_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    path = hostile_models.write_h5_of_another_file(tmp_path / "m.h5", kind)
    with pytest.raises(ModelError, match=f"reads another file .*{name}"):
        check_source(path)


@pytest.mark.parametrize(("kind", "name"), OTHER_FILES)
def test_keras_weights_from_another_file_are_refused(
    kind: str, name: str, tmp_path: Path, demo_model: Path
) -> None:
    path = hostile_models.write_keras_of_another_file(tmp_path / "m.keras", demo_model, kind)
    with pytest.raises(ModelError, match=f"reads another file .*{name}"):
        load(path)
    # What Keras would then read, it is not asked for.
    assert check_weights(path) == [name]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_soft_links_in_a_circle_end(ending: str, tmp_path: Path, demo_model: Path) -> None:
    if ending == ".keras":
        path = hostile_models.write_keras_of_another_file(
            tmp_path / "m.keras", demo_model, "circle"
        )
    else:
        path = hostile_models.write_h5_of_another_file(tmp_path / "m.h5", "circle")
    check_source(path)
    assert check_weights(path) == []


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '"\\ud800'])
def test_an_unreadable_configuration_is_an_error(text: str, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("config.json", text)
    with pytest.raises(ModelError, match="damaged"):
        check_source(tmp_path / "odd.keras")


@pytest.mark.parametrize(
    "content",
    [b"\x12\xff", b"\x12\x05abc", b"\x0b", b"\x00\x01", b"\xff" * 12, b"\x11\x00"],
    ids=["length", "short", "group", "zero", "varint", "fixed"],
)
def test_a_graph_that_is_no_protocol_buffer_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be restored"):
        check_source(tmp_path / "odd")


def test_a_function_without_a_name_counts(tmp_path: Path) -> None:
    content = hostile_models.graph_with("WriteFile", function="f").replace(
        b"\x0a\x01f", b"\x4a\x01f"
    )
    assert b"\x4a\x01f" in content
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match="WriteFile"):
        check_source(tmp_path)


def test_notes_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    path = hostile_models.write_saved_model(tmp_path / "m", {}, old=True)
    content = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(content.replace(b"{}", b"v1"))
    check_source(path)


def test_print_to_the_terminal_is_harmless(tmp_path: Path) -> None:
    stderr = hostile_models.message(5, hostile_models.message(2, hostile_models.message(2, b"x")))
    (tmp_path / "saved_model.pb").write_bytes(
        hostile_models.graph_with("PrintV2", attributes=stderr)
    )
    check_source(tmp_path)


# --- with TensorFlow ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def worker(made: Path) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.chdir(made)
        with Worker(trust_code=True, timeout=600) as started:
            started.run(made_models.make_with_code, folder=made)
            yield started


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5", "writes_on_load", "writes"])
def test_trusted_code_runs(worker: Worker, made: Path, name: str) -> None:
    """The files refused above do run code when loaded."""
    marker = made / hostile_models.MARKER
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=name):
        check_source(made / name)
    assert not marker.exists()
    assert worker.load(made / name).inputs[0].shape == (1, 4)
    assert marker.exists()


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["lambda_loss.keras", "lambda_loss.h5"])
def test_a_lambda_as_loss_is_not_needed(
    worker: Worker, made: Path, tmp_path: Path, name: str
) -> None:
    # Given a model that was compiled with a lambda, and a process that does not trust it
    assert (made / name).exists()
    assert worker is not None
    marker = made / hostile_models.MARKER
    marker.unlink(missing_ok=True)
    tuning = made_tuning(tmp_path)
    with Worker() as careful:
        # When it is lowered, and fine-tuned
        careful.load(made / name)
        lowered = careful.lower(tmp_path / "float32.tflite")
        passed = careful.transform(Prune(sparsity=0.5), tuning, tmp_path / "pruned.keras")
    # Then the lambda has not run, and a loss that was left out is told.
    assert not marker.exists()
    told = name.endswith(".keras")
    assert [note for note in lowered.notes if "loss in lambda_loss.keras" in note] != [] or not told
    assert ("--trust-code" in passed.facts.get("loss", "")) == told
    assert passed.path.exists()


@pytest.mark.tensorflow
def test_a_lambda_as_loss_trains_once_it_is_trusted(
    worker: Worker, made: Path, tmp_path: Path
) -> None:
    marker = made / hostile_models.MARKER
    marker.unlink(missing_ok=True)

    worker.load(made / "lambda_loss.keras")
    passed = worker.transform(Prune(sparsity=0.5), made_tuning(tmp_path), tmp_path / "p.keras")

    assert marker.exists()
    assert "loss" not in passed.facts


@pytest.mark.tensorflow
def test_a_trusted_loss_that_fails_is_an_ordinary_error(
    worker: Worker, made: Path, tmp_path: Path
) -> None:
    worker.load(made / "failing_loss.keras")
    with pytest.raises(ConversionError, match="cannot be trained with its loss"):
        worker.transform(Prune(sparsity=0.5), made_tuning(tmp_path), tmp_path / "p.keras")


def made_tuning(folder: Path) -> Tuning:
    """Training on a few samples with two targets."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 4)), random.normal(size=(40, 2))
    path = folder / "data.npz"
    np.savez(path, x_train=x.astype(np.float32), y_train=y.astype(np.float32))
    return Tuning(data=DataRequest(data=str(path)), epochs=1)


@pytest.mark.tensorflow
@pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is not here")
@pytest.mark.parametrize("name", ["lambda_2.h5", "lambda_2.keras", "lambda_2_saved"])
def test_trusted_code_of_keras_2_runs(worker: Worker, made: Path, name: str) -> None:
    if not (made / name).exists():
        worker.run(made_models.make_legacy_with_code, folder=made)
    test_trusted_code_runs(worker, made, name)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["reads", "restores", "saves", "python"])
def test_a_program_is_refused(worker: Worker, made: Path, name: str) -> None:
    with pytest.raises(ModelError, match="does more than compute"):
        check_source(made / name)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["table", "tf1", "functional", "vocabulary"])
def test_a_saved_model_that_only_computes_is_accepted(
    worker: Worker, made: Path, name: str
) -> None:
    check_source(made / name)


@pytest.mark.tensorflow
def test_a_loop_without_end_ends_in_a_timeout(worker: Worker, made: Path) -> None:
    check_source(made / "loop")
    with Worker(timeout=2) as impatient:
        before = impatient.run(made_models.process)  # TensorFlow is there now
        with pytest.raises(ModelError, match="longer than 2 seconds") as caught:
            impatient.load(made / "loop")
        assert "EDGEKIT_MODEL_TIMEOUT=8" in (caught.value.hint or "")
        # the next request has a process of its own
        assert impatient.run(made_models.process) not in {before, os.getpid()}


def test_a_timeout_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], demo_model: Path
) -> None:
    monkeypatch.setenv("EDGEKIT_MODEL_TIMEOUT", "soon")
    assert run(["import", str(demo_model), "-o", "out.tflite"]) == 2
    assert "EDGEKIT_MODEL_TIMEOUT: soon" in capsys.readouterr().err
