"""`edgekit sensitivity` of MobileNetV2 0.35/96 against ten stock conversions, and `--mode mixed`.

Time: every operator both ways on 200 calibration samples, with its score, from the Keras file, with
the start of TensorFlow; and ten times one int8 conversion by the stock converter with the same 200
samples, from the loaded model, before and after. Weights are seeded with matching normalization,
and the classes that the float model predicts stand for labels: trained weights are not available
offline.

Recovery: published models of which one channel was rescaled 2,000 times, up where it is computed
and down where it is read (the same function in float), so that int8 loses. The score is that of the
test split; the operators were chosen on 200 calibration samples.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
EDGEKIT = str(Path(sys.executable).with_name("edgekit"))
UNEVEN = ("fashion-mnist", "bccd")
MAKE = """
import sys
import keras
import numpy as np
keras.utils.set_random_seed(0)
model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=100)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.5
noise = np.random.default_rng(0).random((260, 6, 6, 3), dtype=np.float32)
x = noise.repeat(16, 1).repeat(16, 2) * 2 - 1
for start in range(0, 160, 16):
    model(x[start : start + 16], training=True)
y = model.predict(x, verbose=0).argmax(1)
np.savez(sys.argv[2], x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
model.save(sys.argv[1])
"""
CONVERT = """
import sys, time
import numpy as np
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1], compile=False)
samples = np.load(sys.argv[2])["x_train"]
begun = time.perf_counter()
made = tf.lite.TFLiteConverter.from_keras_model(model)
made.optimizations = [tf.lite.Optimize.DEFAULT]
made.representative_dataset = lambda: ([sample[None]] for sample in samples)
made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
made.convert()
print(time.perf_counter() - begun)
"""


def measure() -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return [_time(folder), *(_recovery(name, folder) for name in UNEVEN)]


def _time(folder: Path) -> dict[str, str]:
    model, data = str(folder / "mobilenet.keras"), str(folder / "data.npz")
    _python(MAKE, model, data)
    before = float(_python(CONVERT, model, data).splitlines()[-1])
    begun = time.perf_counter()
    command = [EDGEKIT, "sensitivity", model, "--data", data, "--json", "-q"]
    told = json.loads(_output(command))
    ours = time.perf_counter() - begun
    after = float(_python(CONVERT, model, data).splitlines()[-1])
    theirs = 5 * (before + after)
    operators = len(told["costs"]) + len(told["others"])
    return {
        "model": "MobileNetV2 0.35/96",
        "what": f"{operators} operators, both ways, {told['n']} samples, s",
        "edgekit": f"{ours:.0f}",
        "compared with": f"ten stock conversions: {theirs:.0f}",
        "ratio": f"{ours / theirs:.2f}",
    }


def _recovery(name: str, folder: Path) -> dict[str, str]:
    sys.path.append(str(HERE.parent / "tests" / "pipeline"))
    from uneven import rescaled

    graph, made = folder / name / "model.tflite", folder / f"{name}-made"
    graph.parent.mkdir()
    graph.write_bytes(rescaled(name))
    head = HERE.parent / "models" / name / f"{name}.head.toml"
    if head.exists():
        shutil.copy(head, graph.with_suffix(".head.toml"))
    modes = ["--mode", "int8", "--mode", "mixed", "--ranges", "minmax"]
    command = [EDGEKIT, "quantize", str(graph), "--data", name, *modes]
    _output([*command, "--no-bench", "-q", "-o", str(made)])
    report = json.loads((made / "report.json").read_text())
    drops = {row["variant"]: row["drop"] for row in report["rows"]}
    plan = json.loads((made / "mixed-minmax.json").read_text())["plan"]
    said = next(text for text in report["warnings"] if text.startswith("mixed-minmax: "))
    recovered = 1 - drops["mixed-minmax"] / drops["int8-minmax"]
    return {
        "model": f"{name}, one channel x 2,000",
        "what": "points lost on the test split",
        "edgekit": f"mixed: {100 * drops['mixed']:.2f} ({len(plan['rules'])} of "
        f"{said.split(' of ')[1].split()[0]} operators in float32)",
        "compared with": f"int8: {100 * drops['int8']:.2f}",
        "ratio": f"{100 * recovered:.0f} % recovered",
    }


def _python(code: str, *arguments: str) -> str:
    return _output([sys.executable, "-c", code, *arguments])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[:3]}: {done.stderr[-500:]}")
    return done.stdout.strip()
