"""Files made again from their manifests, to the byte."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm_tensorflow import WarmTensorFlow

import edgekit
from edgekit.cli import run
from edgekit.records import Plan

pytest.importorskip("sklearn")  # the digits are its own

RECIPE = """
schema = 1
name = "cut"
[[step]]
kind = "prune"
epochs = 0
[[step]]
kind = "quantize"
mode = "dynamic"
passes = ["drop_unused"]
"""
Edit = Callable[..., Path]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's digits as a user's `.npz`."""
    from edgekit.data import open_data

    dataset = open_data("digits")
    arrays = {}
    for split, samples in (("train", dataset.train), ("test", dataset.test)):
        batch = samples.read(np.arange(samples.n))
        (arrays[f"x_{split}"],), arrays[f"y_{split}"] = batch.inputs.values(), batch.targets
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def made(demo_model: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that were quantized with a seed and a number of samples of their own."""
    folder = tmp_path_factory.mktemp("rebuild")
    shutil.copy(demo_model, folder / "model.keras")
    edgekit.quantize(
        folder / "model.keras",
        data=str(digits),
        modes=["int8", "float16"],
        output=folder / "made",
        calibration_samples=40,
        seed=3,
        latency=False,
    )
    return folder / "made"


@pytest.fixture(scope="module")
def light_files(made: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float16 file of a float graph, which needs no TensorFlow."""
    folder = tmp_path_factory.mktemp("light")
    shutil.copy(made / "float32.tflite", folder / "graph.tflite")
    edgekit.quantize(
        folder / "graph.tflite",
        data=str(digits),
        modes=["float16"],
        output=folder / "made",
        latency=False,
    )
    return folder


@pytest.fixture
def light(light_files: Path, tmp_path: Path) -> Edit:
    """Edit a copy of the manifest of a float16 file."""
    shutil.copytree(light_files / "made", tmp_path / "light")

    def edit(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        path = tmp_path / "light" / "float16.json"
        described = json.loads(path.read_text())
        change(described)
        path.write_text(json.dumps(described))
        return path

    return edit


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert 1 <= len(said.splitlines()) <= 3, said
    return said


@pytest.mark.tensorflow
@pytest.mark.parametrize("variant", ["float32", "float16", "int8"])
def test_a_manifest_gives_the_same_bytes(
    made: Path, variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given the manifest of a file, which tells the seed of its calibration samples
    manifest = made / f"{variant}.json"
    described = json.loads(manifest.read_text())
    assert (described["seed"], described["build"]["calibration_samples"]) == (3, 40)
    # When it is rebuilt from that alone
    again = tmp_path / "again.tflite"
    assert run(["rebuild", str(manifest), "-o", str(again), "-q"]) == 0
    # Then the new file is the old one.
    assert again.read_bytes() == (made / f"{variant}.tflite").read_bytes()
    assert capsys.readouterr().out.splitlines()[-1] == f"Wrote {again}"


@pytest.mark.tensorflow
def test_another_seed_is_seen_before_any_work(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = json.loads((made / "int8.json").read_text())
    described["build"]["seed"] = 4
    manifest = tmp_path / "int8.json"
    manifest.write_text(json.dumps(described))
    assert run(["rebuild", str(manifest), "-q"]) == 4
    assert "the calibration samples are others" in complaint(capsys)


@pytest.mark.tensorflow
def test_a_file_of_a_recipe_is_rebuilt_from_its_last_stage(
    made: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a file that a recipe made, whose plan names a graph pass
    (tmp_path / "cut.toml").write_text(RECIPE)
    source, goal = made.parent / "model.keras", tmp_path / "cut"
    edgekit.compress(source, tmp_path / "cut.toml", data=str(digits), output=goal, latency=False)
    described = json.loads((goal / "cut.json").read_text())
    assert described["plan"]["passes"] == ["drop_unused"]
    # When its last stage is there, then it is rebuilt without training;
    assert run(["rebuild", str(goal / "cut.json"), "-q"]) == 0
    # and when it is not, then it is said which file is missing, and what to do.
    capsys.readouterr()
    (goal / "1-prune.keras").rename(tmp_path / "moved.keras")
    assert run(["rebuild", str(goal / "cut.json"), "-q"]) == 3
    assert "--source 1-prune.keras" in complaint(capsys)
    words = ["rebuild", str(goal / "cut.json"), "--source", str(tmp_path / "moved.keras"), "-q"]
    assert run(words) == 0


def test_other_bytes_are_told_with_what_differs(
    light: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a manifest that asks for something else than what its file is
    def change(described: dict[str, Any]) -> None:
        described["plan"]["mode"] = "dynamic"
        described["versions"]["numpy"] = "1.0"

    manifest, again = light(change), tmp_path / "again.tflite"
    # When it is rebuilt, then the exit code is that of conversions,
    assert run(["rebuild", str(manifest), "-o", str(again), "-q"]) == 5
    said = complaint(capsys)
    # the difference is named, and so are versions,
    assert "numpy was 1.0" in said
    assert "operators differ" in said
    assert "pip install numpy==1.0" in said
    # and the new file can be looked at.
    assert again.stat().st_size > 1000
    assert again.read_bytes() != manifest.with_suffix(".tflite").read_bytes()


def test_other_versions_are_named_where_the_bytes_are_the_same(
    light: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = light(lambda described: described["versions"].update(numpy="1.0"))
    assert run(["rebuild", str(manifest), "-q"]) == 0
    said = capsys.readouterr()
    assert "numpy was 1.0" in said.err
    digest = hashlib.sha256(manifest.with_suffix(".tflite").read_bytes()).hexdigest()
    assert digest[:16] in said.out


def test_a_manifest_of_an_earlier_version_needs_source_and_data(
    light: Edit, light_files: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a manifest without the request
    manifest = light(lambda described: described.pop("build"))
    # When it is rebuilt, then each hint works when it is followed.
    words = ["rebuild", str(manifest), "-q"]
    assert run(words) == 3
    assert "--source" in complaint(capsys)
    words += ["--source", str(light_files / "graph.tflite")]
    assert run(words) == 4
    assert "--data" in complaint(capsys)
    assert run([*words, "--data", str(digits)]) == 0


def test_another_model_of_that_name_is_refused(
    light: Edit, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = golden / "quantize" / "speech_float32.tflite"
    assert run(["rebuild", str(light()), "--source", str(other), "-q"]) == 3
    assert "is another model" in complaint(capsys)


def test_a_function_of_a_manifest_is_not_called_unasked(
    light: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a manifest from elsewhere, whose data is a function
    manifest = light(lambda described: described["build"].update(data="antigravity:fly"))
    # When it is rebuilt, then nothing of it is imported.
    assert run(["rebuild", str(manifest), "-q"]) == 4
    assert "--data antigravity:fly" in complaint(capsys)


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"schema": 1}'])
def test_what_is_no_manifest_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert run(["rebuild", str(path), "-q"]) == 2
    assert "is not a manifest" in complaint(capsys)


def test_the_file_itself_leads_to_its_manifest(
    light: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = light()
    assert run(["rebuild", str(manifest.with_suffix(".tflite")), "-q"]) == 2
    assert f"Give {manifest}" in complaint(capsys)


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described.update(plan=5),
        lambda described: described.update(plan={}),
        lambda described: described["plan"].update(rules=5),
        lambda described: described["plan"].update(mode="int3"),
        lambda described: described["plan"].update(passes=[5]),
        lambda described: described["plan"].update(ranges="luck"),
        lambda described: described["plan"].update(percentile="x"),
        lambda described: described["plan"].update(input_type="int8"),
        lambda described: described["plan"].update(variant="../../elsewhere"),
        lambda described: described.update(source=[]),
        lambda described: described.update(build=7),
        lambda described: described["build"].update(seed="x"),
        lambda described: described["build"].update(calibration_samples=-1),
        lambda described: described["build"].update(column=5),
        lambda described: described["build"].update(preprocessing=5),
        lambda described: described["build"].update(task="x"),
        lambda described: described.update(data=5),
        lambda described: described["data"].update(splits=5),
        lambda described: described.update(versions=5),
    ],
)
def test_an_edited_manifest_is_refused_or_does_no_harm(
    light: Edit, change: Callable[[dict[str, Any]], object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rebuild", str(light(change)), "-q"]) in {0, 2, 3, 4}
    assert "Traceback" not in capsys.readouterr().err


def test_plans_without_passes_are_read(light: Edit) -> None:
    from edgekit.recipe import plan_from_json

    described = json.loads(light().read_text())
    without = {key: value for key, value in described["plan"].items() if key != "passes"}
    assert plan_from_json(without) == Plan(variant="float16", mode="float16")


OWN_MODULE = """
from pathlib import Path

import keras

Path("imported").touch()


class Scale(keras.layers.Layer):
    def call(self, x):
        return 3 * x


if __name__ == "__main__":
    import mine

    start = keras.Input((32,))
    keras.Model(start, keras.layers.Dense(64)(mine.Scale()(start))).save("scaled.keras")
"""


@pytest.mark.tensorflow
def test_modules_that_a_manifest_names_are_imported_only_where_they_are_trusted(
    tmp_path: Path,
    warm_tensorflow: WarmTensorFlow,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given a file of a model with a layer of the user's own
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN_MODULE)
    warm_tensorflow.script(OWN_MODULE, cwd=tmp_path)
    words = "quantize scaled.keras --custom mine --mode float16 -o made --no-bench -q"
    assert run(words.split()) == 0
    Path("imported").unlink()
    # When nobody gives the module, then it is not imported, and the hint says how to give it;
    capsys.readouterr()
    rebuild = ["rebuild", "made/float16.json", "-q"]
    assert run(rebuild) == 3
    assert "If you trust them: --custom mine" in complaint(capsys)
    assert not Path("imported").exists()
    # when it is given, or trusted, the file is made again.
    assert run([*rebuild, "--custom", "mine"]) == 0
    Path("imported").unlink()
    assert run([*rebuild, "--trust-code"]) == 0
    assert Path("imported").exists()


def test_modules_of_another_type_are_an_invalid_entry(
    light: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = light(lambda described: described["build"].update(custom="mine"))
    assert run(["rebuild", str(manifest), "-q"]) == 2
    assert "'build.custom'" in complaint(capsys)
