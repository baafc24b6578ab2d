"""int8 by the draw of its 200 calibration samples: extremes, and ranges that edgekit chooses.

Each model is quantized with 20 draws by `--ranges minmax` and by `--ranges auto`, the default, and
scored on its test split (the first 1,000 samples; an RMSE as the share of float's RMSE in it, in
percent). *worst* and *best* are of the 20 draws; the default should end within a point. *SQNR
found* is the least ratio on the samples held back. The published models are those of `quantized/`.
*BN after ReLU* is trained here on scikit-learn's digits, in the order convolution, ReLU,
normalization; then one channel of the first normalization is made 40 times wider and what reads it
as many times smaller, which changes nothing in float.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

QUANTIZED = Path(__file__).parents[1] / "quantized"
DRAWS = 20
SAMPLES = 200
TEST = 1000
MAKE_OUTLIER = """
import sys
import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

keras.utils.set_random_seed(2)
digits = load_digits()
x, y = (digits.images / 16).astype("float32")[..., None], digits.target.astype("int64")
order = np.random.default_rng(0).permutation(len(x))
x, y = x[order], y[order]
hidden = inputs = keras.Input((8, 8, 1), name="x")
for number, filters in enumerate((16, 32)):
    hidden = layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
    hidden = layers.BatchNormalization(name=f"norm{number}")(hidden)
hidden = layers.Dense(64, activation="relu")(layers.GlobalAveragePooling2D()(hidden))
model = keras.Model(inputs, layers.Dense(10, activation="softmax")(hidden))
model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
model.fit(x[:1297], y[:1297], epochs=25, verbose=0)
first = model.get_layer("norm0")
gamma, beta, mean, variance = first.get_weights()
gamma[3] *= 40
beta[3] *= 40
first.set_weights([gamma, beta, mean, variance])
reader = model.layers[3]
weights, bias = reader.get_weights()
weights[:, :, 3] /= 40
reader.set_weights([weights, bias])
model.save(sys.argv[1])
np.savez(sys.argv[2], x_train=x[:1297], y_train=y[:1297], x_test=x[1297:], y_test=y[1297:])
"""


def measure() -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = [
            (name, QUANTIZED / name / "float32.tflite", name)
            for name in ("fashion-mnist", "spoken-digits", "turbofan")
        ]
        outlier, data = folder / "outlier.keras", folder / "digits.npz"
        subprocess.run(
            [sys.executable, "-c", MAKE_OUTLIER, str(outlier), str(data)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        from edgekit import import_model

        graph = folder / "outlier.tflite"
        import_model(outlier, output=graph)
        models.append(("BN after ReLU", graph, str(data)))
        return [row for name, path, source in models for row in _rows(name, path, source, folder)]


def _rows(name: str, path: Path, source: str, folder: Path) -> list[dict[str, str]]:
    from edgekit.data import bind, open_data
    from edgekit.quantization import Calibration, make, read_float_graph
    from edgekit.recipe import default_plan
    from edgekit.tflite import signature

    graph = read_float_graph(path)
    ends = signature(graph.model)
    score = _scores(bind(open_data(source), *ends))
    reference = score(path)
    methods = ("minmax", "auto")
    scores: dict[str, list[float]] = {method: [] for method in methods}
    ratios: list[float] = []
    chosen: dict[str, int] = {}
    for seed in range(DRAWS):
        dataset = bind(open_data(source, calibration_samples=SAMPLES, seed=seed), *ends)
        calibration = Calibration(dataset.calibrate)
        for method in methods:
            plan = default_plan("int8", ranges=method)
            made = make(plan, graph, observe=calibration.observe, calibration=calibration)
            file = folder / "int8.tflite"
            file.write_bytes(made.data)
            scores[method].append(score(file))
            if made.choice is not None:
                words = [*made.choice.passes, made.choice.ranges.method]
                chosen[" + ".join(words)] = chosen.get(" + ".join(words), 0) + 1
                best = [
                    trial.score
                    for trial in made.choice.trials
                    if (trial.passes, trial.ranges)
                    == (made.choice.passes, made.choice.ranges.method)
                ]
                ratios += best
    listed = ", ".join(f"{count} {words}" for words, count in sorted(chosen.items()))
    return [
        {
            "model": name,
            "float": f"{reference:.2f}",
            "ranges": method,
            "mean": f"{np.mean(scores[method]):.2f}",
            "worst": f"{min(scores[method]):.2f}",
            "best": f"{max(scores[method]):.2f}",
            "SQNR found, dB": f"{min(ratios):.1f}" if method == "auto" else "",
            "chosen": listed if method == "auto" else "",
        }
        for method in methods
    ]


def _scores(dataset: object) -> Callable[[Path], float]:
    """Return what scores a file, in percent: an RMSE as its inverse."""
    from edgekit import evaluate

    some = replace(dataset.test, n=min(TEST, dataset.test.n))
    known: dict[str, float] = {}

    def score(path: Path) -> float:
        found = evaluate([path], replace(dataset, test=some)).rows[0].score
        if found.metric != "rmse":
            return 100 * found.value
        known.setdefault("float", found.value)
        return 100 * known["float"] / found.value

    return score


if __name__ == "__main__":
    for line in measure():
        print(line)
