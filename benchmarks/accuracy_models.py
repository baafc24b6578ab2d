"""Trained models whose accuracy int8 or int4 may cost: `python -m benchmarks.accuracy_models CASE`.

Each case writes `model.keras`, `data.npz` and `case.json` into a folder of `.cache/accuracy`, once.
Published models are taken as they are, with the samples that they were trained on; the others are
trained here on the same data, for a minute at most.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

REPOSITORY: Final = Path(__file__).resolve().parents[1]
CACHE: Final = REPOSITORY / ".cache" / "accuracy"
FASHION: Final = 20_000
"""Pictures that the networks of Fashion-MNIST are trained on."""
ENGINES: Final = 70
"""Engines that the autoencoder is trained on; the others are judged."""
CLIP: Final = 8
"""Windows of a clip."""

Arrays = dict[str, np.ndarray]
Case = dict[str, Any]


def published(name: str) -> Callable[[Path], Case]:
    """Return what takes a model of `models/`, with its data."""

    def make(folder: Path) -> Case:
        source = REPOSITORY / "models" / name / f"{name}.keras"
        shutil.copy(source, folder / "model.keras")
        head = source.with_suffix(".head.toml")
        if head.exists():
            shutil.copy(head, folder / "model.head.toml")
        np.savez_compressed(folder / "data.npz", **_arrays(name))
        return {}

    return make


def few_samples(folder: Path) -> Case:
    """Calibrate the published model of Fashion-MNIST on 8 samples."""
    return {**published("fashion-mnist")(folder), "calibration": 8}


def outliers(folder: Path) -> Case:
    """Calibrate on 200 recordings of which two were not scaled."""
    published("spoken-digits")(folder)
    arrays = dict(np.load(folder / "data.npz"))
    rows = np.random.default_rng(0).permutation(len(arrays["x_train"]))[:200]
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][rows], arrays["y_train"][rows]
    arrays["x_train"][[50, 150]] *= 255
    np.savez_compressed(folder / "data.npz", **arrays)
    return {}


def uneven(folder: Path) -> Case:
    """Rescale all channels of the published model log-normally: the same function in float."""
    import keras

    published("fashion-mnist")(folder)
    model = keras.models.load_model(folder / "model.keras")
    random = np.random.default_rng(0)
    weighted = [layer for layer in model.layers if layer.name.startswith(("conv", "output"))]
    norms = [layer for layer in weighted if layer.name.endswith("_bn")]
    readers = [layer for layer in weighted if not layer.name.endswith(("_bn", "_relu"))][1:]
    for norm, reader in zip(norms, readers, strict=True):
        gamma, beta, *moments = norm.get_weights()
        factors = random.lognormal(0, 1.5, len(gamma)).astype(np.float32)
        norm.set_weights([gamma * factors, beta * factors, *moments])
        kernel, *bias = reader.get_weights()
        reader.set_weights([kernel / factors[:, None], *bias])
    model.save(folder / "model.keras")
    return {}


def normalized_after(folder: Path) -> Case:
    """Normalize after ReLU, with one channel 40 times wider (as in `benchmarks/ranges.py`)."""
    import subprocess

    from benchmarks.ranges import MAKE_OUTLIER

    paths = [str(folder / "model.keras"), str(folder / "data.npz")]
    subprocess.run([sys.executable, "-c", MAKE_OUTLIER, *paths], check=True)
    return {}


def swish(folder: Path) -> Case:
    """Train a network of swish and squeeze-and-excitation blocks on Fashion-MNIST."""
    from keras import layers

    def conv(x: Any, filters: int, kernel: int, stride: int = 1, *, active: bool = True) -> Any:
        x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.Activation("swish")(x) if active else x

    def block(x: Any, filters: int, stride: int) -> Any:
        wide = conv(x, 3 * x.shape[-1], 1)
        wide = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(wide)
        wide = layers.Activation("swish")(layers.BatchNormalization(momentum=0.9)(wide))
        gate = layers.GlobalAveragePooling2D(keepdims=True)(wide)
        gate = layers.Conv2D(8, 1, activation="swish")(gate)
        gate = layers.Conv2D(wide.shape[-1], 1, activation="sigmoid")(gate)
        narrow = conv(layers.Multiply()([wide, gate]), filters, 1, active=False)
        return layers.Add()([x, narrow]) if x.shape == narrow.shape else narrow

    def body(x: Any) -> Any:
        x = conv(x, 16, 3, 2)
        for filters, stride in ((24, 1), (24, 1), (40, 2), (40, 1)):
            x = block(x, filters, stride)
        return conv(x, 96, 1)

    return _fashion(folder, body)


def residual(folder: Path) -> Case:
    """Train a ResNet-8 on Fashion-MNIST."""
    from keras import layers

    def conv(x: Any, filters: int, stride: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    def body(x: Any) -> Any:
        x = layers.ReLU()(conv(x, 16, 2))
        for filters, stride in ((16, 1), (32, 2), (64, 2)):
            inner = conv(layers.ReLU()(conv(x, filters, stride)), filters)
            if x.shape != inner.shape:
                x = layers.Conv2D(filters, 1, stride, padding="same")(x)
            x = layers.ReLU()(layers.Add()([x, inner]))
        return x

    return _fashion(folder, body)


def autoencoder(folder: Path) -> Case:
    """Rebuild windows of new engines; clips of eight windows of worn ones are the anomalies."""
    import keras
    from keras import layers

    x, y = _windows()
    engine = np.cumsum(np.r_[0, np.diff(y) > 0])
    new, worn = y >= y.max(), (y >= 40) & (y < 80)
    train = x[new & (engine < ENGINES)]
    clips = [
        (rows[start : start + CLIP], flag)
        for number in range(ENGINES, engine[-1] + 1)
        for flag, of in ((0, new), (1, worn))
        for rows in [np.flatnonzero(of & (engine == number))]
        for start in range(0, len(rows) - CLIP + 1, CLIP)
    ]
    inputs = keras.Input((train.shape[1],), name="window")
    hidden = inputs
    for units in (128, 128, 8, 128, 128):
        hidden = layers.Dense(units)(hidden)
        hidden = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(hidden))
    model = keras.Model(inputs, layers.Dense(train.shape[1], name="rebuilt")(hidden))
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    model.fit(train, train, epochs=15, batch_size=128, verbose=0)
    model.save(folder / "model.keras")
    np.savez_compressed(
        folder / "data.npz",
        x_train=train,
        x_test=np.concatenate([x[rows] for rows, _ in clips]),
        y_test=np.repeat([flag for _, flag in clips], CLIP),
        group_test=np.repeat(np.arange(len(clips)), CLIP),
    )
    return {}


def lstm(folder: Path) -> Case:
    """Tell the cycles that are left from windows, by an LSTM."""
    import keras
    from keras import layers

    arrays = _arrays("turbofan")
    inputs = keras.Input(arrays["x_train"].shape[1:], name="window")
    share = layers.Dense(1)(layers.LSTM(32)(inputs))
    model = keras.Model(inputs, layers.Rescaling(125.0, name="cycles")(share))
    model.compile(keras.optimizers.Adam(4e-3), "mse")
    model.fit(arrays["x_train"], arrays["y_train"], epochs=4, batch_size=128, verbose=0)
    model.save(folder / "model.keras")
    np.savez_compressed(folder / "data.npz", **arrays)
    return {}


def prices(folder: Path) -> Case:
    """Tell the price of a house from raw features, of which some have long tails."""
    random = np.random.default_rng(0)
    n = 8000
    area, lot = random.lognormal(4.6, 0.4, n), random.lognormal(6.2, 0.8, n)
    income, age = random.lognormal(10.6, 0.5, n), random.uniform(0, 110, n)
    rooms, distance = np.rint(area / 22 + random.normal(0, 0.7, n)), random.exponential(9, n)
    price = area * (900 + 0.03 * income) * np.exp(-0.004 * age - 0.02 * distance) + 12 * lot
    price *= random.lognormal(0, 0.03, n)
    x = np.stack([area, lot, income, age, rooms, distance], 1)
    return _tabular(folder, x, price, test=2000, epochs=40)


def diabetes(folder: Path) -> Case:
    """Tell how diabetes goes on after a year, from raw measurements (scikit-learn's data)."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(0).permutation(len(x))
    return _tabular(folder, x[order], y[order], test=142, epochs=60)


def several(folder: Path) -> Case:
    """Name one of two digits, and tell by how much it is larger: two inputs and two outputs."""
    import keras
    from keras import layers
    from sklearn.datasets import load_digits

    digits = load_digits()
    random = np.random.default_rng(0)
    order = random.permutation(len(digits.target))
    arrays: Arrays = {}
    for split, rows, n in (("train", order[:1200], 4000), ("test", order[1200:], 2000)):
        left, right = random.choice(rows, (2, n))
        for side, chosen in (("left", left), ("right", right)):
            arrays[f"x_{split}_{side}"] = (digits.images[chosen] / 16).astype(np.float32)[..., None]
        arrays[f"y_{split}_digit"] = digits.target[left]
        larger = digits.target[left] - digits.target[right]
        arrays[f"y_{split}_larger"] = larger[:, None].astype(np.float32)

    def seen(x: Any) -> Any:
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        return layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(x)

    inputs = {side: keras.Input((8, 8, 1), name=side) for side in ("left", "right")}
    sides = [layers.Flatten()(seen(inputs[side])) for side in ("left", "right")]
    both = layers.Dense(48, activation="relu")(layers.Concatenate()(sides))
    outputs = {
        "digit": layers.Dense(10, activation="softmax", name="digit")(both),
        "larger": layers.Dense(1, name="larger")(both),
    }
    model = keras.Model(inputs, outputs)
    losses = {"digit": "sparse_categorical_crossentropy", "larger": "mse"}
    model.compile(keras.optimizers.Adam(3e-3), losses)
    given = {side: arrays[f"x_train_{side}"] for side in inputs}
    model.fit(given, {name: arrays[f"y_train_{name}"] for name in outputs}, epochs=8, verbose=0)
    model.save(folder / "model.keras")
    np.savez_compressed(folder / "data.npz", **arrays)
    return {"outputs": list(outputs)}


def yolo(folder: Path) -> Case:
    """Find blood cells; boxes in pixels and scores share one output."""
    from benchmarks import verdict_tasks

    verdict_tasks.yolo_boxes(folder)
    return {}


CASES: Final[Mapping[str, Callable[[Path], Case]]] = {
    "fashion-mnist": published("fashion-mnist"),
    "spoken-digits": published("spoken-digits"),
    "uneven channels": uneven,
    "normalization after ReLU": normalized_after,
    "swish": swish,
    "residual": residual,
    "autoencoder, clips": autoencoder,
    "turbofan": published("turbofan"),
    "prices, raw features": prices,
    "diabetes, raw features": diabetes,
    "outliers in calibration": outliers,
    "8 samples": few_samples,
    "two inputs, two outputs": several,
    "U-Net": published("nuclei"),
    "detector": published("bccd"),
    "detector, one output": yolo,
    "LSTM": lstm,
}


def folder_of(name: str) -> Path:
    """Return the folder of a case."""
    return CACHE / "".join(c if c.isalnum() else "-" for c in name)


def _fashion(folder: Path, body: Callable[[Any], Any]) -> Case:
    import keras
    from keras import layers

    arrays = _arrays("fashion-mnist")
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:FASHION], arrays["y_train"][:FASHION]
    inputs = keras.Input((28, 28, 1), name="image")
    pooled = layers.GlobalAveragePooling2D()(body(inputs))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(pooled))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    for rate in (3e-3, 1e-3):
        model.optimizer.learning_rate = rate
        model.fit(arrays["x_train"], arrays["y_train"], epochs=2, batch_size=64, verbose=0)
    model.save(folder / "model.keras")
    np.savez_compressed(folder / "data.npz", **arrays)
    return {}


