"""Training for real, on the handwritten digits, in one process that imports TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.tensorflow

ZOO = """
import json, sys
import keras
from edgekit.errors import EdgekitError
from edgekit.training import build
from edgekit.training.zoo.applications import APPLICATIONS

SHAPES = {
    "resnet8": ((32, 32, 3), 10, "classification"),
    "ds_cnn": ((49, 10, 1), 12, "classification"),
    "mobilenet_v1:0.25": ((96, 96, 3), 2, "classification"),
    "mobilenet_v1_025": ((96, 96, 3), 2, "classification"),
    "mobilenet_v2:0.35": ((96, 96, 3), 2, "classification"),
    "mobilenet_v2": ((224, 224, 3), 1000, "classification"),
    "autoencoder": ((640,), 0, "reconstruction"),
    "cnn1d": ((30, 14), 1, "regression"),
    "cnn": ((28, 28, 1), 10, "classification"),
    "MobileNetV3Small": ((32, 32, 3), 4, "classification"),
}
found = {}
for name, (shape, outputs, task) in SHAPES.items():
    model = build(name, shape, outputs, task=task)
    path = sys.argv[1] + "/model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    normalizations = [l for l in model.layers if isinstance(l, keras.layers.BatchNormalization)]
    found[name] = {
        "parameters": model.count_params(),
        "same": loaded.get_config() == model.get_config(),
        "output": list(model.output_shape),
        "last": model.layers[-1].get_config().get("activation"),
        "momentum": sorted({l.momentum for l in normalizations}),
    }

refused = {}
for label, arguments in {
    "option": ("cnn", (8, 8, 1), 10, {"width": [[4]]}),
    "axes": ("cnn", (30, 14), 10, {}),
    "small": ("mobilenet_v2", (8, 8, 3), 10, {}),
    "task": ("cnn", (8, 8, 1), 10, {"task": "reconstruction"}),
    "value": ("ds_cnn", (49, 10, 1), 10, {"blocks": [8], "strides": [1, 1]}),
    "pooled away": ("cnn", (2, 2, 1), 10, {}),
}.items():
    name, shape, outputs, options = arguments
    try:
        build(name, shape, outputs, **options)
    except EdgekitError as error:
        refused[label] = [type(error).__name__, str(error)]
listed = [n for n in dir(keras.applications) if n[0].isupper()]
print(json.dumps({"found": found, "refused": refused, "applications": listed == sorted(APPLICATIONS)}))
"""


def run(code: str, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**__import__("os").environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> dict:
    return run(ZOO, str(tmp_path_factory.mktemp("zoo")))
