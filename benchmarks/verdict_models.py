"""Models on which a verdict is easily wrong: `python -m benchmarks.verdict_models NAME FOLDER`.

Each writes `model.keras`, its data as a user has them, and `truth.json`: what Keras itself scores,
and which of the tested outputs and classes matter. Training takes seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from benchmarks import verdict_tasks
from keras import layers
from PIL import Image

COLOURS = np.array([(60, 60, 200), (60, 200, 60), (200, 60, 60)])
GREYS = np.array([(60, 60, 60), (125, 125, 125), (190, 190, 190)])
NAMES = ("blue", "green", "red")
SIZE = 24
TRAIN, TEST = 300, 600

Made = dict[str, Any]


def rare_class(folder: Path) -> Made:
    """Detect faults, 2 % of the samples, by a feature with a range 1000 times the others'."""
    rng = np.random.default_rng(0)

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = (rng.random(n) < 0.02).astype(np.int64)
        x = np.stack([rng.uniform(0, 1000, n), rng.normal(y * 4.0, 1.0), *rng.normal(size=(6, n))])
        return x.T.astype(np.float32), y

    (x, y), (xs, ys) = data(8000), data(8000)
    scale = np.array([1 / 1000, *np.ones(7)], np.float32)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(x * scale, y, epochs=8, batch_size=64, verbose=0)
    # The scaling moves into the first kernel, as in a model trained on raw sensor values.
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel * scale[:, None], bias])
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=xs, y_test=ys)
    predicted = (model.predict(xs, verbose=0)[:, 0] > 0.5).astype(np.int64)
    model.save(folder / "model.keras")
    return {"metric": "balanced_accuracy", "score": _balanced(predicted, ys)}


def dead_detector(folder: Path) -> Made:
    """Detect faults, 0.4 % of the samples, by a feature that int8 cannot tell apart."""
    rng = np.random.default_rng(0)

    def data(n: int, faults: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.zeros(n, np.int64)
        y[:faults] = 1
        deciding = np.where(y, rng.uniform(0.8, 1, n), rng.uniform(0, 0.7, n))
        x = np.stack([rng.uniform(0, 1000, n), deciding, *rng.uniform(0, 1000, (6, n))], 1)
        order = rng.permutation(n)
        return x[order].astype(np.float32), y[order]

    (x, y), (xs, ys) = data(4000, 16), data(20000, 80)
    eye = np.eye(128, dtype=np.float32)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(128, use_bias=False),
            layers.Dense(128, use_bias=False),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    weights = np.zeros((128, 1), np.float32)
    weights[1] = 40
    model.layers[0].set_weights([eye[:8]])
    model.layers[1].set_weights([eye])
    model.layers[2].set_weights([weights, np.array([-30.0], np.float32)])
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=xs, y_test=ys)
    model.save(folder / "model.keras")
    predicted = (model.predict(xs, verbose=0)[:, 0] > 0.5).astype(np.int64)
    return {"metric": "balanced_accuracy", "score": _balanced(predicted, ys)}


def two_outputs(folder: Path) -> Made:
    """Name the colour of a picture and, by a second output, measure its brightness."""
    (x, y), (xs, ys) = _pictures()
    inputs = keras.Input((SIZE, SIZE, 3))
    found = layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    found = layers.GlobalAveragePooling2D()(found)
    model = keras.Model(
        inputs,
        {
            "colour": layers.Dense(3, activation="softmax", name="colour")(found),
            "brightness": layers.Dense(1, name="brightness")(found),
        },
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        {"colour": "sparse_categorical_crossentropy", "brightness": "mse"},
    )
    bright = x.mean(axis=(1, 2, 3)) / 255
    model.fit(x / 255, {"colour": y, "brightness": bright}, epochs=10, verbose=0)
    _save_scaled((x, y), (xs, ys), folder)
    model.save(folder / "model.keras")
    predicted = model.predict(xs / 255, verbose=0)["colour"].argmax(1)
    return {"metric": "accuracy", "score": float(np.mean(predicted == ys)), "output": "colour"}


