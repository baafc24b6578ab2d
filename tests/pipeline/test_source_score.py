"""The source is scored on the same samples, and nothing is recommended where it guesses."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from edgekit.cli import run

pytestmark = pytest.mark.tensorflow

# Keras, in a process of its own: the class is the largest of four inputs.
LARGEST = """
import sys
import keras
import numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="softmax")])
model.layers[0].set_weights([9 * np.eye(4, dtype="float32"), np.zeros(4, "float32")])
model.save(sys.argv[1])
"""
NAMES = np.array(["cat", "dog", "bird", "ant"])


@pytest.fixture
def files(tmp_path, warm_tensorflow):
    """A model, and data with texts for labels, whose order is not the alphabet's."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 60), ("test", 200)):
        classes = generator.integers(0, 4, n)
        arrays[f"x_{split}"] = (np.eye(4)[classes] + generator.normal(0, 0.1, (n, 4))).astype("f4")
        arrays[f"y_{split}"] = NAMES[classes]
    np.savez(tmp_path / "data.npz", **arrays)
    model = tmp_path / "model.keras"
    warm_tensorflow.script(LARGEST, model)
    return model, tmp_path / "data.npz"


def quantized(capsys, folder, model, data, *more):
    """Quantize to int8; return the report and what a terminal would show."""
    words = ["quantize", str(model), "--data", str(data), "--mode", "int8", "--no-bench", "-q"]
    capsys.readouterr()
    assert run([*words, *more, "-o", str(folder), "--force"]) == 0
    return json.loads((folder / "report.json").read_text()), capsys.readouterr().out


def test_labels_in_another_order_are_named_and_the_hint_mends_them(files, tmp_path, capsys):
    model, data = files
    # When the labels, numbered by the alphabet, are not the model's
    report, shown = quantized(capsys, tmp_path / "out", model, data)
    # Then the source stands first, nothing is recommended, and the order that fits is printed.
    source, *made = report["rows"]
    assert source["variant"] == "source"
    assert source["score"]["value"] < source["score"]["guess"]
    assert not any(row["recommended"] for row in made)
    assert "No file is recommended" in report["reason"]
    guessing, order = report["alerts"]
    assert "no better than guessing" in guessing
    assert "Another order of the labels fits" in order
    assert "--classes cat,dog,bird,ant" in " ".join(shown.split())
    assert "no better than guessing" in (tmp_path / "out" / "report.html").read_text()
    # When the hint is followed, as it is printed
    hint = shlex.split(order[order.index("--classes") :])[:2]
    report, _ = quantized(capsys, tmp_path / "out", model, data, *hint)
    # Then all is right, and a file is recommended.
    assert report["alerts"] == []
    assert [row["score"]["value"] for row in report["rows"]] == [1.0, 1.0, 1.0]
    assert sum(row["recommended"] for row in report["rows"]) == 1


def test_where_no_reason_is_found_it_says_what_to_check(files, tmp_path, capsys):
    # Given targets that have nothing to do with the samples
    model, data = files
    with np.load(data) as arrays:
        drawn = np.random.default_rng(1).integers(0, 4, 200)
        np.savez(tmp_path / "drawn.npz", **{**arrays, "y_test": NAMES[drawn]})
    # When they are scored
    report, shown = quantized(capsys, tmp_path / "out", model, tmp_path / "drawn.npz")
    # Then the user is told that nothing explains it, and where to look
    _, unexplained = report["alerts"]
    assert unexplained.startswith("No reason was found. Check ")
    assert unexplained in " ".join(shown.split())


def test_a_float_graph_that_guesses_is_not_recommended_either(files, tmp_path, capsys):
    model, data = files
    quantized(capsys, tmp_path / "out", model, data)
    graph = tmp_path / "out" / "float32.tflite"

    report, _ = quantized(capsys, tmp_path / "again", graph, data)

    assert [row["variant"] for row in report["rows"]] == ["float32", "int8"]
    assert "Another order of the labels fits" in report["alerts"][1]
    assert not any(row["recommended"] for row in report["rows"])
    assert run(["eval", str(graph), "--data", str(data), "-q"]) == 0
    assert "float32 is no better than guessing" in " ".join(capsys.readouterr().out.split())


def test_a_float_file_that_scores_differently_is_not_trusted(files, tmp_path, capsys, monkeypatch):
    # Given a source that scores worse than what was made of it, as a conversion may change it
    from edgekit.worker import Worker

    model, data = files
    predict = Worker.predict

    def noisy(self, inputs):
        outputs = predict(self, inputs)
        n = len(next(iter(inputs.values())))
        if n < 100:  # the samples on which the conversion is verified
            return outputs
        return {name: _spoilt(values) for name, values in outputs.items()}

    monkeypatch.setattr(Worker, "predict", noisy)
    # When files are made of it
    report, _ = quantized(capsys, tmp_path / "out", model, data, "--classes", ",".join(NAMES))
    # Then the difference is told, and nothing is recommended.
    (alert,) = report["alerts"]
    assert "float32 scores differently from its source" in alert
    assert not any(row["recommended"] for row in report["rows"])


def _spoilt(values):
    """Give every tenth sample another class."""
    changed = values.copy()
    changed[::10] = np.roll(changed[::10], 1, axis=1)
    return changed
