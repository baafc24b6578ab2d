"""Photos from the folder to the device: whichever way the pixels come, the answers are Keras's."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import edgekit

pytestmark = pytest.mark.tensorflow
COLOURS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}
SIDE = 12


def pixels_of(n, seed):
    random = np.random.default_rng(seed)
    classes = np.arange(n) % 3
    means = np.array(list(COLOURS.values()))[classes][:, None, None]
    return (means + random.normal(0, 25, (n, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8), classes


def model_of(*first):
    """A model with weights set by hand: the brightest colour, in pixels of 0..1 and no others."""
    import keras

    pixels = keras.Input((SIDE, SIDE, 3))
    values = pixels
    for layer in first:
        values = layer(values)
    mean = keras.layers.GlobalAveragePooling2D()(values)
    hidden = keras.layers.Dense(4, activation="relu")
    classes = keras.layers.Dense(4, activation="softmax")
    model = keras.Model(pixels, classes(hidden(mean)))
    # Blue, green, red; the fourth class is for what is too dark or too bright to be of 0..1.
    units = np.zeros((3, 4), np.float32)
    units[[2, 1, 0], [0, 1, 2]] = 1
    units[:, 3] = 1
    hidden.set_weights([units, np.array([0, 0, 0, -2], np.float32)])
    classes.set_weights([np.diag([20.0, 20, 20, 100]), np.array([0.0, 0, 0, 13])])
    return model


@pytest.fixture
def photos(tmp_path):
    names = list(COLOURS)
    for split, n in (("train", 66), ("test", 30)):
        for i, (pixels, number) in enumerate(zip(*pixels_of(n, n), strict=True)):
            folder = tmp_path / "photos" / split / names[number]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (tmp_path / "photos" / "labels.txt").write_text("\n".join([*names, "other"]))
    return tmp_path / "photos"


def right_on_device(repository, model, photos):
    """Run the runner on all test photos; return the number of right answers."""
    runner = repository / "device_scripts" / "edgekit_runner.py"
    folders = sorted((photos / "test").iterdir())
    command = [sys.executable, "-I", runner, "run", model, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return sum(answer["top"][0]["label"] in answer["source"] for answer in answers)


def test_a_model_that_rescales_by_itself_on_a_folder(photos, tmp_path, repository):
    # Given the way of the Keras tutorial, and no word on size or scaling
    import keras

    model = model_of(keras.layers.Rescaling(1 / 255))
    # When it is quantized
    report = edgekit.quantize(
        model, data=str(photos), modes=["int8"], output=tmp_path / "out", latency=False
    )
    # Then all files score as Keras does, the report says why, and so does the device.
    assert [row.score.value for row in report.rows if row.score] == [1.0] * len(report.rows)
    assert report.data["preprocessing"].startswith("0..255 (pixels as they are): the model scales")
    assert not any("scale =" in warning for warning in report.warnings)
    for name in ("float32", "int8"):
        assert right_on_device(repository, tmp_path / "out" / f"{name}.tflite", photos) == 30


@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_arrays_in_training_and_photos_on_the_device(photos, tmp_path, repository, kind):
    # Given arrays of x / 255, as in every tutorial, or of bytes, for a model that takes 0..1
    (train, y_train), (test, y_test) = pixels_of(66, 66), pixels_of(30, 30)
    arrays = {"x_train": train, "y_train": y_train, "x_test": test, "y_test": y_test}
    if kind == "floats":
        arrays |= {name: (arrays[name] / 255).astype("f4") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "data.npz", **arrays, labels=np.array([*COLOURS, "other"]))
    # When it is quantized
    out = tmp_path / "out"
    report = edgekit.quantize(
        model_of(), data=str(tmp_path / "data.npz"), modes=["int8"], output=out, latency=False
    )
    # Then the manifest says what a photo is to it, and the device answers right,
    assert report.rows[0].score.value == 1
    described = json.loads((out / "int8.json").read_text())
    scaled = described["picture"]
    assert (scaled["kind"], scaled["height"], scaled["scale"]) == ("image", SIDE, 1 / 255)
    assert described["preprocessing_reason"].startswith("0..1 (pixel / 255): ")
    assert right_on_device(repository, out / "int8.tflite", photos) == 30
    # the file alone, too, by its metadata;
    alone = tmp_path / "alone.tflite"
    alone.write_bytes((out / "int8.tflite").read_bytes())
    assert right_on_device(repository, alone, photos) == 30
    # the same folder of photos is scored by what the manifest says,
    (row,) = edgekit.evaluate([out / "int8.tflite"], data=str(photos)).rows
    assert row.score.value == 1
    # and a manifest that does not say it makes the runner ask, with a hint that works.
    described["picture"] = None
    described["preprocessing"] = {"kind": "none"}
    (out / "int8.json").write_text(json.dumps(described))
    runner = repository / "device_scripts" / "edgekit_runner.py"
    command = [sys.executable, "-I", runner, "run", out / "int8.tflite", photos / "test" / "red"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 3
    hint = done.stderr.splitlines()[-1]
    entry = hint[hint.index('"picture"') : hint.index("} there for null") + 1]
    described |= json.loads("{" + entry.replace("S}", "0.00392156863}") + "}")
    (out / "int8.json").write_text(json.dumps(described))
    assert right_on_device(repository, out / "int8.tflite", photos) == 30
