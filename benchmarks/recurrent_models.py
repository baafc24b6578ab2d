"""Train small recurrent models, and convert them with the stock TFLiteConverter.

python benchmarks/recurrent_models.py FOLDER

Writes NAME.keras, NAME.npz and, with batch size 1 (with an open batch it refuses all of them),
NAME-stock-MODE.tflite.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from edgekit.data import open_data

folder = Path(sys.argv[1])
random = np.random.default_rng(0)


def turbofan() -> dict[str, np.ndarray]:
    dataset = open_data("turbofan")
    arrays = {}
    for split, most in (("train", 4000), ("test", 1000)):
        samples = getattr(dataset, split)
        rows = samples.read(np.arange(0, samples.n, max(1, samples.n // most)))
        (x,) = rows.inputs.values()
        arrays |= {f"x_{split}": x, f"y_{split}": rows.targets}
    return arrays


def waves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy sines of four frequencies, 200 steps."""
    kind = random.integers(0, 4, count)
    phase = random.uniform(0, 6, (count, 1))
    clean = np.sin(np.array([0.05, 0.09, 0.16, 0.3])[kind][:, None] * np.arange(200) + phase)
    return (clean + random.normal(0, 0.3, clean.shape))[..., None].astype(np.float32), kind


def texts(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Words 1 to 400, padded with 0: more words of the first or of the second hundred."""
    label = random.integers(0, 2, count)
    words = random.integers(1, 401, (count, 40))
    telling = random.integers(0, 100, words.shape) + 1 + 100 * label[:, None]
    words = np.where(random.random(words.shape) < 0.2, telling, words)
    words[np.arange(40) >= random.integers(10, 41, count)[:, None]] = 0
    return words.astype(np.int32), label


def splits(make: object) -> dict[str, np.ndarray]:
    train, test = make(2000), make(1000)  # type: ignore[operator]  # one of the two above
    return {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}


def cycles(x: object) -> object:
    """Remaining cycles, up to 125."""
    return layers.Rescaling(125.0, name="cycles")(layers.Dense(1, name="share")(x))


def bilstm(x: object) -> object:
    return cycles(layers.Bidirectional(layers.LSTM(32, name="lstm"), name="both_ways")(x))


def stacked(x: object) -> object:
    x = layers.LSTM(64, return_sequences=True, name="first")(x)
    return cycles(layers.LSTM(32, name="second")(x))


def masked(x: object) -> object:
    x = layers.Embedding(401, 16, mask_zero=True, name="words")(x)
    return layers.Dense(2, activation="softmax", name="kind")(layers.LSTM(32, name="lstm")(x))


def gru(x: object) -> object:
    return layers.Dense(4, activation="softmax", name="wave")(layers.GRU(32, name="gru")(x))


engines = turbofan()
MODELS = {
    "BiLSTM": (engines, bilstm, 6),
    "stacked-LSTM": (engines, stacked, 6),
    "masked-LSTM": (splits(texts), masked, 3),
    "GRU-200": (splits(waves), gru, 4),
}
for name, (arrays, build, epochs) in MODELS.items():
    keras.utils.set_random_seed(0)
    shape, dtype = arrays["x_train"].shape[1:], arrays["x_train"].dtype.name
    x = keras.Input(shape, dtype=dtype, name="x")
    model = keras.Model(x, build(x), name=name.replace("-", "_"))
    loss = "mse" if arrays is engines else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(arrays["x_train"], arrays["y_train"], epochs=epochs, batch_size=64, verbose=0)
    model.save(folder / f"{name}.keras")
    np.savez(folder / f"{name}.npz", **arrays)
    single = keras.Input(shape, batch_size=1, dtype=dtype, name="x")
    alone = keras.Model(single, build(single))
    alone.set_weights(model.get_weights())
    for mode in ("float32", "float16", "dynamic"):
        converter = tf.lite.TFLiteConverter.from_keras_model(alone)
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        (folder / f"{name}-stock-{mode}.tflite").write_bytes(converter.convert())
