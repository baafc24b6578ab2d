"""Losses that an average over all samples, or over all outputs, does not show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.cli import run

# Keras, in a process of its own. The wide layers are those whose ranges one scale has to hold.
FAULT = """
import sys
import keras
import numpy as np
layers = keras.layers
eye = np.eye(128, dtype="float32")
decide = np.zeros((128, 1), "float32")
decide[1] = 40
model = keras.Sequential([
    keras.Input((8,)),
    layers.Dense(128, use_bias=False),
    layers.Dense(128, use_bias=False),
    layers.Dense(1, activation="sigmoid"),
])
model.layers[0].set_weights([eye[:8]])
model.layers[1].set_weights([eye])
model.layers[2].set_weights([decide, np.array([-30.0], "float32")])
model.save(sys.argv[1])
"""
COLUMNS = """
import sys
import keras
import numpy as np
layers = keras.layers
turned = np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0].astype("float32")
weights = np.zeros((128, 3), "float32")
weights[0, 0], weights[2, 1], weights[3, 2] = 1, 300, 0.01
model = keras.Sequential([
    keras.Input((8,)),
    layers.Dense(128, use_bias=False),
    layers.Dense(128, use_bias=False),
    layers.Dense(3, name="y"),
])
model.layers[0].set_weights([turned[:8]])
model.layers[1].set_weights([turned.T.copy()])
model.layers[2].set_weights([weights, np.array([0, 1000, 0], "float32")])
model.save(sys.argv[1])
"""


@pytest.fixture
def quantized(tmp_path, capsys, warm_tensorflow):
    """Quantize what a script saves to int8, and return the report."""

    def quantize(script, **arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        model = str(tmp_path / "model.keras")
        warm_tensorflow.script(script, model)
        words = ["quantize", model, "--data", str(tmp_path / "data.npz"), "--mode", "int8"]
        words += ["--no-bench", "--quiet", "--json", "-o", str(tmp_path / "out")]
        assert run(words) == 0
        return json.loads(capsys.readouterr().out)

    return quantize


def of(report, variant):
    (row,) = (row for row in report["rows"] if row["variant"] == variant)
    return row


def test_a_detector_of_rare_faults_that_never_fires_again_is_lost(quantized):
    # Given a detector that decides by one feature, from 0 to 1 beside others from 0 to 1000
    generator = np.random.default_rng(0)

    def samples(n, faults):
        fault = np.arange(n) < faults
        inputs = generator.uniform(0, 1000, (n, 8))
        inputs[:, 1] = np.where(fault, generator.uniform(0.8, 1, n), generator.uniform(0, 0.7, n))
        return inputs.astype(np.float32), fault.astype(np.int64)

    (x_train, y_train), (x_test, y_test) = samples(1000, 4), samples(5000, 20)
    # When it is quantized
    report = quantized(FAULT, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    # Then int8, which finds no fault and has 99.6 % accuracy, is lost and not recommended
    row = of(report, "int8")
    assert row["score"]["metric"] == "balanced_accuracy"
    assert report["asked"]["accepted loss"].endswith("because '1' is 0.4 % of the samples")
    assert row["score"]["per_class"][1]["recall"] == 0
    assert row["score"]["extras"]["accuracy"] == pytest.approx(0.996)
    assert row["score"]["confusion"] == [[4980, 0], [20, 0]]
    assert of(report, "float32")["score"]["confusion"] == [[4980, 0], [0, 20]]
    assert row["verdict"] == "lost"
    assert not row["recommended"]


def test_outputs_that_become_constant_beside_a_large_one_are_lost(quantized):
    # Given three quantities, one of them about 1000
    generator = np.random.default_rng(0)

    def samples(n):
        inputs = generator.uniform(-1, 1, (n, 8)).astype(np.float32)
        large = 1000 + 300 * inputs[:, 2] + 60 * generator.normal(size=n)
        targets = np.stack([inputs[:, 0], large, 0.01 * inputs[:, 3]], axis=1)
        return inputs, targets.astype(np.float32)

    (x_train, y_train), (x_test, y_test) = samples(600), samples(600)
    # When
    report = quantized(COLUMNS, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    # Then the two small ones are lost, and so is the file, whatever the error of all together is
    row = of(report, "int8")
    columns = {one["label"]: one for one in row["drop_per_column"]}
    assert [columns[i]["verdict"] for i in ("0", "2")] == ["lost", "lost"]
    spread = y_test.std(axis=0)
    scores = [one["value"] for one in row["score"]["per_column"]]
    assert scores[0] > 0.5 * spread[0]
    assert scores[2] > 0.5 * spread[2]
    assert row["drop"] < 0.05 * of(report, "float32")["score"]["value"]
    assert row["verdict"] == "lost"
    assert not row["recommended"]
