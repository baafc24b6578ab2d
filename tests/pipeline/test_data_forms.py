"""Data as people have it, through the command line and through Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_tensorflow import WarmTensorFlow

import edgekit
from edgekit.cli import run
from edgekit.recipe import Prune, Training

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MODEL = """
import keras
import numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.layers[0].set_weights([5 * np.eye(4, 3), np.zeros(3)])
model.save("model.keras")
"""
SCRIPT = """
import numpy as np
X = np.load("x.npy")

def data():
    return {"x_val": X, "y_val": X[:, :3].argmax(axis=1)}

def raises():
    return X[:, 9]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm_tensorflow: WarmTensorFlow) -> Path:
    """A folder with a Keras model and its files, made of arrays in memory and of a file."""
    folder = tmp_path_factory.mktemp("made")
    warm_tensorflow.script(MODEL, cwd=folder)
    edgekit.quantize(
        folder / "model.keras",
        data=(X, Y),
        split=0.25,
        modes=["int8"],
        output=folder / "live",
        latency=False,
    )
    np.savez(folder / "data.npz", x_train=X, y_train=Y)
    words = ["--split", "0.25", "--mode", "int8", "--no-bench", "-q", "-o", str(folder / "drawn")]
    data = ["--data", str(folder / "data.npz")]
    assert run(["quantize", str(folder / "model.keras"), *data, *words]) == 0
    return folder


@pytest.fixture
def evaluated(made, tmp_path, monkeypatch, capsys):
    """Runs `eval` on float32 and int8 in a folder of its own; returns the report's JSON."""
    monkeypatch.chdir(tmp_path)

    def evaluate(data: str, *words: str, code: int = 0):
        files = [str(made / "drawn" / f"{kind}.tflite") for kind in ("float32", "int8")]
        assert run(["eval", *files, "--data", data, *words, "--json", "-q"]) == code
        said = capsys.readouterr()
        return said.err if code else json.loads(said.out)

    return evaluate


@pytest.mark.tensorflow
def test_arrays_in_memory_give_the_bytes_of_a_file_of_them(made):
    live, drawn = (
        json.loads((made / name / "int8.json").read_text()) for name in ("live", "drawn")
    )

    assert live["sha256"] == drawn["sha256"]
    assert live["data"]["splits"]["test"]["n"] == drawn["data"]["splits"]["test"]["n"] == 50
    assert (drawn["build"]["split"], live["build"]["data"]) == (0.25, None)
    report = json.loads((made / "drawn" / "report.json").read_text())
    assert any("50 of 200 samples were drawn for testing" in w for w in report["warnings"])


@pytest.mark.tensorflow
def test_a_drawn_split_is_drawn_again_by_rebuild(made, capsys):
    assert run(["rebuild", str(made / "drawn" / "int8.json"), "-q"]) == 0
    # What was in memory is given again.
    assert edgekit.rebuild(made / "live" / "int8.json", data=(X, Y))
    # Another share leaves other samples to calibrate on.
    manifest = json.loads((made / "drawn" / "int8.json").read_text())
    manifest["build"]["split"] = 0.5
    (made / "drawn" / "other.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert run(["rebuild", str(made / "drawn" / "other.json"), "-q"]) == 4
    assert "calibration samples are others" in capsys.readouterr().err


@pytest.mark.tensorflow
def test_a_pass_trains_on_a_stream(made, tmp_path):
    batches = ((X[i : i + 50], Y[i : i + 50]) for i in range(0, 200, 50))

    edgekit.prune(
        made / "model.keras",
        Prune(sparsity=0.5, training=Training(epochs=1)),
        data=batches,
        output=tmp_path / "pruned.keras",
    )

    assert (tmp_path / "pruned.keras").exists()


@pytest.mark.tensorflow
def test_a_function_of_a_file_and_a_validation_split(evaluated, tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "readings.py").write_text(SCRIPT)

    report = evaluated("readings.py:data")

    assert report["rows"][0]["score"]["n"] == 200
    assert any("x_val serves as one" in warning for warning in report["warnings"])
    said = evaluated("readings.py:raises", code=4)
    assert "readings.py, line 9: return X[:, 9]" in said


@pytest.mark.tensorflow
def test_one_array_without_labels_is_compared(evaluated, tmp_path):
    np.save(tmp_path / "x.npy", X)

    report = evaluated("x.npy")

    assert [row["score"] for row in report["rows"]] == [None, None]
    assert report["rows"][1]["fidelity"]


@pytest.mark.tensorflow
def test_where_there_is_no_test_split_the_hint_works(evaluated, made, tmp_path):
    shutil.copy(made / "data.npz", tmp_path)

    said = evaluated("data.npz", code=4)
    assert said.rstrip().endswith("--split 0.2")

    report = evaluated("data.npz", "--split", "0.2")
    assert report["rows"][0]["score"]["n"] == 40


def test_a_flat_folder_of_pictures_is_compared(repository, tmp_path, capsys):
    random = np.random.default_rng(0)
    for i in range(12):
        pixels = random.integers(0, 256, (30, 40), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    folder = repository / "quantized" / "fashion-mnist"
    files = [str(folder / f"{kind}.tflite") for kind in ("float32", "int8")]

    assert run(["eval", *files, "--data", str(tmp_path), "--json", "-q"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["rows"][1]["fidelity"][0]["sqnr_db"] > 10
    assert report["data"]["task"].startswith("none")
