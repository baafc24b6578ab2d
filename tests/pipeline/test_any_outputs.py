"""Outputs of every kind go through the whole job: booleans, integers, copies, inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgekit_runner as runner
from edgekit.cli import run
from edgekit.tflite import read, signature

pytestmark = pytest.mark.tensorflow

# Keras, in a process of its own: scores, scores again, which are above 0, whole ones, the input.
OUTPUTS = """
import sys
import keras
import numpy as np
x = keras.Input((16,), name="x")
hidden = keras.layers.Dense(64, activation="relu", name="hidden")(x)
more = keras.layers.Dense(64, activation="relu", name="more")(hidden)
y = keras.layers.Dense(10, name="y")(more)
model = keras.Model(x, [y, y > 0, y, x, keras.ops.cast(keras.ops.relu(y) * 10, "uint8"), x])
generator = np.random.default_rng(0)
model.set_weights([generator.normal(0, 0.3, each.shape) for each in model.get_weights()])
model.save(sys.argv[1])
samples = generator.normal(size=(96, 16)).astype("float32")
classes = model.predict(samples, verbose=0)[0].argmax(axis=1)
np.savez(
    sys.argv[2],
    x_train=samples[:48], y_train=classes[:48], x_test=samples[48:], y_test=classes[48:],
)
"""
NAMES = ["y", "greater", "y_1", "x", "cast", "x_1"]
MODES = ["float32", "float16", "dynamic", "int8", "int16x8", "int4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, warm_tensorflow):
    """A model with such outputs, quantized to every mode."""
    folder = tmp_path_factory.mktemp("outputs")
    warm_tensorflow.script(OUTPUTS, folder / "model.keras", folder / "data.npz")
    words = ["quantize", str(folder / "model.keras"), "--data", str(folder / "data.npz"), "-q"]
    assert run([*words, "--all", "-o", str(folder / "out")]) == 0
    return folder


def test_every_mode_is_made_and_scored(made):
    report = json.loads((made / "out" / "report.json").read_text())

    rows = {row["variant"]: row for row in report["rows"]}
    assert list(rows) == ["source", *MODES]
    assert all(row["failure"] is None for row in rows.values())
    assert rows["float32"]["score"]["value"] == 1.0
    assert rows["int8"]["score"]["value"] > 0.8
    assert [one["output"] for one in rows["int8"]["fidelity"]] == NAMES
    assert (made / "out" / "report.html").stat().st_size > 0


@pytest.mark.parametrize("mode", MODES)
def test_each_output_has_a_name_and_a_tensor_of_its_own(mode, made):
    model = read(made / "out" / f"{mode}.tflite")

    inputs, outputs = signature(model)
    assert [spec.name for spec in outputs] == NAMES
    whole = [spec.dtype for spec in outputs if spec.name in ("greater", "cast")]
    assert whole == ["bool", "uint8"]
    graph = model.subgraphs[0]
    indices = [*graph.inputs.tolist(), *graph.outputs.tolist()]
    assert len(set(indices)) == len(inputs) + len(outputs)


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_the_runner_computes_them(mode, made, capsys):
    data = np.load(made / "data.npz")
    np.save(made / "sample.npy", data["x_test"][0])

    code = runner.main(["run", str(made / "out" / f"{mode}.tflite"), str(made / "sample.npy")])

    said = capsys.readouterr()
    assert code == 0, said.err
    json.loads(said.out.splitlines()[-1])