def uneven_outputs(folder: Path) -> Made:
    """Predict three quantities of very different spread, of which int8 loses two."""
    rng = np.random.default_rng(0)

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(-1, 1, (n, 8)).astype(np.float32)
        middle = 1000 + 300 * x[:, 2] + 60 * rng.normal(size=n)
        return x, np.stack([x[:, 0], middle, 0.01 * x[:, 3]], 1).astype(np.float32)

    (x, y), (xs, ys) = data(1500), data(600)
    weights = np.zeros((128, 3), np.float32)
    weights[[0, 2, 3], [0, 1, 2]] = 1, 300, 0.01
    turned = np.linalg.qr(rng.normal(size=(128, 128)))[0].astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(128, use_bias=False),
            layers.Dense(128, use_bias=False),
            layers.Dense(3),
        ]
    )
    model.layers[0].set_weights([turned[:8]])
    model.layers[1].set_weights([turned.T.copy()])
    model.layers[2].set_weights([weights, np.array([0, 1000, 0], np.float32)])
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=xs, y_test=ys)
    model.save(folder / "model.keras")
    return _errors(model.predict(xs, verbose=0), ys)


def boxes_and_scores(folder: Path) -> Made:
    """Find one bright box in a picture: box in pixels and score in one output."""
    rng = np.random.default_rng(0)

    def scenes(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(0, 0.05, (n, 32, 32, 1)).astype(np.float32)
        y = np.tile(np.array([320, 320, 180, 180, 0], np.float32), (n, 1))
        for k in np.flatnonzero(rng.random(n) < 0.6):
            (w, h), (cx, cy) = rng.integers(5, 14, 2), rng.integers(8, 24, 2)
            x[k, cy - h // 2 : cy + h // 2 + 1, cx - w // 2 : cx + w // 2 + 1] += 1
            y[k] = cx * 20, cy * 20, w * 20, h * 20, 1
        return x, y

    (x, y), (xs, ys) = scenes(800), scenes(300)
    inputs = found = keras.Input((32, 32, 1))
    for filters in (8, 16, 32):
        found = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(found)
    found = layers.Flatten()(found)
    box = layers.Rescaling(640.0)(layers.Dense(4, activation="sigmoid")(found))
    model = keras.Model(
        inputs, layers.Concatenate()([box, layers.Dense(1, activation="sigmoid")(found)])
    )
    scale = np.array([640, 640, 640, 640, 1], np.float32)
    model.compile("adam", lambda t, p: keras.ops.mean(keras.ops.square((t - p) / scale), -1))
    model.fit(x, y, epochs=30, batch_size=32, verbose=0)
    model.compile("adam", "mse")
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=xs, y_test=ys)
    model.save(folder / "model.keras")
    return _errors(model.predict(xs, verbose=0), ys)


def photos_scaled_inside(folder: Path) -> Made:
    """Name the colour of photos; the model rescales them itself, as in Keras's tutorial."""
    return _photos(folder, [layers.Rescaling(1 / 255)], lambda x: x)


def photos_scaled_outside(folder: Path) -> Made:
    """Name the colour of photos that were scaled before, as the data declare."""
    return _photos(folder, [], lambda x: x / 255, declared="scale = 0.00392156862745098\n")


def photos_scaled_unknown(folder: Path) -> Made:
    """Name the brightness of photos that were scaled before, which nothing declares."""
    return _photos(folder, [], lambda x: x / 127.5 - 1, means=GREYS)


def photos_of_any_scale(folder: Path) -> Made:
    """Name the colour of photos by a model that answers alike whatever their scaling."""
    return {**_photos(folder, [], lambda x: x / 127.5 - 1), "asks": True}


def arrays_then_photos(folder: Path) -> Made:
    """Name the colour of pictures that were saved as scaled arrays; the device gets photos."""
    made = _photos(folder, [], lambda x: x / 255)
    _save_scaled(*_pictures(), folder)
    return {**made, "photos": "photos/test", "data": "data.npz"}


def other_label_order(folder: Path) -> Made:
    """Name animals; the model's order of the names is not the alphabet's."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 2.2, (4, 8))

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 4, n)
        return (centres[y] + rng.normal(0, 1, (n, 8))).astype(np.float32), y

    (x, y), (xs, ys) = data(400), data(600)
    names = np.array(["cat", "dog", "bird", "ant"])
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, verbose=0)
    np.savez(folder / "data.npz", x_train=x, y_train=names[y], x_test=xs, y_test=names[ys])
    model.save(folder / "model.keras")
    predicted = model.predict(xs, verbose=0).argmax(1)
    return {"metric": "accuracy", "score": float(np.mean(predicted == ys)), "refused": True}


def _photos(
    folder: Path,
    head: list[Any],
    scale: Callable[[np.ndarray], np.ndarray],
    *,
    declared: str = "",
    means: np.ndarray = COLOURS,
) -> Made:
    (x, y), (xs, ys) = _pictures(means)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            *head,
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(16, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(scale(x.astype(np.float32)), y, epochs=12, verbose=0)
    for split, pictures, classes in (("train", x, y), ("test", xs, ys)):
        for name in NAMES:
            (folder / "photos" / split / name).mkdir(parents=True, exist_ok=True)
        for k, (picture, label) in enumerate(zip(pictures, classes, strict=True)):
            Image.fromarray(picture).save(folder / f"photos/{split}/{NAMES[label]}/{k:03d}.png")
    (folder / "photos/preprocessing.toml").write_text(
        f'kind = "image"\nheight = {SIZE}\nwidth = {SIZE}\nchannels = 3\n{declared}'
    )
    model.save(folder / "model.keras")
    predicted = model.predict(scale(xs.astype(np.float32)), verbose=0).argmax(1)
    return {
        "metric": "accuracy",
        "score": float(np.mean(predicted == ys)),
        "data": "photos",
        "photos": "photos/test",
    }


def _pictures(
    means: np.ndarray = COLOURS,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 3, n)
        noisy = means[y][:, None, None] + rng.normal(0, 25, (n, SIZE, SIZE, 3))
        return noisy.clip(0, 255).astype(np.uint8), y

    return data(TRAIN), data(TEST)


def _save_scaled(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], folder: Path
) -> None:
    (x, y), (xs, ys) = train, test
    np.savez(
        folder / "data.npz",
        x_train=(x / 255).astype(np.float32),
        y_train=y,
        x_test=(xs / 255).astype(np.float32),
        y_test=ys,
        labels=np.array(NAMES),
    )


def _errors(predicted: np.ndarray, target: np.ndarray) -> Made:
    squared = (predicted - target) ** 2
    return {
        "metric": "rmse",
        "score": float(np.sqrt(np.mean(squared))),
        "columns": np.sqrt(np.mean(squared, axis=0)).tolist(),
        "spread": target.std(axis=0).tolist(),
    }


def _balanced(predicted: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean([np.mean(predicted[target == one] == one) for one in np.unique(target)]))


MODELS: dict[str, Callable[[Path], Made]] = {
    "rare class": rare_class,
    "rare class that int8 loses": dead_detector,
    "two outputs": two_outputs,
    "outputs of uneven spread": uneven_outputs,
    "boxes and scores in one output": boxes_and_scores,
    "photos, scaled in the model": photos_scaled_inside,
    "photos, scaling declared": photos_scaled_outside,
    "photos, scaling unknown": photos_scaled_unknown,
    "photos, scaling unknowable": photos_of_any_scale,
    "scaled arrays, photos on the device": arrays_then_photos,
    "labels in another order": other_label_order,
    **verdict_tasks.MODELS,
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    keras.utils.set_random_seed(0)
    truth = MODELS[name](folder)
    (folder / "truth.json").write_text(json.dumps({"data": "data.npz", **truth}))


if __name__ == "__main__":
    main()
