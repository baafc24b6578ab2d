"""Weights of four bits with activations of eight (W4A8), over five draws of 200 samples.

Every layer gets a rule for `int4` in an `int8` file (depthwise layers keep eight bits). *as they
are* takes the codes of least error of each weight by itself, with ranges chosen as by default;
*rounded* adds the pass `round_weights`, which `edgekit quantize` takes by itself for such layers
(`--no-recover` does not). The figures are points of accuracy lost against float on the test split
of Fashion-MNIST, all 10,000 samples: the mean of the draws, and the worst of them. *SQNR* is the
mean over the draws on 500 training samples that no range was taken from, in dB; *s* the longest
time the pass took, with one file written. `fashion-mnist` is the published model; the others are
trained here on 12,000 samples, the same every time: a MobileNet-style one (inverted residuals,
ReLU6), one with swish and squeeze-and-excitation, and ResNet-8 of MLPerf Tiny.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

PUBLISHED = Path(__file__).parents[1] / "quantized" / "fashion-mnist" / "float32.tflite"
DATA = "fashion-mnist"
DRAWS = 5
SAMPLES = 200
JUDGING = 500
NETWORKS = {
    "mobilenet": ("MobileNet-style", 5),
    "swish": ("swish, squeeze-excite", 5),
    "resnet8": ("ResNet-8", 2),
}
"""Name -> title, and epochs of training."""
TRAIN = """
import sys
import keras
import numpy as np
from keras import layers as L
from edgekit.data import open_data
from edgekit.training.zoo.vision import resnet8

keras.utils.set_random_seed(1)
batch = open_data("fashion-mnist").train.read(np.arange(12000))
(x,), y = batch.inputs.values(), batch.targets
x = x.astype("float32").reshape(-1, 28, 28, 1)


def normalized(h, activation, layer, name):
    h = L.BatchNormalization(name=f"{name}_norm")(layer(h))
    return L.Activation(activation, name=f"{name}_act")(h) if activation else h


def inverted(h, channels, strides, activation, name, excite=False):
    given, expanded = h, 4 * h.shape[-1]
    h = normalized(h, activation, L.Conv2D(expanded, 1, use_bias=False), f"{name}_expand")
    each = L.DepthwiseConv2D(3, strides, padding="same", use_bias=False)
    h = normalized(h, activation, each, f"{name}_depthwise")
    if excite:
        gate = L.GlobalAveragePooling2D(keepdims=True)(h)
        gate = L.Conv2D(expanded // 4, 1, activation="swish", name=f"{name}_squeeze")(gate)
        gate = L.Conv2D(expanded, 1, activation="sigmoid", name=f"{name}_excite")(gate)
        h = L.Multiply()([h, gate])
    h = normalized(h, None, L.Conv2D(channels, 1, use_bias=False), f"{name}_project")
    return L.Add()([given, h]) if strides == 1 and given.shape[-1] == channels else h


def small(activation, excite):
    image = keras.Input((28, 28, 1))
    stem = L.Conv2D(16, 3, 2, padding="same", use_bias=False)
    h = normalized(image, activation, stem, "stem")
    for number, (channels, strides) in enumerate(((16, 1), (24, 2), (24, 1), (40, 2), (40, 1))):
        h = inverted(h, channels, strides, activation, f"block{number}", excite)
    h = normalized(h, activation, L.Conv2D(96, 1, use_bias=False), "head")
    h = L.Dense(10, activation="softmax", name="class")(L.GlobalAveragePooling2D()(h))
    return keras.Model(image, h)


made = {
    "mobilenet": lambda: small("relu6", False),
    "swish": lambda: small("swish", True),
    "resnet8": lambda: resnet8((28, 28, 1), 10, "classification"),
}[sys.argv[1]]()
made.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
made.fit(x, y, epochs=int(sys.argv[3]), batch_size=64, verbose=0)
made.save(sys.argv[2])
"""


def measure() -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        graphs = {"fashion-mnist": PUBLISHED}
        graphs |= {title: _trained(name, folder) for name, (title, _) in NETWORKS.items()}
        return [row for title, graph in graphs.items() for row in _rows(title, graph, folder)]


def _trained(name: str, folder: Path) -> Path:
    """Train a network, with one thread so that it is the same every time."""
    keras_file, graph = folder / f"{name}.keras", folder / f"{name}.tflite"
    subprocess.run(
        [sys.executable, "-c", TRAIN, name, str(keras_file), str(NETWORKS[name][1])],
        check=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"},
    )
    from edgekit import import_model

    import_model(keras_file, output=graph)
    return graph


def _rows(title: str, path: Path, folder: Path) -> list[dict[str, str]]:
    from edgekit.data import beyond_calibration, bind, open_data
    from edgekit.evaluation.trial_runs import Judge, TrialRuns
    from edgekit.quantization import Calibration, make, read_float_graph
    from edgekit.recipe import default_plan
    from edgekit.records import Rule
    from edgekit.tflite import signature

    graph = read_float_graph(path)
    ends = signature(graph.model)
    plan = replace(default_plan("int8"), rules=(Rule(layers=".", mode="int4"),))
    passes = {"as they are": (), "rounded": ("round_weights",)}
    lost: dict[str, list[float]] = {how: [] for how in passes}
    ratios: dict[str, list[float]] = {how: [] for how in passes}
    seconds: dict[str, list[float]] = {how: [] for how in passes}
    reference = 0.0
    for seed in range(DRAWS):
        dataset = bind(open_data(DATA, calibration_samples=SAMPLES, seed=seed), *ends)
        assert dataset.calibrate is not None
        assert dataset.train is not None
        others = beyond_calibration(dataset)
        held = dataset.train.at(others[:: len(others) // JUDGING][:JUDGING])
        beside = TrialRuns(graph.data, held, Judge(dataset=dataset))
        reference = reference or _score(path, dataset)
        calibration = Calibration(dataset.calibrate)
        for how, names in passes.items():
            begun = time.perf_counter()
            made = make(
                replace(plan, passes=names),
                graph,
                observe=calibration.observe,
                calibration=calibration,
            )
            seconds[how].append(time.perf_counter() - begun)
            file = folder / "w4a8.tflite"
            file.write_bytes(made.data)
            lost[how].append(reference - _score(file, dataset))
            (run,) = beside.run([lambda made=made: made.data])
            ratios[how].append(run.sqnr_db)
    return [
        {
            "model": title,
            "float": f"{reference:.2f}",
            "four bits": how,
            "mean": f"{np.mean(lost[how]):+.2f}",
            "worst": f"{max(lost[how]):+.2f}",
            "SQNR": f"{np.mean(ratios[how]):.1f}",
            "s": f"{max(seconds[how]):.1f}" if passes[how] else "",
        }
        for how in passes
    ]


def _score(file: Path, dataset: object) -> float:
    from edgekit import evaluate

    return 100 * float(evaluate([file], dataset).rows[0].score.value)


if __name__ == "__main__":
    for line in measure():
        print(line)
