"""Six variants by edgekit and by the stock converter: seconds, bytes, scores, memory.

The models are MobileNetV2 1.0/224 (seeded weights with matching normalization: trained ones are not
available offline, so it has no scores), a dense layer of 5000 x 5000 (seeded weights, 100 MB) and
the published Fashion-MNIST model. Both sides get the same 200 calibration samples, and are timed
from the loaded model to six files; a further int8 variant is one with float32 inputs and outputs.
Memory is the sum over all processes, in a run of its own: watching it takes time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmarks.memory import run_watched

HERE = Path(__file__).parent
VARIANTS = ("float32", "float16", "dynamic", "int8", "int8-float32io", "int16x8")
MAKE_MOBILENET = """
import sys
import keras
import numpy as np
keras.utils.set_random_seed(0)
model = keras.applications.MobileNetV2(weights=None)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.5
# Without normalization that fits, the activations of untrained weights vanish on the way, and
# neither side can quantize them.
samples = np.load(sys.argv[2])
for start in range(0, 160, 16):
    model(samples[start : start + 16], training=True)
model.save(sys.argv[1])
"""
MAKE_DENSE = """
import sys
import keras
import numpy as np
keras.utils.set_random_seed(0)
inputs = keras.Input((5000,), name="x")
hidden = keras.layers.Dense(5000, activation="relu")(inputs)
keras.Model(inputs, keras.layers.Dense(10)(hidden)).save(sys.argv[1])
np.save(sys.argv[2], np.random.default_rng(0).standard_normal((200, 5000), dtype=np.float32))
"""


def measure() -> list[dict[str, str]]:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mobilenet = folder / "mobilenet_v2.keras"
        inputs = folder / "mobilenet_v2.npy"
        noise = np.random.default_rng(0).random((200, 7, 7, 3), dtype=np.float32)
        # Blocks instead of pixels: white noise would make the ranges of deeper layers degenerate.
        np.save(inputs, noise.repeat(32, 1).repeat(32, 2) * 2 - 1)
        subprocess.run(
            [sys.executable, "-c", MAKE_MOBILENET, str(mobilenet), str(inputs)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        rows += _compare("MobileNetV2 1.0/224", mobilenet, inputs, folder)
        rows += dense(folder)

        fashion = HERE.parent / "models" / "fashion-mnist" / "fashion-mnist.keras"
        from edgekit.data import open_data

        dataset = open_data("fashion-mnist")
        calibration = dataset.calibrate.read(np.arange(200)).inputs["x"]
        np.save(folder / "fashion.npy", calibration)
        rows += _compare("Fashion-MNIST", fashion, folder / "fashion.npy", folder, dataset)
    return rows


def dense(folder: Path) -> list[dict[str, str]]:
    """A model of few operators and 100 MB, which shows the cost of copying."""
    model, inputs = folder / "dense.keras", folder / "dense.npy"
    subprocess.run(
        [sys.executable, "-c", MAKE_DENSE, str(model), str(inputs)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return _compare("dense, 100 MB", model, inputs, folder)


def _compare(
    name: str, model: Path, calibration: Path, folder: Path, dataset: object = None
) -> list[dict[str, str]]:
    seconds, peaks, folders = {}, {}, {}
    for side in ("stock", "edgekit"):
        folders[side] = folder / f"{model.stem}-{side}"
        _command(side, model, calibration, folders[side])
        seconds[side] = json.loads((folders[side] / "seconds.json").read_text())
    for side in folders:
        # Looking at the memory of a process holds it up, and edgekit has several.
        watched = folder / f"{model.stem}-{side}-watched"
        peaks[side] = _command(side, model, calibration, watched, run=run_watched)
    rows = [
        _row(name, "six files, s", seconds["edgekit"]["total"], seconds["stock"]["total"], ".2f"),
        _row(
            name,
            "a further int8 variant, s",
            *(seconds[side]["int8-float32io"] for side in ("edgekit", "stock")),
            ".2f",
        ),
        _row(name, "peak memory, MB", peaks["edgekit"] / 1e6, peaks["stock"] / 1e6, ".0f"),
    ]
    for variant in VARIANTS:
        sizes = {s: (folders[s] / f"{variant}.tflite").stat().st_size / 1000 for s in folders}
        rows.append(_row(name, f"{variant}, kB", sizes["edgekit"], sizes["stock"], ".1f"))
    if dataset is not None:
        for variant in VARIANTS:
            scores = {s: _accuracy(folders[s] / f"{variant}.tflite", dataset) for s in folders}
            rows.append(
                _row(name, f"{variant}, accuracy %", scores["edgekit"], scores["stock"], ".2f")
            )
    print({side: {k: round(v, 2) for k, v in seconds[side].items()} for side in seconds})
    return rows


def _command(
    side: str,
    model: Path,
    calibration: Path,
    folder: Path,
    run: Callable[..., object] = subprocess.check_call,
) -> object:
    """Make six files by one side; return what `run` does."""
    folder.mkdir()
    program = HERE / f"{side}_ladder.py"
    return run(
        [sys.executable, str(program), str(model), str(calibration), str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _accuracy(path: Path, dataset: object) -> float:
    from edgekit import evaluate

    return evaluate([path], dataset).rows[0].score.value * 100


def _row(model: str, what: str, edgekit: float, stock: float, style: str) -> dict[str, str]:
    return {
        "model": model,
        "what": what,
        "edgekit": format(edgekit, style),
        "stock": format(stock, style),
        "edgekit / stock": f"{edgekit / stock:.3f}",
    }


if __name__ == "__main__":
    for line in measure():
        print(line)