def _tabular(folder: Path, x: np.ndarray, y: np.ndarray, *, test: int, epochs: int) -> Case:
    """Train on raw features with a Normalization layer; the last layer gives the target's unit."""
    import keras
    from keras import layers

    x, y = x.astype(np.float32), y.astype(np.float32)
    norm = layers.Normalization()
    norm.adapt(x[test:])
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],), name="features"),
            norm,
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, name="target"),
        ]
    )
    mean, spread = y[test:].mean(), y[test:].std()
    for rate in (3e-3, 3e-4):
        model.compile(keras.optimizers.Adam(rate), "mse")
        model.fit(x[test:], (y[test:] - mean) / spread, epochs=epochs, batch_size=64, verbose=0)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * spread, bias * spread + mean])
    model.compile("adam", "mse")
    model.save(folder / "model.keras")
    np.savez_compressed(
        folder / "data.npz",
        x_train=x[test:],
        y_train=y[test:, None],
        x_test=x[:test],
        y_test=y[:test, None],
    )
    return {}


def _windows() -> tuple[np.ndarray, np.ndarray]:
    """Return the training windows of the turbofan data, `[n, values]`, and the cycles left."""
    arrays = _arrays("turbofan")
    x = arrays["x_train"]
    return x.reshape(len(x), -1), arrays["y_train"].reshape(-1)


