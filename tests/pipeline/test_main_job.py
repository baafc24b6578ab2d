"""The main job from the command line and from Python, on the packaged digits and CNN."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from edgekit import data
from edgekit.cli import run
from edgekit.modes import DEFAULT_MODES, MODES
from edgekit.tflite import micro_interpreter, read_metadata

pytestmark = pytest.mark.tensorflow

_TASKS = {"accuracy": "classification", "rmse": "regression"}
VARIANTS = ["float32", "float16", "dynamic", "int8", "int4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert run(["demo", "-o", str(folder), "--quiet", "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(made):
    """The rows of the files; the source's row stands before them."""
    return json.loads((made / "report.json").read_text())["rows"][1:]


def test_the_source_is_scored_first(made, rows):
    source = json.loads((made / "report.json").read_text())["rows"][0]
    assert (source["variant"], source["mode"], source["latency"]) == ("source", None, None)
    assert source["score"]["n"] == rows[0]["score"]["n"]
    assert source["score"]["value"] == rows[0]["score"]["value"] > source["score"]["guess"]
    assert not source["recommended"]
    assert not (made / "source.json").exists()


def test_every_variant_has_a_file_a_manifest_and_a_row(made, rows):
    assert [row["variant"] for row in rows] == VARIANTS
    names = {p.name for p in made.iterdir()}
    expected = {f"{v}.{end}" for v in VARIANTS for end in ("tflite", "json")}
    assert names == expected | {"report.html", "report.json"}


def test_a_row_keeps_the_contract(made, rows):
    for row in rows:
        content = (made / f"{row['variant']}.tflite").read_bytes()
        assert row["path"] == str(made / f"{row['variant']}.tflite")
        assert row["size_bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["size_deflated_bytes"] < row["size_bytes"]
        assert row["score"]["metric"] == "accuracy"
        assert row["score"]["n"] == 500
        low, high = row["score"]["ci95"]
        assert low < row["score"]["value"] < high
        latency = row["latency"]
        assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
        assert latency["threads"] == 1
        assert len(latency["values_ns"]) == latency["n"]
        assert row["peak_rss_bytes"] > 10_000_000
    assert rows[0]["drop"] is None
    assert all(row["agreement"] > 0.98 for row in rows[1:])
    assert sum(row["recommended"] for row in rows) == 1


def test_every_file_tells_other_tools_how_to_use_it(made):
    for variant in VARIANTS:
        found = read_metadata((made / f"{variant}.tflite").read_bytes())
        manifest = json.loads((made / f"{variant}.json").read_text())
        assert found.name == manifest["model"]
        # Digits are 0 to 16, and the model was trained on a sixteenth of that.
        assert (found.inputs[0].mean, found.inputs[0].std) == ((0.0,), (16.0,))
        assert list(found.outputs[0].labels) == manifest["labels"]


def test_the_trained_cnn_keeps_its_accuracy_in_every_variant(rows):
    float32 = rows[0]["score"]["value"]
    assert float32 >= 0.97
    for row in rows[1:]:
        assert row["drop"] == pytest.approx(float32 - row["score"]["value"])
        assert row["drop"] <= 0.01
        assert row["verdict"] != "lost"


def test_sizes_fall_down_the_ladder(rows):
    sizes = {row["variant"]: row["size_bytes"] for row in rows}
    assert sizes["int4"] < sizes["int8"] < sizes["float16"] < sizes["float32"]
    assert sizes["int4"] < sizes["dynamic"] < sizes["float16"]


def test_the_recommended_file_is_no_slower_than_float32_and_within_the_accepted_loss(made, rows):
    # Given latencies that no test can foresee
    float32, best = rows[0], next(row for row in rows if row["recommended"])

    # Then whatever file it is, it is none that the rule excludes
    assert best["latency"]["p50_ms"] <= float32["latency"]["p50_ms"]
    if best is not float32:
        assert best["drop"] <= best["drop_allowed"] == 0.005
        assert best["size_bytes"] < float32["size_bytes"]
    report = json.loads((made / "report.json").read_text())
    assert report["reason"].startswith(f"Ship {best['variant']}: ")
    assert report["asked"]["preferred"] == "balanced"


def test_the_smallest_file_can_be_preferred_for_tflite_runtime_too(made, tmp_path, capsys):
    words = ["quantize", str(made / "float32.tflite"), "--data", "digits", "--quiet", "--json"]
    words += ["--mode", "float16", "--mode", "int4", "--no-bench", "--max-drop", "1"]
    words += ["--prefer", "size"]

    found = {}
    for name, more in (("any", []), ("tflite", ["--runtime", "tflite"])):
        assert run([*words, *more, "-o", str(tmp_path / name)]) == 0
        report = json.loads(capsys.readouterr().out)
        found[name] = [row["variant"] for row in report["rows"] if row["recommended"]]
        assert report["asked"]["preferred"] == "size"

    # tflite-runtime has no kernels for int4: the runner expands it.
    assert found == {"any": ["int4"], "tflite": ["int4"]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prefer", "small"], "Known: size, latency, balanced."),
        (["--runtime", "onnx"], "Known: litert, tflite, tensorflow."),
        (["--prefer", "latency", "--no-bench"], "Leave out --no-bench, or prefer size."),
    ],
)
def test_a_preference_that_cannot_be_followed_is_refused(options, words, made, tmp_path, capsys):
    assert run(["quantize", str(made / "float32.tflite"), *options, "-o", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_a_manifest_says_where_the_file_came_from_and_is_small(made):
    described = json.loads((made / "int8.json").read_text())
    assert described["source"]["kind"] == "keras"
    assert described["lowering"]["max_abs_difference"] < 1e-5
    assert described["lowering"]["inputs"] == "data"
    assert set(described["data"]["splits"]) == {"train", "calibrate", "test"}
    assert described["preprocessing"]["kind"] == "affine"
    assert described["versions"]["tensorflow"].startswith("2.21")
    assert described["rows"][0]["latency"]["p50_ms"] > 0
    assert (made / "int8.json").stat().st_size < 12_000


def test_the_same_again_gives_the_same_bytes_and_a_tflite_source_needs_no_keras(
    made, tmp_path, capsys
):
    words = ["quantize", str(made / "float32.tflite"), "--data", "digits", "--no-bench", "--quiet"]
    assert run([*words, "-o", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    again = {row["variant"]: row["sha256"] for row in report["rows"]}
    first = {v: hashlib.sha256((made / f"{v}.tflite").read_bytes()).hexdigest() for v in VARIANTS}
    assert again == first


def test_a_recipe_and_a_target(made, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'schema = 1\nname = "mine"\n[[step]]\nkind = "quantize"\nmode = "int8"\nranges = "mse"\n'
        'input = "uint8"\noutput = "uint8"\n'
    )
    words = ["quantize", str(made / "float32.tflite"), "--data", "digits", "--quiet", "--json"]
    words += ["--recipe", str(recipe), "--mode", "float16", "--target", "coral", "--no-bench"]
    words += ["--target", "micro"]
    assert run([*words, "-o", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in report["rows"]] == ["float32", "float16", "mine"]
    assert report["rows"][2]["recommended"]
    assert "Predicted for coral" in report["reason"]
    # What its interpreter loads is no prediction.
    how = "By TFLite Micro, for" if micro_interpreter.available() else "Predicted for"
    assert f"{how} micro: " in report["reason"]
    inputs = report["rows"][2]["inspection"]["inputs"]
    assert inputs[0]["dtype"] == "uint8"


def test_eval_bench_and_report_work_on_the_files(made, tmp_path, capsys):
    files = [str(made / "float32.tflite"), str(made / "int8.tflite")]
    assert run(["eval", *files, "--data", "digits", "--json", "--quiet"]) == 0
    scored = capsys.readouterr().out
    (tmp_path / "scored.json").write_text(scored)
    first, second = json.loads(scored)["rows"]
    assert first["score"]["value"] >= 0.97
    assert second["drop"] is not None

    assert run(["bench", *files, "--runs", "50", "--json", "--quiet"]) == 0
    timed = capsys.readouterr().out
    (tmp_path / "timed.json").write_text(timed)
    assert all(row["latency"]["n"] == 50 for row in json.loads(timed)["rows"])

    both = [str(tmp_path / "scored.json"), str(tmp_path / "timed.json")]
    for kind in ("md", "csv", "html", "svg"):
        output = tmp_path / f"both.{kind}"
        assert run(["report", *both, "-o", str(output)]) == 0
        assert "int8" in output.read_text()
    assert run(["report", *both]) == 0
    assert "int8" in capsys.readouterr().out


def test_import_verifies_and_writes(repository, tmp_path, capsys):
    model = repository / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"
    goal = tmp_path / "digits.tflite"
    assert run(["import", str(model), "-o", str(goal), "--data", "digits", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "samples of data" in said
    assert f"Wrote {goal}" in said
    assert run(["import", str(model), "-o", str(goal), "--quiet"]) == 2
    assert "--force" in capsys.readouterr().err


def test_a_live_keras_model_from_python(repository, tmp_path, warm_tensorflow):
    """In a process of its own: it imports TensorFlow, which this one must not."""
    script = """
import sys
import keras
import edgekit
model = keras.models.load_model(sys.argv[1])
report = edgekit.quantize(
    model, data="digits", modes=["int8", "float16"], output=sys.argv[2], prefer="size"
)
best = next(row for row in report.rows if row.recommended)
assert [row.artifact.variant for row in report.files] == ["float32", "int8", "float16"]
assert best.artifact.variant == "int8", best
assert best.artifact.path.exists() and best.score.value > 0.96 and best.timing.p50_ms > 0
"""
    model = repository / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"
    warm_tensorflow.script(script, model, tmp_path / "out")


def test_without_data_integer_modes_are_refused_and_others_are_not(made, tmp_path, capsys):
    model = str(made / "float32.tflite")
    words = ["quantize", model, "-o", str(tmp_path / "out"), "--no-bench", "--quiet"]
    assert run([*words, "--mode", "int8"]) == 4
    assert "--data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run([*words, "--mode", "float16"]) == 0


def test_a_model_of_two_inputs_and_outputs_from_an_npz(tmp_path, capsys, warm_tensorflow):
    """The targets are held against the output that is scored, whichever that is."""
    generator = np.random.default_rng(0)
    left, right = generator.random((90, 6), np.float32), generator.random((90, 4), np.float32)
    labels = (left.sum(1) > right.sum(1)).astype(np.int64)
    np.savez(
        tmp_path / "two.npz",
        x_train_left=left[:60],
        x_train_right=right[:60],
        y_train=labels[:60],
        x_test_left=left[60:],
        x_test_right=right[60:],
        y_test=labels[60:],
    )
    script = """
import sys
import keras
left, right = keras.Input((6,), name="left"), keras.Input((4,), name="right")
both = keras.layers.Concatenate()([left, right])
hidden = keras.layers.Dense(64, activation="relu")(both)
outputs = [
    keras.layers.Dense(1, name="amount")(hidden),
    keras.layers.Dense(2, activation="softmax", name="kind")(hidden),
]
keras.Model([left, right], outputs).save(sys.argv[1])
"""
    model = str(tmp_path / "two.keras")
    warm_tensorflow.script(script, model)
    words = ["quantize", model, "--data", str(tmp_path / "two.npz"), "--no-bench", "--quiet"]
    words += ["--mode", "int8", "--json", "-o", str(tmp_path / "out")]
    for name, metric in (("kind", "accuracy"), ("amount", "rmse")):
        assert run([*words, "--score-output", name, "--task", _TASKS[metric], "--force"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["score"]["metric"] for row in rows] == [metric] * 3
        assert [i["name"] for i in rows[2]["inspection"]["inputs"]] == ["left", "right"]
    assert run([*words, "--score-output", "nothing", "--force"]) == 2
    assert "amount, kind" in capsys.readouterr().err


def test_int16_activations_are_made_where_they_are_asked_for(made, tmp_path):
    # Given a run that names no mode, which makes all but one
    assert [name for name in MODES if name not in DEFAULT_MODES] == ["int16x8"]
    words = ["quantize", str(made / "float32.tflite"), "--data", "digits", "--no-bench", "--quiet"]
    # When all are asked for, or that one
    for options, expected in ((["--all"], list(MODES)), (["--mode", "int16x8"], ["int16x8"])):
        folder = tmp_path / options[0]
        assert run([*words, *options, "-o", str(folder)]) == 0
        # Then it is made.
        files = {path.stem for path in folder.glob("*.tflite")}
        assert files == {*expected, "float32"}


def test_state_of_a_source_is_named_where_it_would_be_lost(tmp_path, capsys, warm_tensorflow):
    # Given a Keras model that remembers, and samples that are independent or one sequence
    write = (
        "import keras; x = keras.Input((8, 8), batch_size=1);"
        "y = keras.layers.LSTM(32, stateful=True, name='memory')(x);"
        "keras.Model(x, keras.layers.Dense(2, activation='softmax')(y)).save('model.keras')"
    )
    warm_tensorflow.script(write, cwd=tmp_path)
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.normal(size=(20, 8, 8)) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(20) % 2 for split in ("train", "test")}
    np.savez(tmp_path / "apart.npz", **arrays)
    np.savez(tmp_path / "stream.npz", sequence=True, **arrays)
    source, words = str(tmp_path / "model.keras"), ["--quiet", "--json", "--no-bench"]

    # When it is quantized for both, and pruned
    codes, said = {}, {}
    for name in ("apart", "stream"):
        data = ["--data", str(tmp_path / f"{name}.npz"), "-o", str(tmp_path / name)]
        codes[name] = run(["quantize", source, *data, "--mode", "float16", *words])
        said[name] = capsys.readouterr()
        data = ["--data", str(tmp_path / f"{name}.npz"), "-o", str(tmp_path / f"{name}.keras")]
        codes[f"pruned {name}"] = run(["prune", source, *data, "--epochs", "1", "--quiet"])
        said[f"pruned {name}"] = capsys.readouterr()

    # Then independent samples are possible, and all else is refused with the layer's name.
    assert codes == {"apart": 0, "stream": 5, "pruned apart": 0, "pruned stream": 3}
    warnings = json.loads(said["apart"].out)["warnings"]
    assert any(text.startswith("memory: the file starts from the initial") for text in warnings)
    assert "The state of memory would be lost" in said["stream"].err
    assert "memory is trained from the initial state" in said["pruned apart"].out
    assert "Stateful: memory." in said["pruned stream"].err


def test_classes_are_told_by_name_where_the_data_has_them_in_another_order(made, tmp_path, capsys):
    # Given the same digits, whose data set lists the classes from nine to zero
    test = data.open_data("digits").test
    batch = test.read(np.arange(test.n))
    names = [str(digit) for digit in range(9, -1, -1)]
    np.savez(
        tmp_path / "turned.npz", x_test=batch.inputs["x"], y_test=9 - batch.targets, labels=names
    )

    found = {}
    for given in ("digits", str(tmp_path / "turned.npz")):
        assert run(["eval", str(made / "float32.tflite"), "--data", given, "--json"]) == 0
        told = capsys.readouterr()
        found[given] = json.loads(told.out)["rows"][0]["score"]

    # Then names decide: the score is the same, class by class
    first, second = found.values()
    assert first["value"] == second["value"] > 0.9
    assert first["per_class"] == second["per_class"]