def _arrays(name: str) -> Arrays:
    """Return the splits of a published model's data, as it was trained on them."""
    from edgekit.data import bind, open_data, split_of
    from edgekit.tflite import read, signature
    from edgekit.training import load_config
    from edgekit_runner import as_boxes

    config = load_config(REPOSITORY / "models" / name / "model.toml")
    opened = open_data(config.data, preprocessing=config.preprocessing)
    if config.data == "nuclei":  # masks are read in the size of the model's output
        file = REPOSITORY / "quantized" / name / "float32.tflite"
        opened = bind(opened, *signature(read(file.read_bytes())))
    arrays: Arrays = {}
    for split in ("train", "test"):
        samples = split_of(opened, split)
        batch = samples.read(np.arange(samples.n))
        (x,) = batch.inputs.values()
        arrays[f"x_{split}"] = np.asarray(x, np.float32)
        targets = batch.targets
        arrays[f"y_{split}"] = as_boxes(targets) if config.data == "bccd" else np.asarray(targets)
    return arrays


def main() -> None:
    """Make one case, unless it is there."""
    import keras

    name = sys.argv[1]
    folder = folder_of(name)
    making = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    (CACHE / ".gitignore").write_text("*\n")
    keras.utils.set_random_seed(0)
    case = CASES[name](making)
    (making / "case.json").write_text(json.dumps(case))
    making.rename(folder)


if __name__ == "__main__":
    main()
